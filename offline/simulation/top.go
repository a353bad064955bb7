package simulation

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Top is how full the fleet is, and which workloads wait. Its JSON is a contract like that of Result.
type Top struct {
	// Clusters by workspace and name.
	Clusters []ClusterLoad `json:"clusters"`
	// Queue holds the workloads that belong to a placement and have no decision, or wait for room for some of their replicas, in the
	// order in which they are placed; nil without Options.Queue.
	Queue []Waiting `json:"queue,omitzero"`
	// Accounts of the workspaces that share clusters.
	Accounts []Account `json:"accounts,omitempty"`
	// Headroom of the placements that ask for it; nil without Options.Headroom.
	Headroom []Headroom `json:"headroom,omitempty"`
	// Suspended is where the controller makes no decisions at present.
	Suspended []Suspended `json:"suspended,omitempty"`
	// Paths of workspaces that are named by their logical clusters, if known.
	Paths   Paths      `json:"paths,omitempty"`
	Summary TopSummary `json:"summary"`
}

// ClusterLoad is how full one cluster is, by resource. A resource that is left out is 0.
type ClusterLoad struct {
	Cluster
	Location string `json:"location"`
	// Ready is the status of the cluster's Ready condition: True, False or Unknown.
	Ready string `json:"ready"`
	// SchedulingDisabled: nothing new is placed there, since the cluster is cordoned or drained. Draining: what is there leaves.
	SchedulingDisabled bool `json:"schedulingDisabled,omitempty"`
	Draining           bool `json:"draining,omitempty"`
	// Allocated is what the cluster itself reports as requested.
	Allocated map[string]int64 `json:"allocated"`
	// Free is Allocatable minus Allocated and Reserved; negative if the cluster is overcommitted.
	Free map[string]int64 `json:"free"`
	// LargestFree is the most that is free on one node; nil if the cluster does not report it.
	LargestFree map[string]int64 `json:"largestFree,omitzero"`

	// Row is everything known of the cluster.
	Row *snapshot.Row `json:"-"`
}

// Overcommitted reports whether more is allocated and reserved of a resource than is allocatable.
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
	// Priority of the placement: higher ones are placed first.
	Priority int32 `json:"priority"`
	// CreationTimestamp of the workload; nil if not known.
	CreationTimestamp *metav1.Time `json:"creationTimestamp,omitzero"`
	// Position in the queue of the workspace: 1 is next.
	Position int `json:"position"`
	// Since is when it began to wait, as reported by the controller; nil if it has not reported that.
	Since *metav1.Time `json:"since,omitzero"`
	// WaitingReplicas is how many replicas wait, if it is placed in part.
	WaitingReplicas int64 `json:"waitingReplicas,omitempty"`
	// BlockedBy are the objects that keep it waiting.
	BlockedBy []v1alpha1.QueueBlocker `json:"blockedBy,omitempty"`
	// WouldFit is a cluster that would have room for it if it were registered.
	WouldFit *v1alpha1.SuggestedRegistration `json:"wouldFit,omitempty"`
	// NominatedClusters are where others make room for it, and Estimate is when there will be room, both as reported by the controller.
	NominatedClusters []string                `json:"nominatedClusters,omitempty"`
	Estimate          *v1alpha1.QueueEstimate `json:"estimate,omitempty"`
	// WaitsFor describes in one line what the workload waits for.
	WaitsFor string `json:"waitsFor"`
	// Nearest is the cluster closest to being feasible; empty if one is feasible, none is registered, or Error is
	// set.
	Nearest string `json:"nearest"`
	// Obstacles are all reasons why Nearest is not feasible, in the order of the stages.
	Obstacles []Obstacle `json:"obstacles"`
	// Error is why the workload cannot be decided: the workload, its placement or a policy has errors; empty if it can.
	Error string `json:"error"`
}

// TopSummary holds counts.
type TopSummary struct {
	Clusters int `json:"clusters"`
	// Overcommitted clusters have an overcommitted resource.
	Overcommitted int `json:"overcommitted"`
	// Waiting workloads are counted with or without Options.Queue.
	Waiting int `json:"waiting"`
}

