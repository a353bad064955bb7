// Package simulation places the workloads of whole workspaces offline as the controller does: with the same engine, in the
// same order, and for the same reasons to stay or to move.
package simulation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/sharing"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Options of a Simulation. The zero value is ready to use.
type Options struct {
	// Fresh ignores PlacementDecisions, as if nothing had been placed yet.
	Fresh bool
	// About is the only workspace that results are about, as its users see them; all if empty. Workloads of others are placed because of the
	// clusters that they share with it.
	About logicalcluster.Name
	// Rejected adds the rejected clusters, with the reasons, to decisions.
	Rejected bool
	// Explained keeps the engine's decisions, including everything needed to explain them, in Decision.Explained.
	Explained bool
	// Queue adds the waiting workloads, and what they wait for, to Top.
	Queue bool
	// Headroom adds to Top whether placements survive the losses that they ask to survive. It costs a copy of the workspace for each domain.
	Headroom bool
	// Now is the simulated time; the time of New if zero.
	Now time.Time
	// Progress is called with the number of workloads that have been placed, or that Top has evaluated, or of domains whose loss Top has
	// rehearsed. It may be nil.
	Progress func(done, total int)
}

// Simulation is the state of the simulated workspaces. It is not safe for concurrent use.
type Simulation struct {
	options    Options
	engine     *engine.Engine
	policies   *policy.Compiler
	workspaces []*workspace
	// assignments of workloads by workspace and name. Invariant: the engine holds a reservation for each.
	assignments map[key]assignment
	// fleets maps workspaces to those whose clusters they use; shared and lookup are what this is derived from.
	fleets map[logicalcluster.Name]logicalcluster.Name
	shared map[logicalcluster.Name]*sharing.Workspace
	lookup sharing.Lookup
	// budget of disruptions, and what is left of it in this Run.
	budget disruption.Budget
	pacers map[logicalcluster.Name]*pacer
	// preempted are the workloads that have lost clusters to others in this Run.
	preempted map[key][]Preemption
	// gaveBack are those that have lost clusters to workloads of other workspaces in this Run.
	gaveBack map[key][]GivenBack
	// rejected holds the latest rejections of each class.
	rejected map[class]rejected
}

type workspace struct {
	*manifest.Workspace
	placements []*placementState
	selectors  []placement.Selector
	// policyErr is set if the policies are not in force.
	policyErr error
	// affine: a placement or a policy has affinity terms between workloads.
	affine bool
}

type placementState struct {
	name, namespace string
	priority        int32
	// preempts: its workloads may take the place of others. reclaimable: they give up what other workspaces are guaranteed.
	preempts, reclaimable bool
	compiled              *placement.Placement
	err                   error
	// queue is what its status reports of its waiting workloads.
	queue []v1alpha1.QueuedWorkload
	// unlimited: the brake is lifted for its workloads. suspended: nothing is decided on them.
	unlimited, suspended bool
	// candidate: the shadow policies decide for it, in a rollout.
	candidate bool
	// survive is the topology key of the losses that the placement asks to survive, empty if none.
	survive snapshot.TopologyKey
	uid     types.UID
}

type key struct {
	workspace logicalcluster.Name
	workload.Reference
}

func keyOf(workspace logicalcluster.Name, ref workload.Reference) key {
	ref.UID = ""
	return key{workspace, ref}
}

// assignment is where a workload is placed, and the digest of the inputs of that decision.
type assignment struct {
	uid       string
	placement types.NamespacedName
	// since is when it was decided.
	since        time.Time
	clusters     []engine.Choice
	group        string
	inputsDigest string
	history      []v1alpha1.DecisionChange
}

// New returns a simulation without workspaces.
func New(options Options) (*Simulation, error) {
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Options{Policies: policies})
	if err != nil {
		return nil, err
	}
	return &Simulation{options: options, engine: e, policies: policies, assignments: map[key]assignment{}, rejected: map[class]rejected{}}, nil
}

// Pairs returns the number of pairs of a workload and a cluster of its workspace.
func (s *Simulation) Pairs() (n int) {
	for _, w := range s.workspaces {
		n += len(w.Workloads) * s.engine.Snapshot(w.Name).Len()
	}
	return n
}

