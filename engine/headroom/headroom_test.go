package headroom_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/headroom"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestSize: a workload is as large as the resource is scarce that it asks most of.
func TestSize(t *testing.T) {
	rest := capacity.Resources{CPU: 4000, Memory: 100}
	for _, test := range []struct {
		requests capacity.Resources
		want     float64
	}{
		{capacity.Resources{}, 0},
		{capacity.Resources{CPU: 1000, Memory: 50}, 0.5},
		{capacity.Resources{CPU: 8000, Memory: 50}, 2},
		{capacity.Resources{CPU: 1000, Storage: 1}, math.Inf(1)},
		{capacity.Resources{Extended: map[string]int64{"nvidia.com/gpu": 0}}, 0},
	} {
		if got := headroom.Size(test.requests, rest); got != test.want {
			t.Errorf("%v: got %g, want %g", test.requests, got, test.want)
		}
	}
}

// TestDomains: what is lost already is in no domain, and has nothing for others. What has no value is in no domain either.
func TestDomains(t *testing.T) {
	var fleet snapshot.Fleet
	for _, c := range []snapshot.Cluster{
		{Name: "a", Location: "eu"}, {Name: "b", Location: "us"}, {Name: "c", Location: "eu"}, {Name: "none"},
		{Name: "gone", Location: "eu", Conditions: []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "False", Reason: v1alpha1.ClusterLostReason}}},
	} {
		c.Allocatable.CPU = 1000
		fleet.Set(&c, capacity.Resources{})
	}
	all := fleet.Snapshot()
	rows := all.Rows()
	got := headroom.Domains(rows, "location")
	if len(got) != 2 || got[0].Name != "eu" || len(got[0].Clusters) != 2 || got[1].Name != "us" || len(got[1].Clusters) != 1 {
		t.Errorf("%+v", got)
	}
	if (&headroom.Outlook{}).Describe("zone") != "No cluster has zone, so that there is no domain to lose." || len(headroom.Domains(rows, "zone")) > 0 {
		t.Error("there are domains of a key that no cluster has")
	}
	if rest := headroom.Rest(rows, got[0].Clusters...); rest.CPU != 2000 {
		t.Errorf("%v", rest)
	}
}

// TestOutlook: the worst loss is one of those with most that wait, and the others that hurt are counted.
func TestOutlook(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var o headroom.Outlook
		most, hurt := 0, 0
		for _, waiting := range rapid.SliceOf(rapid.IntRange(0, 3)).Draw(r, "waiting") {
			o.Domains++
			o.Add(headroom.Loss{Domain: "d", Affected: 3, Waiting: waiting})
			if most = max(most, waiting); waiting > 0 {
				hurt++
			}
		}
		if o.Worst.Waiting != most || o.Survives() != (hurt == 0) || o.Others != max(0, hurt-1) {
			r.Errorf("%+v: %d wait at most, %d hurt", o, most, hurt)
		}
	})
}
