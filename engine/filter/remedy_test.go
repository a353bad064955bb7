package filter_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// remedied are constraints whose remedies people can follow by their words. Some of them contradict each other.
var remedied = []string{
	`capacity.free.cpu * 2 >= capacity.allocatable.cpu`,
	`capacity.free.cpu >= 2 * workload.requests.cpu`,
	`capacity.free.memory > 3 * workload.requests.memory || cluster.location == "eu"`,
	`capacity.free.cpu - workload.requests.cpu > capacity.allocatable.cpu / 4`,
	`capacity.utilization.cpu < 50 && capacity.free.memory >= quantity("1Gi")`,
	`capacity.allocatable.cpu >= 20000`,
	`capacity.allocatable.cpu < capacity.free.cpu + 3000`,
	`cluster.labels.?tier.orValue("none") == "gold"`,
	`cluster.labels.?tier.orValue("none") != "gold" || capacity.free.cpu > 9000`,
	`cluster.location in ["eu", "us"]`,
	`cluster.location != "eu"`,
	`!("zone" in cluster.labels)`,
}

// TestRemediesAdmit: whoever does what a remedy says, for each obstacle, has the cluster admitted. Where the conditions
// contradict each other, that is said.
func TestRemediesAdmit(t *testing.T) {
	compiler, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		expressions := rapid.SliceOfNDistinct(rapid.SampledFrom(remedied), 1, 3, rapid.ID).Draw(t, "constraints")
		var spec v1alpha1.WorkloadPlacementSpec
		for i, e := range expressions {
			spec.Constraints = append(spec.Constraints, v1alpha1.Constraint{Name: fmt.Sprint("c", i), Expression: e})
		}
		if rapid.Bool().Draw(t, "selects by location") {
			spec.LocationSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"location": "us"}}
		}
		p, err := placement.Compile(&v1alpha1.WorkloadPlacement{Spec: spec}, compiler, anyStrategy)
		if err != nil {
			t.Fatal(err)
		}
		amount := rapid.Int64Range(0, 20)
		requests := capacity.Resources{CPU: 500 * amount.Draw(t, "cpu asked"), Memory: amount.Draw(t, "memory asked") << 29}
		class := filter.NewClass(p, &policy.Judgement{}, &workload.Workload{
			Replicas: 1, Requests: requests, Pod: requests,
		}, &filter.Facts{})
		cluster := &snapshot.Cluster{
			Name: "a", Location: rapid.SampledFrom([]string{"eu", "us", "ap"}).Draw(t, "location"), Labels: map[string]string{},
			Allocatable: capacity.Resources{CPU: 1000 * amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory") << 30},
			Allocated:   capacity.Resources{CPU: 999 * amount.Draw(t, "cpu in use"), Memory: amount.Draw(t, "memory in use") << 29},
			Conditions:  []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: rapid.SampledFrom([]string{"True", "False"}).Draw(t, "ready")}},
		}
		for _, key := range []string{"tier", "zone"} {
			if value := rapid.SampledFrom([]string{"", "gold", "iron"}).Draw(t, key); value != "" {
				cluster.Labels[key] = value
			}
		}
		if rapid.Bool().Draw(t, "reports its largest node") {
			cluster.LargestFree = &capacity.Resources{CPU: 300 * amount.Draw(t, "cpu on a node"), Memory: amount.Draw(t, "memory on a node") << 28}
		}
		reserved := capacity.Resources{CPU: 100 * amount.Draw(t, "cpu reserved")}
		remedies := filter.Remedies(class.Obstacles(snapshot.NewRow(cluster, reserved), time.Time{}))
		if slices.ContainsFunc(remedies, func(r string) bool { return strings.Contains(r, "no change of the cluster") }) {
			return // TestContradictions
		}
		before := *cluster
		changed := follow(t, cluster, reserved, remedies)
		if v := class.First(changed, false, time.Time{}); v != nil {
			t.Fatalf("%+v, %d reserved: after %q it is still rejected: %+v", before, reserved.CPU, remedies, class.Reject(changed, v))
		}
	})
}

