package simulation

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Top is how full the fleet is, and what waits for room. Its JSON is a contract like that of Result.
type Top struct {
	// Clusters by workspace and name.
	Clusters []ClusterLoad `json:"clusters"`
	// Queue of the workloads that belong to a placement and have no decision, in the order of their turns; nil where it
	// was not asked for.
	Queue   []Waiting  `json:"queue,omitzero"`
	Summary TopSummary `json:"summary"`
}

// ClusterLoad is how full one cluster is, resource by resource. A resource that is left out is 0.
type ClusterLoad struct {
	Cluster
	Location string `json:"location"`
	// Ready is the status of the cluster's Ready condition: True, False or Unknown.
	Ready string `json:"ready"`
	// Allocated is what the cluster itself reports as requested.
	Allocated map[string]int64 `json:"allocated"`
	// Free is Allocatable without Allocated and Reserved; negative where the cluster is overcommitted.
	Free map[string]int64 `json:"free"`
	// LargestFree is the most that is free on any one node; nil where the cluster does not report it.
	LargestFree map[string]int64 `json:"largestFree,omitzero"`
}

// Overcommitted tells whether more is in use or promised of any resource than there is.
func (l *ClusterLoad) Overcommitted() bool {
	for _, free := range l.Free {
		if free < 0 {
			return true
		}
	}
	return false
}

// Waiting is one workload of the queue.
type Waiting struct {
	Workspace string   `json:"workspace"`
	Workload  Workload `json:"workload"`
	Placement string   `json:"placement"`
	// Priority of the placement: what has more of it is placed first.
	Priority int32 `json:"priority"`
	// CreationTimestamp of the workload, since when it waits; nil where that is not known.
	CreationTimestamp *metav1.Time `json:"creationTimestamp,omitzero"`
	// WaitsFor says in one line what the workload waits for.
	WaitsFor string `json:"waitsFor"`
	// Nearest is the cluster that comes nearest to being feasible; empty where one is, none is registered, or Error says
	// more.
	Nearest string `json:"nearest"`
	// Obstacles are all that keeps Nearest from being feasible, in the order of the stages.
	Obstacles []Obstacle `json:"obstacles"`
	// Error is what is wrong with the workload, its placement or the policies, so that it cannot be decided; empty where it
	// can.
	Error string `json:"error"`
}

// TopSummary counts.
type TopSummary struct {
	Clusters int `json:"clusters"`
	// Overcommitted clusters, of any resource.
	Overcommitted int `json:"overcommitted"`
	// Waiting workloads, whether Queue was asked for or not.
	Waiting int `json:"waiting"`
}

// Top tells how full the clusters are, and what waits, as the loaded PlacementDecisions leave them: nothing is placed. It
// fails only as ctx ends.
func (s *Simulation) Top(ctx context.Context) (*Top, error) {
	top := &Top{Clusters: []ClusterLoad{}}
	for _, w := range s.workspaces {
		for _, row := range s.engine.Snapshot(w.Name).Rows() {
			load := newLoad(w.Name.String(), row)
			top.Clusters = append(top.Clusters, load)
			if load.Overcommitted() {
				top.Summary.Overcommitted++
			}
		}
	}
	items := slices.DeleteFunc(s.items(), func(i item) bool {
		at, stands := s.stand(i)
		return i.placement == nil || stands && len(at.clusters) > 0 || i.End() != ""
	})
	top.Summary.Clusters, top.Summary.Waiting = len(top.Clusters), len(items)
	if !s.options.Queue {
		return top, nil
	}
	top.Queue = make([]Waiting, 0, len(items))
	known := map[wait]*Waiting{}
	for i, item := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s.options.Progress != nil {
			s.options.Progress(i, len(items))
		}
		waiting := Waiting{
			Workspace: item.workspace.Name.String(), Workload: item.name(), Placement: item.placement.name, Priority: item.placement.priority,
			Obstacles: []Obstacle{},
		}
		if at := item.GetCreationTimestamp(); !at.IsZero() {
			waiting.CreationTimestamp = &at
		}
		s.waits(ctx, item, &waiting, known)
		top.Queue = append(top.Queue, waiting)
	}
	if ctx.Err() != nil { // then what the last waits for is not known
		return nil, context.Cause(ctx)
	}
	return top, nil
}

func newLoad(workspace string, row *snapshot.Row) ClusterLoad {
	load := ClusterLoad{
		Cluster: newCluster(workspace, row), Location: row.Location, Ready: "Unknown",
		Allocated: amounts(row.Allocated), Free: amounts(row.Free),
	}
	if ready, known := row.Condition(snapshot.ReadyCondition); known {
		load.Ready = ready.Status
	}
	if row.LargestFree != nil {
		load.LargestFree = amounts(*row.LargestFree)
	}
	return load
}

// wait is what workloads have in common that hold nothing and wait for the same.
type wait struct {
	workspace    logicalcluster.Name
	inputsDigest string
}

// waits finds out what a workload waits for, unless that is known of another like it.
func (s *Simulation) waits(ctx context.Context, item item, waiting *Waiting, known map[wait]*Waiting) {
	fail := func(err error) {
		waiting.Error = inFiles(item.workspace.Workspace, err).Error()
		waiting.WaitsFor = strings.ReplaceAll(waiting.Error, "\n", "; ")
	}
	if err := item.wrong(); err != nil {
		fail(err)
		return
	}
	request := engine.Request{Workspace: item.workspace.Name, Placement: item.placement.compiled, Workload: item.Workload.Workload}
	key := wait{item.workspace.Name, s.engine.InputsDigest(request)}
	_, holds := s.stands[keyOf(item.workspace.Name, item.Reference)]
	if like := known[key]; like != nil && !holds {
		waiting.WaitsFor, waiting.Nearest, waiting.Obstacles, waiting.Error = like.WaitsFor, like.Nearest, like.Obstacles, like.Error
		return
	}
	if !holds {
		known[key] = waiting
	}
	decision, err := s.engine.Explain(ctx, request)
	if err != nil {
		fail(err)
		return
	}
	cluster, lacks := decision.Nearest()
	waiting.Nearest, waiting.Obstacles = cluster, obstacles(lacks)
	switch {
	case cluster != "":
		waiting.WaitsFor = cluster + ": " + strings.Join(filter.Remedies(lacks), "; ")
	case len(decision.Clusters) > 0:
		feasible, _, _ := strings.Cut(decision.Summary(), ":")
		waiting.WaitsFor = "its turn: " + feasible
	default:
		waiting.WaitsFor = decision.Summary()
	}
}
