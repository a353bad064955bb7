package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Obstacle is one of all the reasons for which a cluster is not feasible.
type Obstacle struct {
	Rejection
	// Expression is the part of the constraint that fails, where Stage is StageConstraint.
	Expression string
	// Observed is what that part looked at.
	Observed []constraint.Observation
	// Remedy is the smallest change that would remove the obstacle, in words: "2 more cpu free", "label tier=gold".
	Remedy string
}

// Remedies are what would remove obstacles, each named once.
func Remedies(obstacles []Obstacle) (remedies []string) {
	for _, o := range obstacles {
		if !slices.Contains(remedies, o.Remedy) {
			remedies = append(remedies, o.Remedy)
		}
	}
	return remedies
}

// Obstacles returns all that keeps a cluster from being feasible, where a verdict tells the first: nothing where the
// cluster is feasible or not known. It is worked out when it is asked for.
func (d *Decision) Obstacles(cluster string) (obstacles []Obstacle) {
	row, c := d.row(cluster), d.class
	if row == nil {
		return nil
	}
	c.filter(row, false, func(f failure) bool {
		obstacles = append(obstacles, c.obstacles(row, &f)...)
		return true
	})
	return obstacles
}

// Nearest returns the cluster that comes nearest to being feasible, and what keeps it from that: what a workload waits for
// that found no cluster. It is the one with the fewest obstacles, then the one that lacks the least of what it has in all,
// then the first by name. There is none where a cluster is feasible or none is registered.
func (d *Decision) Nearest() (cluster string, obstacles []Obstacle) {
	fewest, least := math.MaxInt, 0.0
	for _, row := range d.rows() {
		n := 0
		d.class.filter(row, false, func(failure) bool {
			n++
			return n <= fewest
		})
		if n == 0 {
			return "", nil
		}
		share := 0.0
		for name, lacking := range d.class.lacking(row).Each {
			share = max(share, float64(lacking)/float64(max(1, row.Allocatable.Get(name))))
		}
		if n < fewest || n == fewest && share < least {
			cluster, fewest, least = row.Name, n, share
		}
	}
	return cluster, d.Obstacles(cluster)
}

// lacking is how much more would have to be free, in all or, where that is enough, on the largest node.
func (c *class) lacking(row *snapshot.Row) capacity.Resources {
	more := func(asked, free int64) int64 {
		if asked <= 0 {
			return 0
		}
		return max(0, asked-free)
	}
	lacking := c.workload.Requests.Combine(row.Free, more)
	if lacking.IsZero() && row.LargestFree != nil {
		lacking = c.replica.Combine(*row.LargestFree, more)
	}
	return lacking
}

// Factors tells how each factor of a cluster's score came about; nothing where the cluster is not known.
func (d *Decision) Factors(cluster string) []scoring.Explanation {
	row := d.row(cluster)
	if row == nil {
		return nil
	}
	return scoring.Explain(row, d.class.workload.Requests, d.Weights, d.Terms)
}

// obstacles puts a failure into words, with what would remove it.
func (c *class) obstacles(row *snapshot.Row, f *failure) (obstacles []Obstacle) {
	p := c.family.placement
	add := func(remedies ...string) {
		obstacles = append(obstacles, Obstacle{Rejection: *c.rejection(row, f), Remedy: strings.Join(remedies, " and ")})
	}
	switch f.stage {
	case StageRegistration:
		add("a registration without this error")
	case StageReady:
		add("Ready to be True")
	case StageLocation:
		add(unmet(p.locations, labels.Set{"location": row.Location}, "")...)
	case StageCluster:
		remedies := unmet(p.clusters, labels.Set(row.Labels), "label ")
		if p.excludes(row.Name) {
			remedies = append(remedies, "its name in the placement's clusterSelector.clusterNames")
		}
		add(remedies...)
	case StageTaint:
		add(fmt.Sprintf("a toleration of taint %s in the placement", row.Taints[f.index].ToString()))
	case StageCapability:
		add(fmt.Sprintf("capability %s available", p.capabilities[f.index].Type))
	case StageConstraint:
		for _, cause := range p.constraints[f.index].program.Explain(c.variables(row)) {
			add(cause.Remedy)
			last := &obstacles[len(obstacles)-1]
			last.Expression, last.Observed = cause.Expression, cause.Observed
		}
	case StageCapacity:
		var remedies []string
		for name, lacking := range c.lacking(row).Each {
			switch {
			case lacking > 0 && f.onNode:
				remedies = append(remedies, fmt.Sprintf("%s more %s free on one node", capacity.Rounded(name, lacking, true), name))
			case lacking > 0:
				remedies = append(remedies, fmt.Sprintf("%s more %s free", capacity.Rounded(name, lacking, true), name))
			}
		}
		add(remedies...)
	case StagePolicy:
		add(matching(&c.family.judgement.Terms[f.index].Match, row)...)
	}
	return obstacles
}

// unmet says what a set of labels, called by a prefix and their keys, lacks to be selected.
func unmet(selector labels.Selector, set labels.Set, prefix string) (remedies []string) {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return []string{"a selector that selects anything"}
	}
	for _, r := range requirements {
		if r.Matches(set) {
			continue
		}
		subject := prefix + r.Key()
		values := slices.Sorted(slices.Values(r.ValuesUnsorted()))
		switch op := r.Operator(); op {
		case selection.Exists:
			remedies = append(remedies, subject)
		case selection.DoesNotExist:
			remedies = append(remedies, "no "+subject)
		case selection.NotIn, selection.NotEquals:
			remedies = append(remedies, subject+" none of "+strings.Join(values, ", "))
		case selection.In, selection.Equals, selection.DoubleEquals:
			if len(values) == 1 {
				remedies = append(remedies, subject+"="+values[0])
			} else {
				remedies = append(remedies, subject+" one of "+strings.Join(values, ", "))
			}
		default:
			remedies = append(remedies, r.String())
		}
	}
	return remedies
}

// matching says what a cluster lacks to be matched by a required term.
func matching(m *scoring.Match, row *snapshot.Row) (remedies []string) {
	if len(m.ClusterNames) > 0 && !slices.Contains(m.ClusterNames, row.Name) {
		remedies = append(remedies, "another policy: only "+strings.Join(m.ClusterNames, ", ")+" will do")
	}
	if m.Location != "" && m.Location != row.Location {
		remedies = append(remedies, "location="+m.Location)
	}
	if m.Labels != nil {
		remedies = append(remedies, unmet(m.Labels, labels.Set(row.Labels), "label ")...)
	}
	if capability, _ := row.Capability(m.Capability); m.Capability != "" && !capability.Available {
		remedies = append(remedies, fmt.Sprintf("capability %s available", m.Capability))
	}
	return remedies
}
