package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/outcome"
	"github.com/kcp-placement/placement/internal/panics"
)

// Deliverer keeps the Works of one workspace in line with what its placing passes hand over.
//
// Works are the only durable state. Invariant: every write carries the version of the Work that it is based on, so what another
// leader has written is never overwritten unread.
type Deliverer struct {
	Actions
	// Now returns the current time.
	Now func() time.Time
	// AtOnce is how many clusters Works are written for at once; 1 if 0.
	AtOnce int
	limits *workLimits

	// mu is held while Works are written, except during the requests themselves.
	mu sync.Mutex

	// works are those of the workspace by name, as far as they are known: what the watch shows, and what was written since. It is
	// nil before they have been listed; stale is set when the outcome of a write is not known.
	works map[types.NamespacedName]*known
	stale bool
	// unshown are the Unshown Works of the last result.
	unshown []*v1alpha1.Work
	// copies are the copies in works.
	copies *Copies
	// deleted are Works that the watch may still show.
	deleted map[types.UID]bool
	// refused maps the revisions of manifests that the server rejects to the reason: they hold up no others.
	refused map[string]string
	// failures are failed writes and lookups of Works, namespaces and objects.
	failures failures
	// left are the clusters that copies were removed from, by workload, until nothing is left there.
	left       map[types.UID][]string
	departures Departures
	// from is the cluster at which the last round was superseded, and where the next begins.
	from string
}

// Actions are the side effects of delivering, as functions so that it can be tested without an API server.
type Actions struct {
	ListWorks func(context.Context) ([]*v1alpha1.Work, error)
	ReadWork  func(context.Context, types.NamespacedName) (*v1alpha1.Work, error)
	// WriteWork creates a Work without a resource version, and updates one that has it. It does not write the status.
	WriteWork     func(context.Context, *v1alpha1.Work) (*v1alpha1.Work, error)
	DeleteWork    func(context.Context, *v1alpha1.Work) error
	MakeNamespace func(ctx context.Context, name string) error
	// Gone returns which of the objects the server confirms to be gone. Shown reports whether the watch shows an object.
	Gone  func(context.Context, []v1alpha1.ManifestReference) (map[v1alpha1.ManifestReference]bool, error)
	Shown func(v1alpha1.ManifestReference) bool
	// Render returns what each cluster is to have of a workload, in the order of the shares. It is called for every
	// workload in each round, and is fast if nothing has changed.
	Render func(*Assignment, []Share) []Rendered
	// Superseded reports whether a later round has been handed over; nil if that never happens.
	//
	// Invariant: no write of a round begins once it is superseded. So once a new decision has been handed over, writes of the old one
	// are in flight for at most the duration of a write.
	Superseded func(*Round) bool
}

// Share is what a cluster is to have of a workload.
type Share struct {
	*Cluster
	Replicas int32
	// Before is the manifest that it has now; nil if it has none.
	Before *v1alpha1.Manifest
}

// Rendered is the manifests that a cluster is to have for a workload.
type Rendered struct {
	// Workload is its manifest; nil if it cannot be delivered.
	Workload *v1alpha1.Manifest
	// With are the objects that accompany it.
	With []Companion
	// Problems are why things are left out.
	Problems []Problem
}

// Companion is an object that accompanies a workload.
type Companion struct {
	v1alpha1.ManifestReference
	// Manifest is nil if the object cannot be delivered as it is.
	Manifest *v1alpha1.Manifest
}

// Result is the outcome of a round of deliveries.
type Result struct {
	// Problems are why workloads are not delivered as they should be, by UID. Clusters are why nothing can be written for a cluster.
	Problems map[types.UID][]Problem
	Clusters map[string]string
	// Finalizers are workloads whose finalizer has to be added or removed.
	Finalizers []Finalizer
	// Unshown are the known Works of which the watch shows an earlier version, or nothing, after the round. Unsure is set if it is not known
	// what is on the server.
	Unshown []*v1alpha1.Work
	Unsure  bool
	// Vanished is set if a Work in the Unshown of the last round is gone: whoever counted it as present should look again.
	Vanished bool
	// Errors are those of writes. After is when to try again though nothing changes; 0 is never.
	Errors []error
	After  time.Duration
}

