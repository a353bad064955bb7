package workload

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
)

// TestShare: of a workload whose pods request the same, a share requests so many times that. Of any other that somebody made by
// hand, fewer replicas never request more, and all of them what the workload does.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.Int64Range(1, math.MaxInt32).Draw(t, "replicas")
		pod := rapid.Int64Range(0, capacity.MaxAmount/replicas).Draw(t, "pod")
		w := &Workload{Replicas: replicas, Requests: capacity.Resources{CPU: pod * replicas, Memory: rapid.Int64Range(0, capacity.MaxAmount).Draw(t, "memory")}}
		n := rapid.Int64Range(1, replicas).Draw(t, "share")
		share, fewer := w.Share(n), w.Share(rapid.Int64Range(0, n).Draw(t, "fewer"))
		if share.Requests.CPU != pod*n || share.Replicas != n {
			t.Errorf("%d of %d replicas of %d request %+v", n, replicas, pod, share.Requests)
		}
		if fewer.Requests.Memory > share.Requests.Memory || share.Requests.Memory > w.Requests.Memory {
			t.Errorf("%d replicas request %d of %d, %d request %d", n, share.Requests.Memory, w.Requests.Memory, fewer.Replicas, fewer.Requests.Memory)
		}
		if more := (&Workload{Replicas: 1, Requests: capacity.Resources{Memory: capacity.MaxAmount}}).Share(2); more.Requests.Memory != capacity.MaxAmount+1 {
			t.Errorf("twice the most is %d", more.Requests.Memory)
		}
		if more := w.Share(math.MaxInt32); more.Requests.Memory < share.Requests.Memory || more.Requests.Memory > capacity.MaxAmount+1 {
			t.Errorf("%d replicas request %d", more.Replicas, more.Requests.Memory)
		}
	})
}