// ListRejected sets Options.Rejected.
func (s *Simulation) ListRejected(list bool) { s.options.Rejected = list }

// item is a workload to place.
type item struct {
	workspace *workspace
	manifest.Workload
	// placement that the workload belongs to; nil if there is none.
	placement *placementState
	// displaced: it is on a cluster that is lost. size is then how large it is.
	displaced bool
	size      float64
}

func (i item) turn() placement.Turn {
	t := placement.Turn{Displaced: i.displaced, Size: i.size, Workload: i.Object, Kind: i.Kind, APIVersion: i.APIVersion}
	if i.placement != nil {
		t.Priority = i.placement.priority
	}
	return t
}

// name of the workload.
func (i item) name() Workload { return nameOf(i.Reference) }

func nameOf(r workload.Reference) Workload {
	return Workload{r.APIVersion, r.Kind, r.Namespace, r.Name}
}

// placementNamed returns a placement of a workspace by name, nil if there is none.
func (w *workspace) placementNamed(name types.NamespacedName) *placementState {
	for _, p := range w.placements {
		if p.name == name.Name && p.namespace == name.Namespace {
			return p
		}
	}
	return nil
}

// items returns the workloads of a workspace.
func (w *workspace) items() []item {
	items := make([]item, len(w.Workloads))
	for i, o := range w.Workloads {
		items[i] = item{workspace: w, Workload: o}
		if owner, _ := placement.Owner(w.selectors, o.Workload); owner >= 0 {
			items[i].placement = w.placements[owner]
		}
	}
	return items
}

// items returns all workloads in the order in which they are placed.
func (s *Simulation) items() []item {
	var items []item
	for _, w := range s.workspaces {
		lost := s.lossOf(w)
		for _, i := range w.items() {
			i.displacedBy(lost, s.assignments[keyOf(w.Name, i.Reference)])
			items = append(items, i)
		}
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(a.turn().Compare(b.turn()), cmp.Compare(a.workspace.Name, b.workspace.Name))
	})
	return items
}

// request returns the engine request for a workload that belongs to a valid placement. A workload from a file has no UID unless the
// file comes from a server.
func (s *Simulation) request(i item, current assignment) engine.Request {
	w := i.Workload.Workload
	if w.UID == "" && current.uid != "" {
		named := *w
		named.UID, w = current.uid, &named
	}
	var since time.Time
	if queued := i.placement.queued(i.Reference); queued != nil {
		since = queued.Since.Time
	}
	return engine.Request{
		Workspace: i.workspace.Name, Placement: i.placement.compiled, Workload: w, Current: current.clusters, Group: current.group, Shadow: i.placement.candidate, Now: s.options.Now,
		Priority: i.placement.priority, Since: since,
	}
}

// err returns why a workload that belongs to a placement cannot be decided.
func (i item) err() error { return cmp.Or(i.Err, i.placement.err, i.workspace.policyErr) }

// current returns the assignment of a workload. An assignment of another workload of the same name is stale and counts as not found.
func (s *Simulation) current(i item) (a assignment, found bool) {
	a, found = s.assignments[keyOf(i.workspace.Name, i.Reference)]
	if found && (i.placement == nil || i.UID != "" && a.uid != "" && a.uid != i.UID) {
		return assignment{}, false
	}
	return a, found
}

// release gives up the assignment of a workload, stale or not.
func (s *Simulation) release(i item) {
	s.engine.Release(i.workspace.Name, i.Reference)
	delete(s.assignments, keyOf(i.workspace.Name, i.Reference))
}

// Clear removes all workloads from their clusters, so that Run places them anew.
func (s *Simulation) Clear() {
	for k := range s.assignments {
		s.engine.Release(k.workspace, k.Reference)
	}
	clear(s.assignments)
}

// Run places all workloads in the order of the controller: by priority, workloads of lost clusters first with the largest of them leading,
// then by creation time and name. It fails only if ctx ends: errors of a workload are in its decision.
func (s *Simulation) Run(ctx context.Context) (*Result, error) {
	return s.RunUntil(ctx, nil)
}

