package disruption_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/disruption"
)

// TestLimit: the larger of the share and the minimum, never none, and exact however many workloads there are.
func TestLimit(t *testing.T) {
	for _, test := range []struct {
		budget       disruption.Budget
		placed, want int
	}{
		{disruption.Default, 0, 10},
		{disruption.Default, 40, 10},
		{disruption.Default, 100, 10},
		{disruption.Default, 110, 11},
		{disruption.Default, 119, 11},
		{disruption.Default, 50_000, 5000},
		{disruption.Budget{Percent: 99}, 1<<62 + 99, (1<<62+99)/100*99 + (1<<62+99)%100*99/100},
		{disruption.Budget{}, 1000, 1},
	} {
		if got := test.budget.Limit(test.placed); got != test.want {
			t.Errorf("%+v of %d: %d, want %d", test.budget, test.placed, got, test.want)
		}
	}
}

// TestBrake drives a brake as controllers do, at any times, while workloads come and go. No interval has more disruptions than
// the limit; whoever waits until Next gets on; and as many as the limit are admitted at once after a quiet interval.
func TestBrake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := disruption.Brake{Budget: disruption.Budget{
			Percent: rapid.IntRange(0, 99).Draw(t, "percent"), Minimum: rapid.IntRange(1, 5).Draw(t, "minimum"),
			Interval: time.Duration(rapid.IntRange(1, 60).Draw(t, "interval")) * time.Second,
		}}
		now, placed := time.Unix(0, 0), 0
		var admitted []time.Time
		within := func() (n int) {
			for _, at := range admitted {
				if now.Sub(at) < b.Interval {
					n++
				}
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 90_000).Draw(t, "ms")) * time.Millisecond)
			},
			"workloads come and go": func(t *rapid.T) { placed = rapid.IntRange(0, 200).Draw(t, "placed") },
			"disrupt": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "due") {
					if !b.Allows(now, placed) {
						if within() < b.Limit(placed) {
							t.Fatalf("refused after %d of %d", within(), b.Limit(placed))
						}
						return
					}
					b.Disrupted(now)
					if admitted = append(admitted, now); within() > b.Limit(placed) {
						t.Fatalf("%d within %s, limit %d", within(), b.Interval, b.Limit(placed))
					}
				}
			},
			"wait": func(t *rapid.T) {
				if b.Allows(now, placed) {
					t.Skip()
				}
				next := b.Next(now, placed)
				if wait := next.Sub(now); wait <= 0 || wait > b.Interval {
					t.Fatalf("next in %s, interval %s", wait, b.Interval)
				}
				if b.Allows(next.Add(-1), placed) || !b.Allows(next, placed) {
					t.Fatalf("Next is not when it is allowed again")
				}
				now = next
			},
		})
	})
}

// TestExhaust: nothing is admitted in the first interval of a process that does not know the last one.
func TestExhaust(t *testing.T) {
	b := disruption.Brake{Budget: disruption.Default}
	now := time.Unix(0, 0)
	b.Exhaust(now, 500)
	if next := b.Next(now, 500); b.Allows(now, 500) || !next.Equal(now.Add(time.Minute)) || !b.Allows(next, 500) {
		t.Errorf("next at %s", next)
	}
}

// TestUnlimited: without an interval, or with all of the workloads, nothing is paced.
func TestUnlimited(t *testing.T) {
	for _, budget := range []disruption.Budget{{}, {Percent: 100, Minimum: 1, Interval: time.Hour}} {
		b := disruption.Brake{Budget: budget}
		for range 1000 {
			if !b.Allows(time.Unix(0, 0), 3) {
				t.Fatalf("%+v", budget)
			}
			b.Disrupted(time.Unix(0, 0))
		}
	}
}

// TestClockSetBack: what was disrupted at a time that is yet to come counts as if it were now, and not for years.
func TestClockSetBack(t *testing.T) {
	b := disruption.Brake{Budget: disruption.Budget{Minimum: 1, Interval: time.Minute}}
	then := time.Unix(1e9, 0)
	b.Disrupted(then)
	now := then.Add(-24 * time.Hour)
	if b.Allows(now, 1) || !b.Allows(now.Add(time.Minute), 1) {
		t.Error("the clock that was set back prolongs or ends the interval")
	}
}
