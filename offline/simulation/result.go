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
	// Decisions in the order in which the workloads were placed: by priority, those of lost clusters before others and the largest of them
	// first, then by creation time and name.
	Decisions []Decision `json:"decisions"`
	// Clusters after the last decision, by workspace and name.
	Clusters []Cluster `json:"clusters"`
	// Suspended is what the controller decides nothing on now.
	Suspended []Suspended `json:"suspended,omitempty"`
	// Paths of workspaces that are named by their logical clusters, where they are known.
	Paths   Paths   `json:"paths,omitempty"`
	Summary Summary `json:"summary"`
}

// Paths are paths of workspaces by name, where that is another.
type Paths map[string]string

// Of is a workspace as people know it: its path, or its name where that is not known.
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

// Decision is where one workload runs.
type Decision struct {
	Workspace string   `json:"workspace"`
	Workload  Workload `json:"workload"`
	// Placement that the workload belongs to; empty without one.
	Placement string `json:"placement"`
	// Priority of the placement.
	Priority int32 `json:"priority,omitempty"`
	// Clusters that were chosen, best first.
	Clusters []engine.Choice `json:"clusters"`
	// Asked is how many clusters the placement asks for; 0 where the engine was not asked.
	Asked int `json:"asked,omitempty"`
	// Group is the fallback group that the workload stands in.
	Group string `json:"group,omitempty"`
	// Divided reports that the replicas are divided among the clusters, WaitingReplicas how many no cluster has then.
	Divided         bool  `json:"divided,omitempty"`
	WaitingReplicas int64 `json:"waitingReplicas,omitempty"`
	// Notes say how the clusters were chosen together.
	Notes []string `json:"notes,omitempty"`
	// NoBetterPlace is why the workload should leave clusters that it stays on, and what would help; empty where it stays on none.
	NoBetterPlace string `json:"noBetterPlace,omitempty"`
	// Preempts are the workloads in whose place this one is put, PreemptedBy those in whose favour it has lost clusters.
	Preempts    []Preemption `json:"preempts,omitempty"`
	PreemptedBy []Preemption `json:"preemptedBy,omitempty"`
	// GivesBack is what it has lost to workloads of other workspaces that are guaranteed what its own has borrowed, Reclaims what others have
	// given back for it.
	GivesBack []GivenBack `json:"givesBack,omitempty"`
	Reclaims  []GivenBack `json:"reclaims,omitempty"`
	// Held is where the workload goes once it is its turn, where the brake holds it; see Simulation.Pace.
	Held *Held `json:"held,omitempty"`
	// Gain is where the workload would be better off, where its placement has workloads move for a gain.
	Gain *Gain `json:"gain,omitempty"`
	// Rejected clusters by name; nil without Options.Rejected.
	Rejected []Rejection `json:"rejected,omitzero"`
	// Error is why the workload runs nowhere; empty where it runs.
	Error string `json:"error"`
	// Kept reports that the workload stays where an earlier decision put it.
	Kept bool `json:"kept,omitempty"`

	// Explained is the engine's decision; nil without Options.Explained, and where the engine was not asked.
	Explained *engine.Decision `json:"-"`
	// failed is true where an object or a policy is wrong, rather than no cluster feasible.
	failed bool
	// detailed is what is wanted of it beside where the workload runs.
	detailed detail
	// waitsFor is what it waits for beside room.
	waitsFor []string
	// waitsForOthers: it found no place, and affinity to other workloads counted. waitsForTurn: another workspace comes first.
	waitsForOthers, waitsForTurn bool
}

type detail struct{ explained, rejected bool }

// Failed reports that the workload could not be decided, because an object or a policy is wrong. A workload that no
// placement selects, or that no cluster is feasible for, has not failed.
func (d *Decision) Failed() bool { return d.failed }

// Workload identifies a workload.
type Workload struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
}

// String is for example "Deployment default/web".
func (w Workload) String() string { return w.Kind + " " + w.Namespace + "/" + w.Name }

// Rejection is why one cluster is not feasible.
type Rejection struct {
	Cluster string `json:"cluster"`
	// Stage of the filter, see filter.Stage.
	Stage string `json:"stage"`
	// Constraint that failed, where the stage is Constraint.
	Constraint string `json:"constraint"`
	Message    string `json:"message"`
}

// Cluster is how full a cluster is.
type Cluster struct {
	Workspace   string           `json:"workspace"`
	Name        string           `json:"name"`
	Allocatable map[string]int64 `json:"allocatable"`
	// Reserved is what decisions promise and the cluster does not report as requested yet.
	Reserved map[string]int64 `json:"reserved"`
	// Utilization is Reserved and what the cluster reports as requested, in percent of Allocatable.
	Utilization map[string]int64 `json:"utilization"`
}

// Summary counts.
type Summary struct {
	Workloads int `json:"workloads"`
	Placed    int `json:"placed"`
	Unplaced  int `json:"unplaced"`
	// Fewer of the placed workloads have fewer clusters than their placements ask for. Standing ones stay where they should
	// not, for want of a better place.
	Fewer    int `json:"fewer"`
	Standing int `json:"standing"`
	// Held workloads wait for their turn to leave a cluster.
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
