package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
)

// TestFinalizersYieldToStatuses: a finalizer costs the server as much as a status, and nobody waits for it. It is written ten seconds after
// it is wanted, and while statuses are being written a minute after. To be without it is what a workload that is being deleted waits for.
func TestFinalizersYieldToStatuses(t *testing.T) {
	want := func(version string, wanted bool) []delivery.Finalizer {
		return []delivery.Finalizer{{Source: &delivery.Source{Reference: workload.Reference{UID: "web"}, ResourceVersion: version}, Wanted: wanted}}
	}
	for _, test := range []struct {
		wanted, busy bool
		after        time.Duration
	}{
		{true, false, finalizersAfter}, {true, true, finalizersWithin}, {false, false, 0}, {false, true, 0},
	} {
		t.Run(fmt.Sprintf("wanted %v busy %v", test.wanted, test.busy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, start := &finalizers{}, time.Now()
				f.want(want("1", test.wanted))
				for looks := 0; ; looks++ {
					f.want(want("1", test.wanted)) // another round wants the same
					next, wait := f.next(test.busy)
					if len(next) > 0 {
						break
					}
					if wait <= 0 || looks > 1000 {
						t.Fatalf("after %v and %d looks, the next one is in %v", time.Since(start), looks, wait)
					}
					time.Sleep(wait)
				}
				if got := time.Since(start).Round(yieldEvery); got != test.after {
					t.Errorf("written after %v, want %v", got, test.after)
				}
				if next, wait := f.next(test.busy); len(next) > 0 || wait > 0 {
					t.Errorf("written twice: %v, %v", next, wait)
				}
			})
		})
	}
}
