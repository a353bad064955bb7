package engine

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Verdict is the result for one cluster: a rejection or a score.
type Verdict struct {
	Cluster string
	// Rejection is nil if the cluster is feasible.
	Rejection *filter.Rejection
	// Score of a feasible cluster.
	Score scoring.Score
	// Chosen reports whether the cluster is one of the decision's; Replicas is how many it then has, if they are divided.
	Chosen   bool
	Replicas int64
	// Note is why a feasible cluster is passed over for others that do not rank before it; empty if it is not, or if
	// clusters are chosen one by one.
	Note string
	// Points is what affinity to other workloads adds to the score of a feasible cluster, by the terms that have a weight.
	Points int64

	// tier is the index of the fallback group by which it is feasible, if replicas overflow from one group to the next.
	tier int
}

// Verdicts returns the verdict on every cluster of the workspace, by name. It is computed on each call.
func (d *Decision) Verdicts() []Verdict { return slices.Collect(d.EachVerdict) }

// EachVerdict yields the verdicts one by one: finding why a cluster is rejected can cost as much as evaluating its constraints.
func (d *Decision) EachVerdict(yield func(Verdict) bool) {
	attraction := d.attraction()
	for position, row := range d.rows() {
		class, tier := d.classFor(row)
		v := Verdict{Cluster: row.Name, tier: tier}
		if violation := class.First(row, false, d.now); violation != nil {
			v.Rejection = d.class.Reject(row, violation)
		} else if rule := attraction.rejects(position); rule != nil && !d.chose(row.Name) {
			v.Rejection = rule.rejection(position)
		} else if d.withholds(row.Name) {
			v.Rejection = notItsTurn
		} else if why := d.overQuota(position, row); why != nil {
			v.Rejection = why
		} else {
			v.Score = scoring.Of(row, d.asked(row), d.Weights)
			v.Points = attraction.points(position)
		}
		if at := slices.IndexFunc(d.Clusters, func(c Choice) bool { return c.Name == v.Cluster }); at >= 0 {
			if v.Chosen = true; d.Divides() {
				v.Replicas = d.Clusters[at].Replicas
			}
		} else if v.Rejection == nil {
			v.Note = d.passedOver(position, row, &v)
		}
		if !yield(v) {
			return
		}
	}
}

// Ranked returns the verdicts in the order of the ranking, best first; the rejected clusters follow by name.
func (d *Decision) Ranked() []Verdict {
	verdicts := d.Verdicts()
	type rank struct {
		tier  int
		value int64
		key   ranking.Key
	}
	ranks := make(map[string]rank, len(verdicts))
	for position, v := range verdicts {
		ranks[v.Cluster] = rank{tier: math.MaxInt}
		if v.Rejection == nil {
			value, key := d.rank(position, &v)
			ranks[v.Cluster] = rank{v.tier, value, key}
		}
	}
	slices.SortStableFunc(verdicts, func(a, b Verdict) int {
		first, second := ranks[a.Cluster], ranks[b.Cluster]
		return cmp.Or(cmp.Compare(first.tier, second.tier), cmp.Compare(second.value, first.value), cmp.Compare(second.key, first.key))
	})
	return verdicts
}

// rank returns what a feasible cluster is worth, and its key, which orders clusters of the same worth.
func (d *Decision) rank(position int, v *Verdict) (value int64, key ranking.Key) {
	proximity := v.Score.Factors[scoring.Affinity] + v.Score.Factors[scoring.Location]
	key = d.class.Strategy.Key(position, v.Score.Total, v.Score.Headroom, proximity)
	return d.class.Strategy.Value(key) + v.Points*ranking.Point, key
}

// Summary states in one line how the clusters fared, for example "0 of 3 clusters are feasible: 1 rejected by Ready, 2
// rejected by Capacity".
func (d *Decision) Summary() string {
	summary := d.tally(d.class, 0)
	if d.plan == nil {
		if why := d.quotaLeft(); why != "" {
			summary += "; " + why
		}
		return summary
	}
	if len(d.plan.classes) > 1 {
		groups := make([]string, len(d.plan.classes))
		for i, c := range d.plan.classes {
			groups[i] = c.Placement.Group + ": " + d.tally(c.Class, i)
		}
		summary = strings.Join(groups, "; ")
	}
	if why := d.attraction().why(); why != "" {
		summary += "; " + why
	}
	if why := d.quotaLeft(); why != "" {
		summary += "; " + why
	}
	if why := d.plan.why; why != "" {
		summary += "; " + why
	} else if d.plan.lacks != "" && len(d.Retained) > 0 {
		summary += "; " + d.plan.lacks
	}
	if len(d.plan.others) == 0 {
		return summary
	}
	groups := []string{d.Group + ": " + summary}
	for _, o := range d.plan.others {
		groups = append(groups, o.Group+": "+o.Summary())
	}
	return strings.Join(groups, "; ")
}

