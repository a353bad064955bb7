package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestQueue: a waiting workload has blockers, the objects that keep it waiting, and a suggested cluster that would have a place for
// it. Once that is registered as suggested, the workload is placed.
func TestQueue(t *testing.T) {
	for _, test := range []struct {
		name, spec, blockers, suggests string
		replicas                       int64
	}{
		{"a cluster is full", "", "ClusterRegistration small status.allocatable", "cpu 8", 1},
		{"no location has it", "locationSelector: {matchExpressions: [{key: location, operator: In, values: [mars]}]}",
			"WorkloadPlacement p spec.locationSelector, ClusterRegistration small status.allocatable", "mars cpu 8", 1},
		{"a label and a capability are asked for", "clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}\ncapabilityRequirements: [{type: gpu, required: true}]",
			"WorkloadPlacement p spec.clusterSelector, ClusterRegistration small spec.capabilities, ClusterRegistration small status.allocatable", "tier=gold gpu cpu 8", 1},
		{"a constraint asks for twice the room", "constraints: [{name: spacious, expression: 'capacity.free.cpu >= 2 * workload.requests.cpu'}]",
			"WorkloadPlacement p spec.constraints[spacious], ClusterRegistration small status.allocatable", "cpu 16", 1},
		{"a constraint asks for what clusters have", "constraints: [{name: eu, expression: 'cluster.location == \"eu\"'}]", "ClusterRegistration small status.allocatable", "eu cpu 8", 1},
		{"only names count", "clusterSelector: {clusterNames: [small, large]}", "ClusterRegistration small status.allocatable", "large cpu 8", 1},
		{"all names are there", "clusterSelector: {clusterNames: [small]}", "ClusterRegistration small status.allocatable", "none", 1},
		{"nothing can be", "constraints: [{name: never, expression: 'cluster.name == \"x\" && workload.replicas > 100'}]",
			"WorkloadPlacement p spec.constraints[never], WorkloadPlacement p spec.constraints[never], ClusterRegistration small status.allocatable", "none", 1},
		{"two clusters in two locations", "minClusters: 2\nspreadConstraints: [{topologyKey: location, maxSkew: 1}]", "ClusterRegistration small status.allocatable", "none", 1},
		{"replicas wait", "replicaScheduling: {type: Divided, partial: true}", "WorkloadPlacement p there is room for 1 of 2 replicas", "cpu 4", 2},
		{"another workload is near", "workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: db}}}]",
			"ClusterRegistration small status.allocatable, Deployment db", "none", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, e := context.Background(), newEngine(t, engine.Options{})
			e.SetCluster(ws, cluster("small", 4000))
			var spec v1alpha1.WorkloadPlacementSpec
			if err := yaml.UnmarshalStrict([]byte(test.spec), &spec); err != nil {
				t.Fatal(err)
			}
			p, err := e.CompilePlacement(&v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: spec})
			if err != nil {
				t.Fatal(err)
			}
			w, db := workloadOf("w", 8000), workloadOf("db", 1)
			w.Replicas, w.Divisible, db.Labels = test.replicas, true, map[string]string{"app": "db"}
			request := engine.Request{Workspace: ws, Placement: p, Workload: w}
			e.SetAffinity(ws, []*placement.Placement{p}, pairs([]*workload.Workload{w, db}, []*placement.Placement{p, nil}))
			d, err := e.Decide(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			request.Current = d.Clusters
			var blockers []string
			for _, b := range d.Blockers() {
				what := b.Field
				if b.Kind == "WorkloadPlacement" && what == "" {
					what = b.Message
				}
				if b.Message == "" {
					t.Errorf("%+v says nothing", b)
				}
				blockers = append(blockers, strings.TrimSpace(fmt.Sprintf("%s %s %s", b.Kind, b.Name, what)))
			}
			if got := strings.Join(blockers, ", "); got != test.blockers {
				t.Errorf("blocked by %s, want %s", got, test.blockers)
			}
			before := e.Revision(ws)
			s, err := e.Suggest(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			if e.Revision(ws) != before {
				t.Error("asking has changed something")
			}
			if got := suggestionText(s); got != test.suggests {
				t.Errorf("suggests %s, want %s", got, test.suggests)
			}
			if s == nil {
				return
			}
			c := cluster("new", 0, func(c *snapshot.Cluster) { c.Location, c.Labels, c.Taints = s.Location, s.Labels, s.Taints })
			if s.Name != "" {
				c.Name = s.Name
			}
			c.Allocatable, _ = capacity.FromResourceList(s.Allocatable)
			for _, one := range s.Capabilities {
				c.Capabilities = append(c.Capabilities, snapshot.Capability{Type: one.Type, Available: one.Available, Attributes: one.Attributes})
			}
			e.SetCluster(ws, c)
			if d, err = e.Decide(ctx, request); err != nil || !strings.Contains(names(d), c.Name) || d.Waiting > 0 {
				t.Errorf("once it is registered, the workload is on %q, %d replicas wait: %v", names(d), d.Waiting, err)
			}
		})
	}
}

func suggestionText(s *v1alpha1.SuggestedRegistration) string {
	if s == nil {
		return "none"
	}
	words := []string{s.Name, s.Location}
	for key, value := range s.Labels {
		words = append(words, key+"="+value)
	}
	for _, c := range s.Capabilities {
		words = append(words, c.Type)
	}
	cpu := s.Allocatable[corev1.ResourceCPU]
	return strings.Join(strings.Fields(strings.Join(append(words, "cpu", cpu.String()), " ")), " ")
}

// TestSuggestWithinQuotas: no cluster is suggested if a quota is in the way: a new one would not help.
func TestSuggestWithinQuotas(t *testing.T) {
	silver := engine.Grant{Set: "silver", Clusters: []string{"b"}}
	for _, test := range []struct {
		why      string
		grants   []engine.Grant
		suggests string
	}{
		{"nothing bounds it", []engine.Grant{gold("a", 0, 0)}, "cpu 8"},
		{"the quota leaves what it asks for", []engine.Grant{gold("a", 10000, 8000)}, "cpu 8"},
		{"others have too much of the quota", []engine.Grant{gold("a", 9000, 0)}, "none"},
		{"it is larger than the quota on any cluster", []engine.Grant{gold("a", 0, 7000)}, "none"},
		{"no more may be borrowed", []engine.Grant{borrowing(gold("a", 0, 0), 5000)}, "none"},
		{"the cluster might join a set whose quota is used up", []engine.Grant{gold("a", 9000, 0), silver}, "none"},
		{"there is no grant any more", nil, "none"},
	} {
		t.Run(test.why, func(t *testing.T) {
			s := newShared(t, cluster("a", 4000), cluster("b", 1000))
			s.grant("red", gold("a", 0, 0))
			s.decide("red", "has", 2000)
			s.grant("red", test.grants...)
			found, err := s.Suggest(t.Context(), s.request("red", "large", 8000))
			if err != nil {
				t.Fatal(err)
			}
			if got := suggestionText(found); got != test.suggests {
				t.Errorf("suggests %s, want %s", got, test.suggests)
			}
		})
	}
}
