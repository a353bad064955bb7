package engine

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Request asks where one workload may run.
type Request struct {
	// Workspace whose clusters and policies count.
	Workspace logicalcluster.Name
	// Placement that the workload belongs to, from CompilePlacement.
	Placement *Placement
	Workload  *workload.Workload
}

func (r *Request) owner() capacity.Owner { return ownerOf(r.Workload.Reference) }

// ownerOf is the key of a workload in the ledger. It leaves out the UID: of two workloads of one name only one exists.
func ownerOf(ref workload.Reference) capacity.Owner {
	return capacity.Owner{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}

// group is the key in the ledger of the placement's claims together.
func (r *Request) group() types.NamespacedName { return r.Placement.NamespacedName() }

// Decision is the answer: where the workload runs, and why there.
type Decision struct {
	Workload workload.Reference
	// Clusters that were chosen, best first; empty where no cluster is feasible.
	Clusters []Choice
	// Reserved on each of Clusters.
	Reserved capacity.Resources
	// Weights and Terms are what the policies said.
	Weights scoring.Weights
	Terms   []scoring.Term
	// PolicyDigest identifies the Rego policies that were in force.
	PolicyDigest string
	// InputsDigest identifies all that the decision rests on but the clusters.
	InputsDigest string
	// Generation of the snapshot that was decided on.
	Generation int64
	// Cached tells whether the ranking came from the cache, brought up to date.
	Cached bool

	class *class
	// snapshot that was decided on, and what the workload itself held then, which does not count.
	snapshot snapshot.Snapshot
	held     holding
}

// Choice is one chosen cluster.
type Choice struct {
	Name     string
	Replicas int64
	// Score is the total, 0..100.
	Score int64
	// Reason is the total in a word: Excellent, Good, Fair or Poor.
	Reason string
}

// Stage is a step of the filter.
type Stage string

// The stages, in the order in which clusters pass them.
const (
	StageRegistration Stage = "Registration"
	StageReady        Stage = "Ready"
	StageLocation     Stage = "Location"
	StageCluster      Stage = "ClusterSelector"
	StageTaint        Stage = "Taint"
	StageCapability   Stage = "Capability"
	StageConstraint   Stage = "Constraint"
	StageCapacity     Stage = "Capacity"
	StagePolicy       Stage = "Policy"
)

// Rejection tells why a cluster is not feasible.
type Rejection struct {
	Stage Stage
	// Constraint is the name of the constraint that failed, where Stage is StageConstraint.
	Constraint string
	// Message tells people what was wanted and what was observed.
	Message string
}

// Verdict is what was found of one cluster: a rejection, or a score.
type Verdict struct {
	Cluster string
	// Rejection is nil where the cluster is feasible.
	Rejection *Rejection
	// Score of a feasible cluster.
	Score scoring.Score
	// Chosen tells whether the cluster is one of the decision's.
	Chosen bool
}

// Verdicts returns what was found of every cluster of the workspace, by name. It is worked out when it is asked for.
func (d *Decision) Verdicts() []Verdict { return slices.Collect(d.EachVerdict) }

// EachVerdict yields what was found of every cluster, by name, as long as it is asked for: to say why a cluster is
// rejected can cost as much as to evaluate its constraints.
func (d *Decision) EachVerdict(yield func(Verdict) bool) {
	for _, row := range d.rows() {
		v := Verdict{Cluster: row.Name}
		if failure := d.class.infeasible(row, false); failure != nil {
			v.Rejection = d.class.rejection(row, failure)
		} else {
			v.Score = scoring.Of(row, d.class.workload.Requests, d.Weights, d.Terms)
		}
		v.Chosen = slices.ContainsFunc(d.Clusters, func(c Choice) bool { return c.Name == v.Cluster })
		if !yield(v) {
			return
		}
	}
}

// Ranked returns the verdicts in the order of the ranking, best first; the rejected clusters follow by name.
func (d *Decision) Ranked() []Verdict {
	verdicts := d.Verdicts()
	keys := make(map[string]selection.Key, len(verdicts))
	for place, v := range verdicts {
		if v.Rejection == nil {
			near := v.Score.Factors[scoring.Affinity] + v.Score.Factors[scoring.Location]
			keys[v.Cluster] = d.class.family.placement.strategy.Key(place, v.Score.Total, v.Score.Headroom, near)
		}
	}
	slices.SortStableFunc(verdicts, func(a, b Verdict) int { return cmp.Compare(keys[b.Cluster], keys[a.Cluster]) })
	return verdicts
}

// Summary says in one line how the clusters fared, for example
// "0 of 3 clusters are feasible: 1 rejected by Ready, 2 rejected by Capacity".
func (d *Decision) Summary() string {
	rows := d.rows()
	if len(rows) == 0 {
		return "no clusters are registered in this workspace"
	}
	rejected := map[Stage]int{}
	feasible := len(rows)
	for _, row := range rows {
		if failure := d.class.infeasible(row, false); failure != nil {
			rejected[failure.stage]++
			feasible--
		}
	}
	line := fmt.Sprintf("%d of %d clusters are feasible", feasible, len(rows))
	separator := ": "
	for _, stage := range stages {
		if n := rejected[stage]; n > 0 {
			line += fmt.Sprintf("%s%d rejected by %s", separator, n, stage)
			separator = ", "
		}
	}
	return line
}

// rows are the clusters as they were decided on.
func (d *Decision) rows() []*snapshot.Row {
	rows := d.snapshot.Rows()
	for i, row := range rows {
		rows[i] = d.withoutHeld(row)
	}
	return rows
}

// row is one of them, nil where there is none of that name.
func (d *Decision) row(cluster string) *snapshot.Row {
	if row := d.snapshot.Row(cluster); row != nil {
		return d.withoutHeld(row)
	}
	return nil
}

func (d *Decision) withoutHeld(row *snapshot.Row) *snapshot.Row {
	i := slices.Index(d.held.Clusters, row.Name)
	if i < 0 {
		return row
	}
	less := d.held.without(i, row)
	return &less
}

var stages = []Stage{
	StageRegistration, StageReady, StageLocation, StageCluster, StageTaint,
	StageCapability, StageConstraint, StageCapacity, StagePolicy,
}
