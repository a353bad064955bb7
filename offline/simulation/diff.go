package simulation

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/kcp-placement/placement/engine"
)

// Diff is the difference between two results. Its JSON is a contract like that of Result.
type Diff struct {
	// Moves are the workloads that lose clusters, in the order of the later result.
	Moves []Change `json:"moves"`
	// Gains are the workloads that get clusters and lose none, including those that had none.
	Gains []Change `json:"gains"`
	// Redivided are the workloads whose replicas are divided differently among the same clusters.
	Redivided []Change `json:"redivided"`
	// Rescored are the workloads that stay, with different scores.
	Rescored []Change `json:"rescored"`
	// Standing are the workloads that, in the later result, stay where they should not for want of a better place.
	Standing []Change `json:"standing"`
	// Held are the workloads that the brake holds in the later result: After is where they go when it is their turn.
	Held []Change `json:"held"`
	// Clusters are the clusters whose utilization differs, by workspace and name.
	Clusters []ClusterChange `json:"clusters"`
	// Suspended is where the controller makes no decisions at present.
	Suspended []Suspended `json:"suspended,omitempty"`
	// Paths of workspaces that are named by their logical clusters, if known.
	Paths   Paths       `json:"paths,omitempty"`
	Summary DiffSummary `json:"summary"`
}

// Change is one workload before and after.
type Change struct {
	Workspace string          `json:"workspace"`
	Workload  Workload        `json:"workload"`
	Placement string          `json:"placement"`
	Before    []engine.Choice `json:"before"`
	After     []engine.Choice `json:"after"`
	// Divided reports that replicas are divided among the clusters, before or after; MovedReplicas is how many of them go from one
	// cluster to another, or wait. Replicas that are scaled down do not count.
	Divided       bool  `json:"divided,omitempty"`
	MovedReplicas int64 `json:"movedReplicas,omitempty"`
	// PreemptedBy are the workloads for which it loses clusters in the later result, Preempts those whose place it takes.
	PreemptedBy []Preemption `json:"preemptedBy,omitempty"`
	Preempts    []Preemption `json:"preempts,omitempty"`
	// GivesBack is what it loses in the later result to workloads of other workspaces that are guaranteed it.
	GivesBack []GivenBack `json:"givesBack,omitempty"`
	// Error is why the workload is not placed in the later result; empty if it is. If it is held, this is why it leaves.
	Error string `json:"error"`
	// NoBetterPlace is why the workload should leave clusters that it stays on in the later result; empty if there are none.
	NoBetterPlace string `json:"noBetterPlace,omitempty"`
}

// ClusterChange is how full one cluster is before and after, in percent of what is allocatable.
type ClusterChange struct {
	Workspace string           `json:"workspace"`
	Name      string           `json:"name"`
	Before    map[string]int64 `json:"before"`
	After     map[string]int64 `json:"after"`
}

// DiffSummary holds counts.
type DiffSummary struct {
	Workloads int `json:"workloads"`
	// Before and After are how many of them are placed.
	Before int `json:"before"`
	After  int `json:"after"`
	// Moved workloads lose clusters; Gained ones get clusters and lose none.
	Moved    int `json:"moved"`
	Gained   int `json:"gained"`
	Rescored int `json:"rescored"`
	// Redivided workloads have different numbers of replicas on the same clusters; MovedReplicas are those of all divided workloads.
	Redivided     int   `json:"redivided"`
	MovedReplicas int64 `json:"movedReplicas"`
	// Placed counts the Gained that are not placed before; Unplaced the Moved that are not placed after.
	Placed   int `json:"placed"`
	Unplaced int `json:"unplaced"`
	Standing int `json:"standing"`
	Held     int `json:"held"`
}

