package lint_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// given is a random workspace: a fleet, workloads and a placement.
type given struct {
	clusters  []*snapshot.Cluster
	workloads []*workload.Workload
	placement *v1alpha1.WorkloadPlacement
}

// Few names, so that some are there and some are not, and some of these are near those that are.
var (
	names     = rapid.SampledFrom([]string{"paris", "pariss", "eu-west-1", "eu-west-2", "x"})
	keys      = rapid.SampledFrom([]string{"tier", "teir", "app"})
	kinds     = rapid.SampledFrom([]string{"Deployment", "Job", "Deploymnet", "job"})
	resources = rapid.SampledFrom([]string{"cpu", "memory", "nvidia.com/gpu", "nvidia.com/gpus", "example.com/x"})
	amounts   = rapid.SampledFrom([]int64{0, 1, 2, 64, 100, 101, 4000, 1 << 20, 1 << 36})
)

func labels(t *rapid.T) map[string]string { return rapid.MapOfN(keys, names, 0, 3).Draw(t, "labels") }

func someResources(t *rapid.T) capacity.Resources {
	r := capacity.Resources{CPU: amounts.Draw(t, "cpu"), Memory: amounts.Draw(t, "memory")}
	if rapid.Bool().Draw(t, "extended") {
		r.Extended = map[string]int64{resources.Filter(func(name string) bool { return strings.Contains(name, "/") }).Draw(t, "resource"): amounts.Draw(t, "amount")}
	}
	return r
}

func drawn(t *rapid.T) *given {
	g := &given{placement: &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: names.Draw(t, "placement"), Labels: labels(t)}}}
	if rapid.IntRange(0, 4).Draw(t, "selects") == 4 {
		g.placement.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: rapid.MapOfN(keys, names, 0, 1).Draw(t, "selector")}
	}
	for range rapid.IntRange(0, 3).Draw(t, "clusters") {
		c := &snapshot.Cluster{Name: names.Draw(t, "name"), Location: names.Draw(t, "location"), Labels: labels(t), Allocatable: someResources(t), Allocated: someResources(t)}
		if rapid.Bool().Draw(t, "capable") {
			c.Capabilities = []snapshot.Capability{{Type: names.Draw(t, "type"), Available: rapid.Bool().Draw(t, "available"), Attributes: labels(t)}}
			c.Taints = []corev1.Taint{{Key: keys.Draw(t, "taint"), Effect: corev1.TaintEffectNoSchedule}}
			c.Conditions = []snapshot.Condition{{Type: "Ready", Status: "True"}}
		}
		g.clusters = append(g.clusters, c)
	}
	for range rapid.IntRange(0, 3).Draw(t, "workloads") {
		g.workloads = append(g.workloads, &workload.Workload{
			Reference: workload.Reference{APIVersion: "apps/v1", Kind: rapid.SampledFrom([]string{"Deployment", "Job"}).Draw(t, "kind"), Namespace: rapid.SampledFrom([]string{"shop", "shop", "shop", "other"}).Draw(t, "namespace"), Name: names.Draw(t, "name")},
			Labels:    labels(t), Annotations: labels(t), Replicas: rapid.Int64Range(0, 3).Draw(t, "replicas"), Requests: someResources(t),
		})
	}
	return g
}