// Finalizer is a workload that is to have FinalizerDelivery, or not to have it.
type Finalizer struct {
	*Source
	Wanted bool
}

// Newest returns the Works that the watch shows now, updated with those known from the round that it does not show yet. Before the first
// round nothing else is known.
//
// Invariant: what was written counts as present, however long the watch takes to show it.
func (r *Result) Newest(shown []*v1alpha1.Work) []*v1alpha1.Work {
	if r == nil || len(r.Unshown) == 0 {
		return shown
	}
	all, at := slices.Clone(shown), make(map[types.NamespacedName]int, len(shown))
	for i, w := range shown {
		at[nameOf(w)] = i
	}
	for _, w := range r.Unshown {
		if i, there := at[nameOf(w)]; !there {
			all = append(all, w)
		} else if outcome.Newer(w.ResourceVersion, all[i].ResourceVersion) {
			all[i] = w
		}
	}
	return all
}

func (r *Result) problem(uid types.UID, p Problem) {
	if !slices.Contains(r.Problems[uid], p) {
		r.Problems[uid] = append(r.Problems[uid], p)
	}
}

// within asks for another round in at most d.
func (r *Result) within(d time.Duration) {
	d = max(d, time.Millisecond)
	if r.After == 0 || d < r.After {
		r.After = d
	}
}

func (r *Result) fail(err error) { r.Errors = append(r.Errors, err) }

// Deliver brings the Works in line with what a placing pass has handed over. shown are the Works that the watch shows. A failure for one
// Work, cluster or workload holds up no other.
func (d *Deliverer) Deliver(ctx context.Context, round *Round, shown []*v1alpha1.Work) *Result {
	d.limits = cmp.Or(d.limits, &defaultWorkLimits)
	r := &Result{Problems: map[types.UID][]Problem{}, Clusters: map[string]string{}}
	d.failures.begin(d.Now(), r)
	defer d.reportUnshown(r)
	if err := d.load(ctx, shown); err != nil {
		r.fail(fmt.Errorf("reading Works: %w", err))
		return r
	}
	names := make([]string, len(round.Clusters))
	for i := range round.Clusters {
		names[i] = round.Clusters[i].Name
	}
	d.copies.Update(names, d.current())
	p := &planning{
		Deliverer: d, round: round, copies: d.copies, clusters: make(map[string]*clusterPlan, len(names)),
		result: r, asked: map[departure]bool{},
	}
	p.plan(ctx)
	var writing errgroup.Group
	writing.SetLimit(max(1, d.AtOnce))
	first := max(0, slices.Index(names, d.from))
	d.from = ""
	for _, name := range slices.Concat(names[first:], names[:first]) {
		writing.Go(func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.stale {
				r.within(time.Millisecond)
				return nil // the plan rests on outdated state
			}
			if err := panics.Recovered(func() { p.deliver(ctx, p.clusters[name]) }); err != nil {
				r.Clusters[name] = err.Error()
				r.fail(fmt.Errorf("Works of cluster %s: %w", name, err))
			}
			return nil
		})
	}
	_ = writing.Wait() // failures are in the result
	p.finalizers()
	return r
}

// request runs a request without holding the lock.
func (d *Deliverer) request(do func() error) error {
	d.mu.Unlock()
	defer d.mu.Lock()
	return do()
}

// superseded reports whether the plan is outdated.
func (p *planning) superseded() bool { return p.Superseded != nil && p.Superseded(p.round) }