// tally states how the clusters fared by the class of a tier.
func (d *Decision) tally(c *ranking.Class, tier int) string {
	t := c.Tally(&d.snapshot)
	for cluster := range d.holding.clusters {
		if row := d.snapshot.Row(cluster); row != nil {
			t.Swap(c.Class, row, d.withoutHeld(row), d.now)
		}
	}
	if c.Placement.TolerationsEnd {
		for _, row := range d.snapshot.Rows() {
			if c.HasEnded(row, d.now) && d.holding.index(row.Name) < 0 && d.holding.displaced.from(row.Name) == nil {
				t.Swap(c.Class, row, row, d.now)
			}
		}
	}
	t.Later(WorkloadAffinity, d.attraction().excluded(tier))
	t.Later(Turn, d.countWithheld(c))
	t.Later(filter.Quota, d.quota.excluded(tier))
	return t.String()
}

// rejectedBy returns the term of affinity that rejects a cluster, nil if none does. Clusters that the workload runs on are not judged.
func (d *Decision) rejectedBy(cluster string) (_ *rule, position int) {
	position, found := d.snapshot.Position(cluster)
	if !found || d.chose(cluster) {
		return nil, position
	}
	return d.attraction().rejects(position), position
}

// Obstacles returns everything that keeps a cluster from being feasible, whereas a verdict names only the first
// obstacle. There are none if the cluster is feasible or not known. They are computed on each call.
func (d *Decision) Obstacles(cluster string) []filter.Obstacle {
	row := d.row(cluster)
	if row == nil {
		return nil
	}
	class, _ := d.classFor(row)
	obstacles := class.Obstacles(row, d.now)
	if rule, position := d.rejectedBy(cluster); rule != nil {
		obstacles = append(obstacles, rule.obstacle(position))
	}
	if d.withholds(cluster) {
		obstacles = append(obstacles, filter.NewObstacle(*notItsTurn, "its turn"))
	}
	if position, found := d.snapshot.Position(cluster); found {
		if o, rejected := d.quotaObstacle(position, row); rejected {
			obstacles = append(obstacles, o)
		}
	}
	return obstacles
}

// Nearest returns the cluster that is nearest to being feasible, and its obstacles: what a workload without a cluster waits for. It is the
// cluster with the fewest obstacles, then the one that lacks the least relative to what it has, then the first by name; clusters that are
// cordoned, drained or lost come after all others. It is empty if a cluster is feasible or none is registered.
func (d *Decision) Nearest() (cluster string, obstacles []filter.Obstacle) {
	fewest, least := math.MaxInt, 0.0
	for position, row := range d.rows() {
		n := 0
		if row.Cordoned() || row.Lost() {
			n = len(filter.Stages()) // nothing is to be placed there, or can be: any other cluster is nearer
		}
		d.class.Violations(row, false, d.now, func(filter.Violation) bool {
			n++
			return n <= fewest
		})
		if rule, _ := d.rejectedBy(row.Name); rule != nil {
			n++
		}
		if d.withholds(row.Name) {
			n++
		}
		if d.overQuota(position, row) != nil {
			n++
		}
		if n == 0 {
			return "", nil
		}
		share := 0.0
		for name, lacking := range d.class.Lacking(row).Each {
			share = max(share, float64(lacking)/float64(max(1, row.Allocatable.Get(name))))
		}
		if n < fewest || n == fewest && share < least {
			cluster, fewest, least = row.Name, n, share
		}
	}
	return cluster, d.Obstacles(cluster)
}

// Factors explains each factor of a cluster's score; it returns nil if the cluster is not known.
func (d *Decision) Factors(cluster string) []scoring.Explanation {
	row := d.row(cluster)
	if row == nil {
		return nil
	}
	return scoring.Explain(row, d.asked(row), d.Weights)
}

// asked returns what a cluster was scored for.
func (d *Decision) asked(row *snapshot.Row) scoring.Asked {
	return d.class.Asked(d.class.On(row).Workload.Requests, d.snapshot.Usual)
}

// rows returns the clusters that were decided on, without what the workload held.
func (d *Decision) rows() []*snapshot.Row {
	rows := d.snapshot.Rows()
	for i, row := range rows {
		rows[i] = d.withoutHeld(row)
	}
	return rows
}

func (d *Decision) withoutHeld(row *snapshot.Row) *snapshot.Row {
	without := new(snapshot.Row)
	if !d.holding.without(row, without) {
		return row
	}
	return without
}