// find returns what is found in a constraint, and whether it holds for any of the clusters, as full as they can be, and any of the
// workloads that the placement selects; where there are none of these, for one that asks for nothing.
func (g *given) find(t *rapid.T, c *constraint.Compiler, expression string) (found []lint.Finding, holds bool) {
	program, err := c.Compile(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	g.placement.Spec.Constraints = []v1alpha1.Constraint{{Name: "c", Expression: expression}}
	w := lint.Workspace{Fleet: lint.NewFleet(g.clusters), Constraints: c, Kinds: workload.Kinds(), Workloads: g.workloads}
	found = w.Placement(g.placement)
	selecting := labelsOf(g.placement.Spec.WorkloadSelector.LabelSelector)
	for _, o := range g.workloads {
		if o.Namespace != "shop" || !selecting(o.Labels) {
			continue
		}
		for _, cluster := range g.clusters {
			for _, reserved := range []capacity.Resources{{}, {CPU: 4000, Memory: 1 << 36}, someResources(t)} {
				ok, _ := program.Eval(&constraint.Variables{
					Row: snapshot.NewRow(cluster, reserved), Workload: o,
					Placement: workload.Placement{Name: g.placement.Name, Namespace: "shop", Labels: g.placement.Labels},
				})
				holds = holds || ok
			}
		}
	}
	return found, holds
}

func labelsOf(s *metav1.LabelSelector) func(map[string]string) bool {
	return func(labels map[string]string) bool {
		if s == nil {
			return true
		}
		for key, value := range s.MatchLabels {
			if found, exists := labels[key]; !exists || found != value {
				return false
			}
		}
		return true
	}
}

// field draws a text that an expression can read, which may be missing.
func fieldOf(t *rapid.T) string {
	field := rapid.SampledFrom([]string{
		"cluster.name", "cluster.location", "cluster.labels[%q]", "cluster.labels[?%q].orValue('')", "workload.kind", "workload.name", "workload.namespace",
		"workload.labels[%q]", "workload.labels[?%q].orValue('')", "workload.annotations[?%q].orValue('')", "placement.name", "placement.namespace", "placement.labels[%q]",
	}).Draw(t, "field")
	if strings.Contains(field, "%q") {
		field = fmt.Sprintf(field, keys.Draw(t, "key"))
	}
	return field
}

func literal(t *rapid.T) string {
	name := rapid.OneOf(names, names, names, kinds, rapid.Just("shop")).Draw(t, "literal")
	return rapid.SampledFrom([]string{name, name, name[:(len(name)+1)/2], name[len(name)/2:]}).Draw(t, "part")
}

// positive draws a comparison that asks for a value, with the forms that exclude it.
func positive(t *rapid.T) (asks string, excludes []string) {
	field, text := fieldOf(t), literal(t)
	switch format := rapid.SampledFrom([]string{"%s == %q", "%q == %s", "%s in [%q]", "%s.startsWith(%q)", "%s.endsWith(%q)", "%s.contains(%q)", "%s.matches(%q)",
		"cluster.capabilities.exists(c, c.type == %q)", "cluster.capabilities.exists(c, c.attributes[?%q].orValue('') == %q)"}).Draw(t, "format"); {
	case format == "%q == %s":
		return fmt.Sprintf(format, text, field), []string{fmt.Sprintf("%q != %s", text, field)}
	case strings.Count(format, "%") == 2 && !strings.Contains(format, "%s"):
		asks = fmt.Sprintf(format, keys.Draw(t, "key"), text)
	case !strings.Contains(format, "%s"):
		asks = fmt.Sprintf(format, text)
	default:
		asks = fmt.Sprintf(format, field, text)
	}
	return asks, []string{"!(" + asks + ")", "(" + asks + ") == false", "(" + asks + " ? false : true)"}
}

// condition draws a constraint.
func condition(t *rapid.T, depth int) string {
	if depth == 0 {
		return atom(t)
	}
	a, b := condition(t, depth-1), condition(t, depth-1)
	switch rapid.IntRange(0, 4).Draw(t, "join") {
	case 0:
		return "(" + a + ") || (" + b + ")"
	case 1:
		return "!(" + a + ")"
	case 2:
		return "(" + a + ") ? (" + b + ") : true"
	default:
		return "(" + a + ") && (" + b + ")"
	}
}

func atom(t *rapid.T) string {
	relation := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "relation")
	switch rapid.IntRange(0, 5).Draw(t, "atom") {
	case 0:
		amount := rapid.SampledFrom([]string{"capacity.free[%q]", "workload.requests[?%q].orValue(1)", "capacity.utilization[%q]", "workload.requests[%q]", "capacity.allocatable[%q]"}).Draw(t, "amount")
		return fmt.Sprintf(amount+" %s %d", resources.Draw(t, "resource"), relation, amounts.Draw(t, "number"))
	case 1:
		return fmt.Sprintf("%s %s %d", rapid.SampledFrom([]string{"capacity.healthScore", "capacity.performanceScore", "workload.replicas"}).Draw(t, "score"), relation, amounts.Draw(t, "number"))
	case 2:
		return rapid.SampledFrom([]string{"cluster.taints.exists(t, t.effect == 'NoSchedule')", "cluster.capabilities.exists(c, c.available)", "cluster.conditions.all(c, c.status == 'True')"}).Draw(t, "state")
	case 3:
		return fieldOf(t) + " == " + fieldOf(t)
	default:
		asks, excludes := positive(t)
		return rapid.SampledFrom(append(excludes, asks, asks)).Draw(t, "polarity")
	}
}

// perWorld is how many constraints are asked about one world.
const perWorld = 10

// TestNever: a constraint of which is said that it never holds holds for none of the objects that are given.
func TestNever(t *testing.T) {
	c, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	never := []string{"never_holds", "never_true"}
	rapid.Check(t, func(t *rapid.T) {
		g := drawn(t)
		for range perWorld {
			expression := condition(t, rapid.IntRange(0, 2).Draw(t, "depth"))
			found, holds := g.find(t, c, expression)
			for _, f := range found {
				if holds && slices.Contains(never, f.Code) && strings.Contains(f.Message, "hold") {
					t.Fatalf("%s holds, and the finding is: %s", expression, f.Message)
				}
			}
		}
	})
}

// TestNobodyHas: what is said of a value that is looked for, that none has it, is true: looking for nothing but this value finds none,
// whether the constraint asks for it or excludes it.
func TestNobodyHas(t *testing.T) {
	c, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		g := drawn(t)
		for range perWorld {
			asks, excludes := positive(t)
			_, holds := g.find(t, c, asks)
			for _, expression := range append(excludes, asks) {
				found, _ := g.find(t, c, expression)
				for _, f := range found {
					if holds && f.Code == "unknown_value" {
						t.Fatalf("%s holds, and the finding in %s is: %s", asks, expression, f.Message)
					}
				}
			}
		}
	})
}