// Compare returns the difference between two results over the same workloads.
func Compare(before, after *Result) *Diff {
	type workloadKey struct {
		workspace string
		workload  Workload
	}
	earlier := map[workloadKey]*Decision{}
	for i := range before.Decisions {
		d := &before.Decisions[i]
		earlier[workloadKey{d.Workspace, d.Workload}] = d
	}
	diff := &Diff{Moves: []Change{}, Gains: []Change{}, Redivided: []Change{}, Rescored: []Change{}, Standing: []Change{}, Held: []Change{}, Clusters: []ClusterChange{}, Paths: after.Paths}
	diff.Suspended = after.Suspended
	diff.Summary.Workloads, diff.Summary.Before, diff.Summary.After = len(after.Decisions), before.Summary.Placed, after.Summary.Placed
	for _, d := range after.Decisions {
		change := Change{Workspace: d.Workspace, Workload: d.Workload, Placement: d.Placement, Before: []engine.Choice{}, After: d.Clusters, PreemptedBy: d.PreemptedBy, Preempts: d.Preempts, GivesBack: d.GivesBack, Error: d.Error, NoBetterPlace: d.NoBetterPlace}
		if e := earlier[workloadKey{d.Workspace, d.Workload}]; e != nil {
			change.Before = e.Clusters
			if change.Divided = d.Divided || e.Divided; d.Divided && e.Divided {
				change.MovedReplicas = movedReplicas(e, &d)
			}
		}
		if d.NoBetterPlace != "" {
			diff.Standing = append(diff.Standing, change)
			diff.Summary.Standing++
		}
		if d.Held != nil {
			held := change
			held.After, held.Error = d.Held.To, d.Held.Because
			diff.Held = append(diff.Held, held)
		}
		from, to := sets.New(names(change.Before)...), sets.New(names(change.After)...)
		switch {
		case !to.IsSuperset(from):
			diff.Moves = append(diff.Moves, change)
			if len(to) == 0 {
				diff.Summary.Unplaced++
			}
		case len(to) > len(from):
			diff.Gains = append(diff.Gains, change)
			if len(from) == 0 {
				diff.Summary.Placed++
			}
		case change.Divided && lostReplicas(change.Before, change.After)+lostReplicas(change.After, change.Before) > 0:
			diff.Redivided = append(diff.Redivided, change)
		case !slices.EqualFunc(change.Before, change.After, sameScore):
			diff.Rescored = append(diff.Rescored, change)
		}
		diff.Summary.MovedReplicas += change.MovedReplicas
	}
	diff.Summary.Moved, diff.Summary.Gained = len(diff.Moves), len(diff.Gains)
	diff.Summary.Redivided, diff.Summary.Rescored, diff.Summary.Held = len(diff.Redivided), len(diff.Rescored), len(diff.Held)

	type clusterKey struct{ workspace, name string }
	utilization := map[clusterKey]map[string]int64{}
	for _, c := range before.Clusters {
		utilization[clusterKey{c.Workspace, c.Name}] = c.Utilization
	}
	for _, c := range after.Clusters {
		u, found := utilization[clusterKey{c.Workspace, c.Name}]
		if !found {
			u = map[string]int64{}
		}
		if !maps.Equal(u, c.Utilization) {
			diff.Clusters = append(diff.Clusters, ClusterChange{Workspace: c.Workspace, Name: c.Name, Before: u, After: c.Utilization})
		}
	}
	return diff
}

// sameScore reports whether a cluster has as many replicas as before, at the same score.
func sameScore(before, after engine.Choice) bool {
	return before.Name == after.Name && before.Replicas == after.Replicas && before.Score == after.Score
}

// movedReplicas returns how many replicas clusters lose that the workload still asks for.
func movedReplicas(before, after *Decision) int64 {
	fewer := int64(0)
	if len(after.Clusters) > 0 {
		fewer = max(0, asked(before)-asked(after))
	}
	return max(0, lostReplicas(before.Clusters, after.Clusters)-fewer)
}

// asked returns how many replicas a workload has, including those that wait.
func asked(d *Decision) int64 {
	replicas := d.WaitingReplicas
	for _, c := range d.Clusters {
		replicas += c.Replicas
	}
	return replicas
}

// lostReplicas returns the sum by which clusters have fewer replicas than before.
func lostReplicas(before, after []engine.Choice) (lost int64) {
	for _, b := range before {
		has := int64(0)
		if i := slices.IndexFunc(after, func(a engine.Choice) bool { return a.Name == b.Name }); i >= 0 {
			has = after[i].Replicas
		}
		lost += max(0, b.Replicas-has)
	}
	return lost
}