// deliver writes the Works of a cluster that are not as they should be.
func (p *planning) deliver(ctx context.Context, c *clusterPlan) {
	if c.Delivers {
		for _, refused := range c.pack() {
			p.result.problem(refused.uid, Problem{Cluster: c.Name, Reason: v1alpha1.TooLargeReason, Message: refused.why})
		}
	} else {
		c.prune()
	}
	for _, s := range c.slots {
		var do func() error
		switch {
		case s.work != nil && len(s.manifests) == 0 && c.mayDelete(s):
			do = func() error { return p.delete(ctx, s) }
		case s.changed || s.work != nil && c.Delivers && !owned(s.work, c.Cluster):
			do = func() error { return p.write(ctx, c.Cluster, s) }
		default:
			continue
		}
		if p.superseded() {
			p.from = cmp.Or(p.from, c.Name)
			return
		}
		if p.try(s.name, c, do); p.stale {
			return
		}
	}
}

// try does something to a Work, unless it failed only recently.
func (p *planning) try(name types.NamespacedName, c *clusterPlan, do func() error) {
	r, err := p.result, p.failures.try("work "+name.String(), do)
	if err == nil {
		return
	}
	if r.Clusters[c.Name] == "" {
		r.Clusters[c.Name] = fmt.Sprintf("Work %s: %v", name, err)
	}
	if errors.Is(err, errWaits) {
		return
	}
	r.fail(fmt.Errorf("writing Work %s: %w", name, err))
	if !outcome.Refused(err) {
		p.stale = true
	}
}

// write writes a Work, unless the round is superseded. It retries a conflict in which only the status has changed.
func (p *planning) write(ctx context.Context, c *Cluster, s *slot) error {
	d := p.Deliverer
	for attempt := 0; !p.superseded(); attempt++ {
		var written *v1alpha1.Work
		object := s.object(c)
		err := d.request(func() (err error) {
			written, err = d.WriteWork(ctx, object)
			return err
		})
		switch {
		case err == nil:
			d.wrote(s, written)
			return nil
		case s.work == nil && apierrors.IsNotFound(err) && attempt == 0:
			if err := d.request(func() error { return d.MakeNamespace(ctx, s.name.Namespace) }); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("namespace %[1]s is missing and cannot be made: %[2]w; make it: kubectl create namespace %[1]s", s.name.Namespace, err)
			}
		case s.work != nil && apierrors.IsConflict(err) && attempt < 5:
			var now *v1alpha1.Work
			if err := d.request(func() (err error) {
				now, err = d.ReadWork(ctx, s.name)
				return err
			}); err != nil {
				return err
			}
			if now.UID != s.work.UID || now.Generation != s.work.Generation {
				return apierrors.NewConflict(schema.GroupResource{Group: v1alpha1.GroupName, Resource: "works"}, s.name.String(), errors.New("another client has changed it"))
			}
			s.work = now
			d.works[s.name].Work = now
		default:
			d.refuse(s, err)
			return err
		}
	}
	return nil
}

// refuse records the manifests that a server calls invalid.
func (d *Deliverer) refuse(s *slot, err error) {
	status := apierrors.APIStatus(nil)
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return
	}
	if d.refused == nil || len(d.refused) > maxRefused {
		d.refused = map[string]string{}
	}
	for _, cause := range status.Status().Details.Causes {
		var at int
		if n, _ := fmt.Sscanf(cause.Field, "spec.manifests[%d]", &at); n == 1 && at >= 0 && at < len(s.manifests) {
			d.refused[s.manifests[at].Revision] = fmt.Sprintf("the workspace's API server refuses it: %s: %s", cause.Field[strings.Index(cause.Field, "]")+1:], cause.Message)
		}
	}
}

// maxRefused bounds how many refused manifests are remembered.
const maxRefused = 10000

func (d *Deliverer) delete(ctx context.Context, s *slot) error {
	if err := d.request(func() error { return d.DeleteWork(ctx, s.work) }); err != nil {
		return err
	}
	d.deleted[s.work.UID] = true
	delete(d.works, s.name)
	return nil
}

// known is a Work with what is known of it.
type known struct {
	*v1alpha1.Work
	// index are its objects; nil until asked for.
	index index
	// since is when it was written, shown whether the watch has shown it since.
	since time.Time
	shown bool
}

