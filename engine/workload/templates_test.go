package workload_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/engine/workload"
)

// TestDivided: of each kind that can be divided it is known where its replicas are, and of a kind of one's own where count reads one
// field, or the file says it.
func TestDivided(t *testing.T) {
	var got []string
	for _, d := range workload.Kinds().All() {
		if divided := d.Divided(); len(divided) > 0 {
			got = append(got, d.GroupKind().String()+" "+strings.Join(divided, " "))
		}
	}
	want := []string{
		"ReplicationController spec.replicas", "Deployment.apps spec.replicas", "ReplicaSet.apps spec.replicas", "StatefulSet.apps spec.replicas",
		"Job.batch spec.parallelism spec.completions", "CronJob.batch spec.jobTemplate.spec.parallelism spec.jobTemplate.spec.completions",
		"Rollout.argoproj.io spec.replicas",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, test := range []struct{ podSet, want string }{
		{`{template: spec.template, count: "object.spec.?size.orValue(1)"}`, "spec.size"},
		{`{template: spec.template, count: object.spec.a + object.spec.b}`, ""},
		{`{template: spec.template, count: object.spec.a + object.spec.b, divided: [spec.a]}`, "spec.a"},
		{`{template: spec.template}`, ""},
		{`{each: spec.pools, template: template, count: each.size}`, ""},
	} {
		kinds, err := workload.ParseKinds("k", []byte("kinds: [{group: a.b, kind: Farm, resource: farms, versions: [v1], podSets: ["+test.podSet+"]}]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(kinds.All()[0].Divided(), " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.podSet, got, test.want)
		}
	}
}