// RunUntil is Run up to and including the first workload for which last returns true, whose decision is kept as
// with Options.Explained; for the others no rejected clusters are listed. last may be nil.
func (s *Simulation) RunUntil(ctx context.Context, last func(*Decision) bool) (*Result, error) {
	items := s.items()
	start := time.Now()
	s.pacers, s.preempted, s.gaveBack = s.newPacers(), map[key][]Preemption{}, map[key][]GivenBack{}
	result := &Result{Decisions: make([]Decision, 0, len(items)), Clusters: []Cluster{}, Paths: s.paths()}
	wanted := -1
	for i, item := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s.options.Progress != nil {
			s.options.Progress(i, len(items))
		}
		d := Decision{Workspace: item.workspace.Name.String(), Workload: item.name(), Clusters: []engine.Choice{}}
		isLast := last != nil && last(&d)
		d.detailed = detail{explained: s.options.Explained || isLast, rejected: s.options.Rejected && (last == nil || isLast)}
		inLine := s.inLine(item)
		if !inLine {
			s.place(ctx, item, &d)
		}
		result.Decisions = append(result.Decisions, d)
		if isLast {
			if wanted = i; !d.waitsForOthers && !inLine && !s.mayGiveBack(item) {
				break
			}
			last = func(*Decision) bool { return false } // the others are placed for its sake
		}
	}
	if err := s.takeTurns(ctx, items, result.Decisions); err != nil {
		return nil, err
	}
	if err := s.placeWaiting(ctx, items, result.Decisions); err != nil {
		return nil, err
	}
	if wanted >= 0 {
		result.Decisions = result.Decisions[:wanted+1]
	}
	result.Decisions = shown(s, result.Decisions, func(d *Decision) string { return d.Workspace })
	result.Suspended = s.suspended()
	result.Summary = summarize(result.Decisions, time.Since(start))
	for _, w := range s.workspaces {
		if !s.shows(w.Name) {
			continue
		}
		for _, row := range s.engine.Snapshot(w.Name).Rows() {
			result.Clusters = append(result.Clusters, newCluster(w.Name.String(), row))
		}
	}
	return result, nil
}