// showWithin is how long the watch may take to show what was written, before the Works are listed.
const showWithin = 5 * time.Second

// load updates what is known of the Works: from what the watch shows, and from a list at first, after a write whose outcome
// is not known, and if the watch does not show what was written.
func (d *Deliverer) load(ctx context.Context, shown []*v1alpha1.Work) error {
	if d.works == nil {
		d.departures, d.left, d.deleted, d.stale, d.copies = Departures{}, map[types.UID][]string{}, map[types.UID]bool{}, true, &Copies{}
	}
	if !d.stale {
		d.take(shown)
	}
	if !d.stale {
		return nil
	}
	listed, err := d.ListWorks(ctx)
	if err != nil {
		return err
	}
	before := d.works
	d.works, d.stale = make(map[types.NamespacedName]*known, len(listed)), false
	for _, w := range shown { // what the watch shows and the list does not is deleted
		d.deleted[w.UID] = true
	}
	for _, w := range listed {
		delete(d.deleted, w.UID)
		name := nameOf(w)
		d.works[name] = &known{Work: w, since: d.Now()}
		if b := before[name]; b != nil && b.UID == w.UID && b.Generation == w.Generation {
			d.works[name].index = b.index
		}
	}
	d.take(shown)
	return nil
}

// take takes over what the watch shows.
func (d *Deliverer) take(shown []*v1alpha1.Work) {
	seen := make(map[types.NamespacedName]bool, len(shown))
	deleted := map[types.UID]bool{}
	for _, w := range shown {
		if d.deleted[w.UID] {
			deleted[w.UID] = true
			continue
		}
		name := nameOf(w)
		seen[name] = true
		k := d.works[name]
		switch {
		case k == nil:
			d.works[name] = &known{Work: w, since: d.Now(), shown: true}
		case k.ResourceVersion == w.ResourceVersion:
			k.shown = true
		case outcome.Newer(w.ResourceVersion, k.ResourceVersion):
			if k.UID != w.UID || k.Generation != w.Generation {
				k.index = nil
			}
			k.Work, k.shown = w, true
		}
	}
	d.deleted = deleted
	for name, k := range d.works {
		if !seen[name] && (k.shown || d.Now().Sub(k.since) >= showWithin) {
			d.stale = true
		}
	}
}

// wrote records the Work that a write has returned.
func (d *Deliverer) wrote(s *slot, written *v1alpha1.Work) {
	d.works[s.name] = &known{Work: written, index: s.index(), since: d.Now()}
}

// reportUnshown records in the result what is known of the Works beyond what the watch shows.
func (d *Deliverer) reportUnshown(r *Result) {
	r.Unsure = d.works == nil || d.stale
	for _, w := range d.unshown {
		now := d.works[nameOf(w)]
		r.Vanished = r.Vanished || now == nil || now.UID != w.UID
	}
	for _, k := range d.works {
		if !k.shown {
			r.Unshown = append(r.Unshown, k.Work)
		}
	}
	d.unshown = r.Unshown
}

// Copies returns the copies in the Works as known after a round; known is false if that may differ from what is on the server.
func (d *Deliverer) Copies(round *Round) (copies *Copies, known bool) {
	if d.works == nil || d.stale {
		return nil, false
	}
	names := make([]string, len(round.Clusters))
	for i := range round.Clusters {
		names[i] = round.Clusters[i].Name
	}
	d.copies.Update(names, d.current())
	return d.copies, true
}

// current returns the known Works, ordered by name.
func (d *Deliverer) current() []*v1alpha1.Work {
	works := make([]*v1alpha1.Work, 0, len(d.works))
	for _, k := range d.works {
		works = append(works, k.Work)
	}
	slices.SortFunc(works, func(a, b *v1alpha1.Work) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
	})
	return works
}

func nameOf(w *v1alpha1.Work) types.NamespacedName {
	return types.NamespacedName{Namespace: w.Namespace, Name: w.Name}
}