// Top returns how full the clusters are, and which workloads wait. It places nothing. It fails only if ctx ends.
func (s *Simulation) Top(ctx context.Context) (*Top, error) {
	top := &Top{Clusters: []ClusterLoad{}, Suspended: s.suspended(), Paths: s.paths()}
	for _, w := range s.workspaces {
		if !s.shows(w.Name) {
			continue
		}
		var room map[string]capacity.Resources // what is free for a workspace that uses the clusters of another
		if s.fleets[w.Name] != w.Name {
			room = s.engine.Room(w.Name)
		}
		for _, row := range s.engine.Snapshot(w.Name).Rows() {
			load := newLoad(w.Name.String(), row)
			if left, bounded := room[row.Name]; bounded {
				load.Free = amounts(left)
			}
			top.Clusters = append(top.Clusters, load)
			if s.fleets[w.Name] != w.Name && s.shows(s.fleets[w.Name]) {
				continue // it is counted for the workspace that it belongs to
			}
			top.Summary.Clusters++
			if load.Overcommitted() {
				top.Summary.Overcommitted++
			}
		}
	}
	if s.options.Headroom {
		var err error
		if top.Headroom, err = s.headroom(ctx); err != nil {
			return nil, err
		}
	}
	items := slices.DeleteFunc(s.items(), func(i item) bool {
		current, assigned := s.current(i)
		return i.placement == nil || assigned && len(current.clusters) > 0 && i.waitingReplicas(current) == 0 || i.End() != ""
	})
	waiting := map[logicalcluster.Name]int{}
	for _, i := range items {
		waiting[i.workspace.Name]++
	}
	top.Accounts = s.accounts(waiting)
	items = shown(s, items, func(i *item) string { return i.workspace.Name.String() })
	top.Summary.Waiting = len(items)
	if !s.options.Queue {
		return top, nil
	}
	top.Queue = make([]Waiting, 0, len(items))
	evaluated, positions := map[class]*Waiting{}, map[logicalcluster.Name]int{}
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
		positions[item.workspace.Name]++
		waiting.Position = positions[item.workspace.Name]
		if queued := item.placement.queued(item.Reference); queued != nil {
			waiting.Since, waiting.NominatedClusters, waiting.Estimate = &queued.Since, queued.NominatedClusters, queued.Estimate
		}
		s.evaluate(ctx, item, &waiting, evaluated)
		top.Queue = append(top.Queue, waiting)
	}
	if ctx.Err() != nil { // the last evaluation may have been cut off
		return nil, context.Cause(ctx)
	}
	return top, nil
}

// waitingReplicas returns how many replicas of a divided workload are on none of its clusters.
func (i item) waitingReplicas(current assignment) int64 {
	if i.Err != nil || len(current.clusters) == 0 || i.placement.compiled == nil || i.placement.compiled.Divides(i.Workload.Workload) == nil {
		return 0
	}
	waiting := i.Replicas
	for _, c := range current.clusters {
		waiting -= c.Replicas
	}
	return max(0, waiting)
}

// queued returns what the status reports of a waiting workload; nil if nothing.
func (p *placementState) queued(ref workload.Reference) *v1alpha1.QueuedWorkload {
	for i := range p.queue {
		if q := &p.queue[i]; q.Workload.APIVersion == ref.APIVersion && q.Workload.Kind == ref.Kind && q.Workload.Name == ref.Name {
			return q
		}
	}
	return nil
}

func newLoad(workspace string, row *snapshot.Row) ClusterLoad {
	load := ClusterLoad{
		Cluster: newCluster(workspace, row), Location: row.Location, Ready: "Unknown",
		SchedulingDisabled: row.Cordoned(), Draining: row.Leaving(), Allocated: amounts(row.Allocated), Free: amounts(row.Free), Row: row,
	}
	if ready, known := row.Condition(snapshot.ReadyCondition); known {
		load.Ready = ready.Status
	}
	if row.LargestFree != nil {
		load.LargestFree = amounts(*row.LargestFree)
	}
	return load
}

// maxSuggestions is for how many classes of waiting workloads registrations are suggested: each is tried in a copy of its workspace.
const maxSuggestions = 20

// class is an equivalence class of waiting workloads: they wait for the same.
type class struct {
	workspace    logicalcluster.Name
	inputsDigest string
}

// evaluate determines what a workload waits for, once for each class. A workload with a reservation belongs to none, since an
// evaluation leaves its own reservation out.
func (s *Simulation) evaluate(ctx context.Context, item item, waiting *Waiting, evaluated map[class]*Waiting) {
	fail := func(err error) {
		waiting.Error = inFiles(item.workspace.Workspace, err).Error()
		waiting.WaitsFor = strings.ReplaceAll(waiting.Error, "\n", "; ")
	}
	if err := item.err(); err != nil {
		fail(err)
		return
	}
	current, _ := s.current(item)
	waiting.WaitingReplicas = item.waitingReplicas(current)
	request := s.request(item, current)
	if _, reserved := s.assignments[keyOf(item.workspace.Name, item.Reference)]; !reserved && !item.workspace.affine {
		key := class{item.workspace.Name, s.engine.InputsDigest(request)}
		if same := evaluated[key]; same != nil {
			waiting.WaitsFor, waiting.Nearest, waiting.Obstacles, waiting.Error = same.WaitsFor, same.Nearest, same.Obstacles, same.Error
			waiting.BlockedBy, waiting.WouldFit = same.BlockedBy, same.WouldFit
			return
		}
		evaluated[key] = waiting
	}
	decision, err := s.engine.Explain(ctx, request)
	if err != nil {
		fail(err)
		return
	}
	waiting.BlockedBy = decision.Blockers()
	if (len(decision.Clusters) == 0 || decision.Waiting > 0) && len(evaluated) <= maxSuggestions {
		if waiting.WouldFit, err = s.engine.Suggest(ctx, request); err != nil {
			fail(err)
			return
		}
	}
	cluster, lacks := decision.Nearest()
	waiting.Nearest, waiting.Obstacles = cluster, obstacles(lacks)
	switch {
	case cluster != "":
		waiting.WaitsFor = cluster + ": " + strings.Join(filter.Remedies(lacks), "; ")
	case decision.Waiting > 0:
		waiting.WaitsFor = decision.NoBetterPlace()
	case len(decision.Clusters) > 0:
		feasible, _, _ := strings.Cut(decision.Summary(), ":")
		waiting.WaitsFor = "its turn: " + feasible
	default:
		waiting.WaitsFor = decision.Summary()
	}
}
