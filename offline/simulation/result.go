package simulation

import (
	"cmp"
	"time"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Result of a simulation. Its JSON is a contract: fields may be added, none changes its meaning. CPU is in millicores,
// memory and storage in bytes, other resources in whole units.
type Result struct {
	// Decisions in the order in which the workloads were placed: by priority, workloads of lost clusters first with the largest of them
	// leading, then by creation time and name.
	Decisions []Decision `json:"decisions"`
	// Clusters after the last decision, by workspace and name.
	Clusters []Cluster `json:"clusters"`
	// Suspended is where the controller makes no decisions at present.
	Suspended []Suspended `json:"suspended,omitempty"`
	// Paths of workspaces that are named by their logical clusters, if known.
	Paths   Paths   `json:"paths,omitempty"`
	Summary Summary `json:"summary"`
}

// Paths maps names of workspaces to their paths, if these differ.
type Paths map[string]string

// Of returns the name of a workspace for people: its path, or its name if the path is not known.
func (p Paths) Of(workspace string) string { return cmp.Or(p[workspace], workspace) }

func (s *Simulation) paths() Paths {
	all := Paths{}
	for _, w := range s.workspaces {
		if name := w.Name.String(); w.Path != "" && w.Path != name && s.shows(w.Name) {
			all[name] = w.Path
		}
	}
	return all
}

// Decision is where one workload is placed.
type Decision struct {
	Workspace string   `json:"workspace"`
	Workload  Workload `json:"workload"`
	// Placement that the workload belongs to; empty if none.
	Placement string `json:"placement"`
	// Priority of the placement.
	Priority int32 `json:"priority,omitempty"`
	// Clusters that were chosen, best first.
	Clusters []engine.Choice `json:"clusters"`
	// Asked is how many clusters the placement asks for; 0 if the engine was not asked.
	Asked int `json:"asked,omitempty"`
	// Group is the workload's fallback group.
	Group string `json:"group,omitempty"`
	// Divided reports that the replicas are divided among the clusters, WaitingReplicas how many of them have no cluster.
	Divided         bool  `json:"divided,omitempty"`
	WaitingReplicas int64 `json:"waitingReplicas,omitempty"`
	// Notes explain how the clusters were chosen together.
	Notes []string `json:"notes,omitempty"`
	// NoBetterPlace is why the workload should leave clusters that it stays on, and what would help; empty if there are none.
	NoBetterPlace string `json:"noBetterPlace,omitempty"`
	// Preempts are the workloads whose place this one takes, PreemptedBy those for which it has lost clusters.
	Preempts    []Preemption `json:"preempts,omitempty"`
	PreemptedBy []Preemption `json:"preemptedBy,omitempty"`
	// GivesBack is what it has lost to workloads of other workspaces that are guaranteed what its own workspace has borrowed, Reclaims what
	// others have given back for it.
	GivesBack []GivenBack `json:"givesBack,omitempty"`
	Reclaims  []GivenBack `json:"reclaims,omitempty"`
	// Held is where the workload will go in its turn, if the brake holds it; see Simulation.Pace.
	Held *Held `json:"held,omitempty"`
	// Gain is where the workload would be better off, if its placement lets workloads move for a gain.
	Gain *Gain `json:"gain,omitempty"`
	// Rejected clusters by name; nil without Options.Rejected.
	Rejected []Rejection `json:"rejected,omitzero"`
	// Error is why the workload is not placed; empty if it is.
	Error string `json:"error"`
	// Kept reports that the workload stays where an earlier decision put it.
	Kept bool `json:"kept,omitempty"`

	// Explained is the engine's decision; nil without Options.Explained, and if the engine was not asked.
	Explained *engine.Decision `json:"-"`
	// failed is set if an object or a policy has errors, as opposed to no cluster being feasible.
	failed bool
	// detailed is what is wanted of it besides where the workload runs.
	detailed detail
	// waitsFor is what it waits for besides room.
	waitsFor []string
	// waitsForOthers: it found no place, and affinity to other workloads counted. waitsForTurn: another workspace comes first.
	waitsForOthers, waitsForTurn bool
}

type detail struct{ explained, rejected bool }

// Failed reports that the workload could not be decided because an object or a policy has errors. A workload that no
// placement selects, or that no cluster is feasible for, has not failed.
func (d *Decision) Failed() bool { return d.failed }

// Workload identifies a workload.
type Workload struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
}

// String returns for example "Deployment default/web".
func (w Workload) String() string { return w.Kind + " " + w.Namespace + "/" + w.Name }

// Rejection is why one cluster is not feasible.
type Rejection struct {
	Cluster string `json:"cluster"`
	// Stage of the filter, see filter.Stage.
	Stage string `json:"stage"`
	// Constraint that failed, if the stage is Constraint.
	Constraint string `json:"constraint"`
	Message    string `json:"message"`
}

// Cluster is the use of a cluster.
type Cluster struct {
	Workspace   string           `json:"workspace"`
	Name        string           `json:"name"`
	Allocatable map[string]int64 `json:"allocatable"`
	// Reserved is what decisions promise and the cluster does not yet report as requested.
	Reserved map[string]int64 `json:"reserved"`
	// Utilization is Reserved plus what the cluster reports as requested, in percent of Allocatable.
	Utilization map[string]int64 `json:"utilization"`
}

// Summary holds counts.
type Summary struct {
	Workloads int `json:"workloads"`
	Placed    int `json:"placed"`
	Unplaced  int `json:"unplaced"`
	// Fewer counts placed workloads with fewer clusters than their placements ask for. Standing ones stay where they should
	// not, for want of a better place.
	Fewer    int `json:"fewer"`
	Standing int `json:"standing"`
	// Held workloads wait their turn to leave a cluster.
	Held int `json:"held"`
	// Preempted workloads have lost clusters to others of higher priority.
	Preempted int `json:"preempted,omitempty"`
	// ElapsedMs is the time that the decisions took, in milliseconds.
	ElapsedMs int64 `json:"elapsedMs"`
}

func summarize(decisions []Decision, elapsed time.Duration) Summary {
	s := Summary{Workloads: len(decisions), ElapsedMs: elapsed.Milliseconds()}
	for i := range decisions {
		d := &decisions[i]
		if len(d.Clusters) > 0 {
			s.Placed++
		}
		if 0 < len(d.Clusters) && len(d.Clusters) < d.Asked {
			s.Fewer++
		}
		if d.NoBetterPlace != "" {
			s.Standing++
		}
		if d.Held != nil {
			s.Held++
		}
		if len(d.PreemptedBy) > 0 {
			s.Preempted++
		}
	}
	s.Unplaced = s.Workloads - s.Placed
	return s
}

func newCluster(workspace string, row *snapshot.Row) Cluster {
	return Cluster{
		Workspace: workspace, Name: row.Name,
		Allocatable: amounts(row.Allocatable), Reserved: amounts(row.Reserved), Utilization: amounts(row.Utilization()),
	}
}

func amounts(r capacity.Resources) map[string]int64 {
	all := map[string]int64{}
	for name, amount := range r.Each {
		all[name] = amount
	}
	return all
}

func rejections(d *engine.Decision) []Rejection {
	rejected := []Rejection{}
	for _, v := range d.Verdicts() {
		if v.Rejection != nil {
			rejected = append(rejected, Rejection{v.Cluster, string(v.Rejection.Stage), v.Rejection.Constraint, v.Rejection.Message})
		}
	}
	return rejected
}