// placeWaiting retries workloads that may have waited for others that were placed after them, as long as that places
// any.
func (s *Simulation) placeWaiting(ctx context.Context, items []item, decisions []Decision) error {
	for again := true; again; {
		again = false
		for i := range decisions {
			before := &decisions[i]
			if !before.waitsForOthers {
				continue
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.placeAgain(ctx, items[i], before)
			again = again || len(before.Clusters) > 0
		}
	}
	return nil
}

// placeAgain decides again for a workload, replacing an earlier decision.
func (s *Simulation) placeAgain(ctx context.Context, item item, d *Decision) {
	*d = Decision{Workspace: d.Workspace, Workload: d.Workload, Clusters: []engine.Choice{}, detailed: d.detailed}
	s.place(ctx, item, d)
}

// place decides for one workload, unless it stays where it is.
func (s *Simulation) place(ctx context.Context, item item, d *Decision) {
	if d.detailed.rejected {
		d.Rejected = []Rejection{}
	}
	unplaced := func(reason string) {
		s.release(item)
		d.Error = reason
	}
	if item.placement == nil {
		if a, held := s.heldUnowned(item); held {
			d.Placement, d.Kept, d.Clusters = a.placement.Name, true, a.clusters
			d.Held = &Held{To: []engine.Choice{}, Because: "no WorkloadPlacement selects it any more"}
			return
		}
		unplaced(fmt.Sprintf("no WorkloadPlacement of namespace %s selects this workload", item.Namespace))
		return
	}
	d.Placement, d.Priority, d.PreemptedBy = item.placement.name, item.placement.priority, s.preempted[keyOf(item.workspace.Name, item.Reference)]
	d.GivesBack = s.gaveBack[keyOf(item.workspace.Name, item.Reference)]
	current, assigned := s.current(item)
	if !assigned {
		if end := item.End(); end != "" {
			unplaced(string(end))
			return
		}
		s.release(item)
	}
	failed := func(err error) {
		// As in the controller: the workload keeps what it has and gets nothing new.
		d.failed, d.Error = true, inFiles(item.workspace.Workspace, err).Error()
		if d.Kept = assigned; assigned {
			d.Clusters = current.clusters
		}
	}
	if err := item.err(); err != nil {
		failed(err)
		return
	}
	request, decide := s.request(item, current), s.engine.Decide
	scheduled, err := s.engine.Scheduled(ctx, request)
	if err != nil {
		failed(err)
		return
	}
	d.Asked, d.Divided = scheduled.NumberOfClusters, scheduled.Divides(item.Workload.Workload) != nil
	if assigned {
		review, err := s.review(ctx, item, current, request)
		if err != nil {
			failed(err)
			return
		}
		changes := review != nil && review.Changes()
		if changes && review.Disrupts() && !s.disrupt(item.workspace, item.placement) {
			d.Kept, d.Clusters = true, current.clusters
			d.Held = &Held{To: append([]engine.Choice{}, review.Clusters...), Because: becauseOf(review.Left)}
			return
		}
		if !changes {
			d.Kept, d.Clusters, d.NoBetterPlace = true, current.clusters, review.NoBetterPlace()
			d.Gain = s.gain(ctx, item, current, request, scheduled)
			if d.Group = current.group; review != nil {
				d.WaitingReplicas, d.Notes = review.Waiting, review.Notes()
			}
			if d.detailed == (detail{}) && s.engine.InputsDigest(request) == current.inputsDigest {
				return
			}
			decide = s.engine.Explain
		}
	}
	decision, err := decide(ctx, request)
	if err == nil && !assigned && len(decision.Clusters) == 0 {
		decision, err = s.preempt(ctx, item, request, d, decision)
	}
	if err != nil {
		failed(err)
		return
	}
	if d.detailed.explained {
		d.Explained = decision
	}
	if d.detailed.rejected {
		d.Rejected = s.rejections(item.workspace.Name, decision, assigned)
	}
	d.NoBetterPlace = decision.NoBetterPlace()
	d.Asked, d.Group, d.WaitingReplicas, d.Notes = decision.Asked, decision.Group, decision.Waiting, decision.Notes()
	switch {
	case d.Kept && item.End() != "", d.Kept && decision.InputsDigest == current.inputsDigest:
	case len(decision.Clusters) == 0:
		d.waitsForOthers, d.waitsForTurn = decision.Related(), decision.AwaitsTurn()
		unplaced(strings.Join(append([]string{decision.Summary()}, d.waitsFor...), "; "))
	default: // other inputs can give other scores where the workload stays
		d.Clusters = decision.Clusters
		d.Kept = assigned && len(decision.Left) == 0 && len(d.Clusters) == len(current.clusters)
		s.assignments[keyOf(item.workspace.Name, item.Reference)] = assignment{
			uid: request.Workload.UID, placement: item.placement.compiled.NamespacedName(), since: s.options.Now, clusters: d.Clusters, group: d.Group,
			inputsDigest: decision.InputsDigest,
		}
	}
}

// rejected is the infeasible clusters of a class at one revision of the workspace.
type rejected struct {
	revision int64
	clusters []Rejection
}

// rejections lists the infeasible clusters, computed once for all workloads of a class while the fleet is the same. For
// a workload with a reservation, which is not counted against itself, they are computed separately.
func (s *Simulation) rejections(workspace logicalcluster.Name, d *engine.Decision, assigned bool) []Rejection {
	if assigned {
		return rejections(d)
	}
	of := class{workspace, d.Peers()}
	r, found := s.rejected[of]
	if !found || r.revision != d.Revision {
		r = rejected{d.Revision, rejections(d)}
		s.rejected[of] = r
	}
	return r.clusters
}

// review returns what would be decided for a workload that runs on current; nil if it has all that it asks for, or has
// ended.
func (s *Simulation) review(ctx context.Context, item item, current assignment, r engine.Request) (*engine.Decision, error) {
	switch item.End() {
	case "":
		return s.engine.Review(ctx, r)
	case workload.HasFinished, workload.Suspended: // it reserves nothing, for good or for now
		nothing := engine.Reservation{Workload: item.Reference, Placement: current.placement}
		for _, c := range current.clusters {
			nothing.Shares = append(nothing.Shares, capacity.Share{Cluster: c.Name})
		}
		return nil, s.engine.Restore(item.workspace.Name, nothing)
	}
	return nil, nil
}

func names(clusters []engine.Choice) []string {
	all := make([]string, len(clusters))
	for i, c := range clusters {
		all[i] = c.Name
	}
	return all
}
