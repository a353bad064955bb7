package division

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestProportional: the result is that of giving out one replica after the other, as the method defines.
func TestProportional(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 40).Draw(t, "n")
		clusters := drawClusters(t)
		got := Proportional(n, clusters)
		want := make([]int64, len(clusters))
		left := n
		for i, c := range clusters {
			want[i] = c.Low
			left -= c.Low
		}
		for ; left > 0; left-- {
			best := -1
			for i, c := range clusters {
				if c.Weight > 0 && want[i] < c.High && (best < 0 || (want[i]+1)*clusters[best].Weight < (want[best]+1)*c.Weight) {
					best = i
				}
			}
			if best < 0 {
				break
			}
			want[best]++
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d among %+v: %v, want %v", n, clusters, got, want)
		}
	})
}

// TestScalingIsSteady: growing takes nothing away from any cluster, shrinking adds nothing to any.
func TestScalingIsSteady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clusters := drawClusters(t)
		for i := range clusters {
			clusters[i].Low = 0
			clusters[i].Weight = max(1, clusters[i].Weight)
		}
		var room int64
		for _, c := range clusters {
			room += c.High
		}
		before := Proportional(rapid.Int64Range(0, room).Draw(t, "before"), clusters)
		after := rapid.Int64Range(0, room).Draw(t, "after")
		bounded := slices.Clone(clusters)
		grows := after >= sum(before)
		for i := range bounded {
			if grows {
				bounded[i].Low = before[i]
			} else {
				bounded[i].High = before[i]
			}
		}
		got := Proportional(after, bounded)
		if sum(got) != after {
			t.Fatalf("%v are not %d", got, after)
		}
		for i := range got {
			if grows && got[i] < before[i] || !grows && got[i] > before[i] {
				t.Errorf("from %v to %v", before, got)
			}
		}
		if fresh := Proportional(after, clusters); !slices.Equal(got, fresh) {
			t.Errorf("in steps %v, at once %v", got, fresh)
		}
	})
}

func TestFillAndDrain(t *testing.T) {
	shares := Fill(12, []Cluster{{Low: 2, High: 5}, {Low: 2, High: 9}, {Low: 1, High: 4}})
	if want := []int64{5, 6, 1}; !slices.Equal(shares, want) {
		t.Errorf("%v, want %v", shares, want)
	}
	for _, test := range []struct {
		n, least int64
		fewest   int
		want     []int64
	}{
		{11, 2, 1, []int64{5, 6, 0}}, // a whole cluster
		{8, 2, 1, []int64{5, 3, 0}},
		{6, 2, 1, []int64{4, 2, 0}}, // no cluster keeps one
		{3, 2, 1, []int64{3, 0, 0}},
		{0, 2, 1, []int64{0, 0, 0}},
		{5, 2, 2, []int64{3, 2, 0}}, // two clusters keep some
		{6, 1, 3, []int64{4, 1, 1}},
	} {
		got := slices.Clone(shares)
		Drain(test.n, got, []int{2, 1, 0}, test.least, test.fewest)
		if !slices.Equal(got, test.want) {
			t.Errorf("%d: %v, want %v", test.n, got, test.want)
		}
	}
}

func sum(shares []int64) (sum int64) {
	for _, n := range shares {
		sum += n
	}
	return sum
}

func drawClusters(t *rapid.T) []Cluster {
	clusters := make([]Cluster, rapid.IntRange(0, 5).Draw(t, "clusters"))
	for i := range clusters {
		c := &clusters[i]
		c.High = rapid.Int64Range(0, 12).Draw(t, "high")
		c.Low = rapid.Int64Range(0, c.High).Draw(t, "low")
		c.Weight = rapid.SampledFrom([]int64{0, 1, 1, 2, 3, 100, MaxWeight}).Draw(t, "weight")
	}
	return clusters
}