// follow does what remedies say, by their words.
func follow(t *rapid.T, before *snapshot.Cluster, reserved capacity.Resources, remedies []string) *snapshot.Row {
	c := *before
	c.Labels = maps.Clone(c.Labels)
	for _, all := range remedies {
		ways := strings.Split(all, " or ")
		way := ways[rapid.IntRange(0, len(ways)-1).Draw(t, "way")]
		for one := range strings.SplitSeq(way, " and ") {
			words := strings.Fields(one)
			switch {
			case one == "Ready to be True":
				c.Conditions = []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}}
			case strings.HasPrefix(one, "location one of "):
				c.Location = strings.TrimSuffix(words[len(words)-1], ",")
			case strings.HasPrefix(one, "location other than "):
				c.Location = "ap"
			case words[0] == "location":
				c.Location = words[1]
			case strings.HasPrefix(one, "location="):
				c.Location = one[len("location="):]
			case strings.HasPrefix(one, "no label "):
				delete(c.Labels, words[2])
			case strings.HasPrefix(one, "label tier other than "):
				c.Labels["tier"] = "tin"
			case words[0] == "label":
				key, value, _ := strings.Cut(words[1], "=")
				c.Labels[key] = value
			case strings.Contains(one, "utilization below"):
				c.Allocated.CPU = min(c.Allocated.CPU, c.Allocatable.CPU*49/100-reserved.CPU)
			case len(words) >= 4 && words[1] == "more":
				q := resource.MustParse(words[0])
				more := capacity.Of(words[2], q.Value())
				if words[2] == capacity.CPU {
					more = capacity.Of(words[2], q.MilliValue())
				}
				switch strings.Join(words[3:], " ") {
				case "allocatable":
					c.Allocatable = c.Allocatable.Add(more)
				case "free":
					c.Allocated = c.Allocated.Sub(more)
				case "free on one node":
					largest := c.LargestFree.Add(more)
					c.LargestFree = &largest
				default:
					t.Fatalf("nobody knows how to follow %q", one)
				}
			default:
				t.Fatalf("nobody knows how to follow %q", one)
			}
		}
	}
	return snapshot.NewRow(&c, reserved)
}

// TestContradictions: where one condition asks for what another excludes, nobody is sent in circles.
func TestContradictions(t *testing.T) {
	compiler, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ a, b, want string }{
		{`cluster.location == "eu"`, `cluster.location == "us"`, "another placement or policy: no change of the cluster meets all that they ask for; location us"},
		{`cluster.location == "eu" || cluster.labels.?tier.orValue("") == "gold"`, `cluster.location == "us"`, "label tier=gold; location us"},
		{`capacity.free.cpu > 8000`, `capacity.free.cpu > 9000`, "9001m more cpu free"},
		{`capacity.free.cpu > 8000`, `capacity.allocatable.cpu > 9000`, "8001m more cpu free; 9001m more cpu allocatable"},
	} {
		p, err := placement.Compile(&v1alpha1.WorkloadPlacement{Spec: v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{
			{Name: "a", Expression: test.a}, {Name: "b", Expression: test.b},
		}}}, compiler, anyStrategy)
		if err != nil {
			t.Fatal(err)
		}
		class := filter.NewClass(p, &policy.Judgement{}, &workload.Workload{Replicas: 1}, &filter.Facts{})
		row := snapshot.NewRow(&snapshot.Cluster{
			Name: "a", Location: "ap", Conditions: []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		}, capacity.Resources{})
		if got := strings.Join(filter.Remedies(class.Obstacles(row, time.Time{})), "; "); got != test.want {
			t.Errorf("%s, %s: %s, want %s", test.a, test.b, got, test.want)
		}
	}
}
