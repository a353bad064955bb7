package engine_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// TestRoomIsExact: a team can have exactly what Room reports as free for it on a cluster, and not a millicore more, whatever its
// quotas, and whatever it and others already have.
func TestRoomIsExact(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newShared(t, cluster("a", 20), cluster("b", 20))
		quota := func(name string) map[string]int64 {
			if rapid.Bool().Draw(r, name+" is given") {
				return map[string]int64{"cpu": int64(rapid.IntRange(0, 30).Draw(r, name))}
			}
			return nil
		}
		s.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a", "b"}, Quota: quota("quota"), ClusterQuota: quota("clusterQuota"), Weight: 1})
		s.grant("blue", engine.Grant{Set: "gold", Clusters: []string{"a", "b"}, Weight: 1})
		for i := range rapid.IntRange(0, 6).Draw(r, "workloads") {
			team := rapid.SampledFrom([]logicalcluster.Name{"red", "blue"}).Draw(r, "team")
			_, _ = s.Decide(t.Context(), s.request(team, fmt.Sprint(team, i), int64(rapid.IntRange(1, 9).Draw(r, "cpu")))) // if it fits
		}
		next := s.request("red", "next", 1).Workload.Reference
		for name, room := range s.Room("red") {
			for _, more := range []int64{1, 0} {
				err := s.Reserve("red", engine.Reservation{Workload: next, Shares: []capacity.Share{{Cluster: name, Amount: capacity.Resources{CPU: room.CPU + more}}}})
				if (err == nil) != (more == 0) {
					r.Fatalf("%d are free on %s, and reserving %d ends with %v", room.CPU, name, room.CPU+more, err)
				}
			}
			s.Release("red", next)
		}
	})
}
