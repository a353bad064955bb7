// Package disruption paces how many workloads lose a cluster: so one edit, or one false alarm, never moves everything at once.
package disruption

import (
	"fmt"
	"math"
	"time"
)

// Budget is how many workloads may lose a cluster within an interval: the larger of a percentage of those that are placed, and a
// minimum.
type Budget struct {
	// Percent of the workloads that are placed, 0 to 100; 100 paces nothing.
	Percent int
	// Minimum is at least 1.
	Minimum int
	// Interval that counts, whenever it begins; 0 paces nothing.
	Interval time.Duration
	// slowed is by what Limit is divided; 0 is by nothing.
	slowed int
}

// Default is a tenth of the workloads a minute, and at least ten.
var Default = Budget{Percent: 10, Minimum: 10, Interval: time.Minute}

// Unlimited reports whether the budget paces nothing.
func (b Budget) Unlimited() bool { return b.Interval <= 0 || b.Percent >= 100 }

// Limit is how many of so many placed workloads may lose a cluster within an interval.
func (b Budget) Limit(placed int) int {
	return max(max(placed/100*b.Percent+placed%100*b.Percent/100, b.Minimum)/max(b.slowed, 1), 1)
}

// Slowed is a budget of which only one part in so many is left: that of Default where this one paces nothing.
func (b Budget) Slowed(by int) Budget {
	if b.Unlimited() {
		b = Default
	}
	b.slowed = by
	return b
}

// Most is how many of so many placed workloads may lose a cluster at once.
func (b Budget) Most(placed int) int {
	if b.Unlimited() {
		return math.MaxInt
	}
	return b.Limit(placed)
}

// String is for example "10 within 1m0s".
func (b Budget) String(placed int) string {
	return fmt.Sprintf("%d within %s", b.Limit(placed), b.Interval)
}

// Brake keeps the disruptions of one workspace within a budget. The zero value has a budget that paces nothing.
//
// Invariant: of the disruptions that Allows has admitted, no interval has more than Limit, given how many workloads were
// placed at the last of them.
type Brake struct {
	Budget
	// recent are those of the last interval, oldest first.
	recent []disruptions
}

// disruptions are how many workloads lost a cluster at some time.
type disruptions struct {
	at time.Time
	n  int
}

// Allows reports whether a workload may lose a cluster now, of so many that are placed.
func (b *Brake) Allows(now time.Time, placed int) bool {
	return b.Unlimited() || b.used(now) < b.Limit(placed)
}

// Left is how many workloads may lose a cluster now, of so many that are placed.
func (b *Brake) Left(now time.Time, placed int) int {
	return max(0, b.Most(placed)-b.used(now))
}

// Disrupted counts a workload that loses a cluster now.
func (b *Brake) Disrupted(now time.Time) { b.count(now, 1) }

// Exhaust uses up the budget of the coming interval: what was disrupted in the last one is not known.
func (b *Brake) Exhaust(now time.Time, placed int) { b.count(now, b.Limit(placed)) }

func (b *Brake) count(now time.Time, n int) {
	if b.Unlimited() {
		return
	}
	b.used(now)
	if last := len(b.recent) - 1; last >= 0 && b.recent[last].at.Equal(now) {
		b.recent[last].n += n
		return
	}
	b.recent = append(b.recent, disruptions{now, n})
}

// Next is when Allows, now false, becomes true while as many workloads are placed.
func (b *Brake) Next(now time.Time, placed int) time.Time {
	used := b.used(now)
	for _, d := range b.recent {
		if used -= d.n; used < b.Limit(placed) {
			return d.at.Add(b.Interval)
		}
	}
	return now
}

// used counts the disruptions of the last interval, and forgets earlier ones. A clock that is set back does not prolong it.
func (b *Brake) used(now time.Time) (n int) {
	recent := b.recent[:0]
	for _, d := range b.recent {
		if d.at.After(now) {
			d.at = now
		}
		if now.Sub(d.at) < b.Interval {
			recent = append(recent, d)
			n += d.n
		}
	}
	b.recent = recent
	return n
}
