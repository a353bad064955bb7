package filter

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// Departure returns why a workload that runs on a cluster should leave it, nil if it may stay: the first violation because of
// which it must leave, otherwise the first violation.
func (c *Class) Departure(row *snapshot.Row, now time.Time) (why *Violation) {
	c.Violations(row, true, now, func(v Violation) bool {
		if why == nil || v.Evicts {
			why = &v
		}
		return !v.Evicts
	})
	return why
}

// MayStay reports whether there is no Departure. It evaluates this once for each change of a cluster's facts, unless it depends
// on time.
func (c *Class) MayStay(position int, row *snapshot.Row, now time.Time) bool {
	if c.Workload.PerNode {
		return c.Departure(row, now) == nil // what is known of the facts is not of one class
	}
	if c.Facts.mayStay(position, row.Facts) {
		return true
	}
	if c.Departure(row, now) != nil {
		return false
	}
	if Timeless(row) {
		c.Facts.stays(position, row.Facts)
	}
	return true
}

// Timeless reports whether a workload that may stay on a cluster now may do so for as long as the cluster's facts stay the same.
func Timeless(row *snapshot.Row) bool {
	return !row.NotReady() && !slices.ContainsFunc(row.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute })
}

func (f *Facts) mayStay(position int, version int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return position < len(f.staying) && f.staying[position] == version
}

func (f *Facts) stays(position int, version int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if missing := position + 1 - len(f.staying); missing > 0 {
		f.staying = append(f.staying, make([]int64, missing)...)
	}
	f.staying[position] = version
}
