package apply

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// told is a status that says of numbered workloads "ready", "wrong", "going", or, on their way, any other word.
func told(generation int64, workloads ...string) *v1alpha1.WorkStatus {
	s := &v1alpha1.WorkStatus{ObservedGeneration: generation}
	for i, how := range workloads {
		m := v1alpha1.ManifestStatus{ManifestReference: v1alpha1.ManifestReference{Kind: "Deployment", Name: fmt.Sprint(i), WorkloadUID: types.UID(fmt.Sprint(i))}, Revision: "r"}
		switch m.Health = v1alpha1.HealthInProgress; how {
		case "":
			continue
		case "going":
			s.Removing = append(s.Removing, m.ManifestReference)
			continue
		case "ready":
			m.Health = v1alpha1.HealthCurrent
		case "wrong":
			m.Wrong = true
		default:
			m.Message = how
		}
		s.Manifests = append(s.Manifests, m)
	}
	return s
}

// crowded says that so many of a hundred workloads are ready.
func crowded(ready int) *v1alpha1.WorkStatus {
	workloads := make([]string, 100)
	for i := range workloads {
		if workloads[i] = "starting"; i < ready {
			workloads[i] = "ready"
		}
	}
	return told(1, workloads...)
}

// TestWhatTurnsIsTold at once, unless many others are about to turn as well.
func TestWhatTurnsIsTold(t *testing.T) {
	again := told(1, "ready")
	again.Manifests[0].Revision = "another"
	for name, test := range map[string]struct {
		written, status *v1alpha1.WorkStatus
		want            time.Duration
	}{
		"a workload is ready":                       {told(1, "starting"), told(1, "ready"), 0},
		"one is ready, and was not told before":     {told(0), told(1, "ready"), 0},
		"one is ready in another revision":          {told(1, "ready"), again, 0},
		"something is wrong":                        {told(1, "starting"), told(1, "wrong"), 0},
		"what was wrong is ready":                   {told(1, "wrong"), told(1, "ready"), 0},
		"one is gone":                               {told(1, "ready", "going"), told(1, "ready"), 0},
		"one is gone before it was told that it is": {told(1, "ready", "ready"), told(2, "ready"), 0},
		"one of four is ready":                      {told(1, "a", "b", "c", "d"), told(1, "ready", "b", "c", "d"), 0},
		"it is on its way":                          {told(0), told(1, "starting"), 1025 * time.Millisecond},
		"it is on its way, and says more":           {told(1, "a"), told(1, "b"), 1025 * time.Millisecond},
		"it is not ready any more":                  {told(1, "ready"), told(1, "starting"), 1025 * time.Millisecond},
		"it is being removed":                       {told(1, "ready"), told(2, "going"), 1025 * time.Millisecond},
		"a ConfigMap has changed":                   {told(1, "ready"), told(2, "ready"), time.Second},
		"one of a hundred is ready":                 {crowded(0), crowded(1), 3475 * time.Millisecond},
		"twenty of a hundred are ready":             {crowded(0), crowded(20), 0},
	} {
		since := time.Unix(100, 0)
		if got := statusDue(test.written, test.status, since).Sub(since); got != test.want {
			t.Errorf("%s: written after %v, want %v", name, got, test.want)
		}
	}
}

// TestABurstIsToldInFewWrites: a hundred workloads of a Work become ready one after another, as fast or slow as the cluster is. There are
// at most 0.3 writes for each, and none is told of late.
func TestABurstIsToldInFewWrites(t *testing.T) {
	const workloads, tick = 100, 20 * time.Millisecond
	says := make([]*v1alpha1.WorkStatus, workloads+1)
	for ready := range says {
		says[ready] = crowded(ready)
	}
	for _, every := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond} {
		for _, took := range []time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second} {
			written, writes := says[0], 0
			var since, earliest time.Time
			for now := time.Unix(0, 0); written != says[workloads]; now = now.Add(tick) {
				status := says[min(int(now.Sub(time.Unix(0, 0))/every), workloads)]
				switch {
				case written == status:
					continue
				case since.IsZero():
					since = now
				}
				if late := now.Sub(since) - statusGather - workloads*statusEach - took - statusPause(took); late > tick {
					t.Fatalf("one each %v, written within %v: %v late", every, took, late)
				}
				if !now.Before(statusDue(written, status, since)) && !now.Before(earliest) {
					written, since, earliest = status, time.Time{}, now.Add(took+statusPause(took))
					writes++
				}
			}
			if writes > 30 {
				t.Errorf("one each %v, written within %v: %d writes for %d workloads", every, took, writes, workloads)
			}
			t.Logf("one each %v, written within %v: %d writes", every, took, writes)
		}
	}
}
