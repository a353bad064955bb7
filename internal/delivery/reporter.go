package delivery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/panics"
)

// The status of a workload is written once nothing has changed for reportQuiet, after reportWithin at the latest, but no
// sooner than reportEvery after the last write. Becoming ready or failing is written at once. A workload that has no status yet
// gets reportFirst to become ready, since most do: this costs one write instead of two.
const (
	reportQuiet  = 700 * time.Millisecond
	reportWithin = 2 * time.Second
	reportEvery  = 3 * time.Second
	reportFirst  = 5 * time.Second
	// A failed write is retried after reportRetry, then after twice that, up to a minute.
	reportRetry = 200 * time.Millisecond
)

// reportsAtOnce is how many statuses Next returns at most.
const reportsAtOnce = 50

// Reporter collects the status changes to write for the workloads of one workspace. It is safe for concurrent use.
type Reporter struct {
	now func() time.Time

	mu        sync.Mutex
	workloads map[types.UID]*reported
	// panics are those of workloads whose status could not be made.
	panics []error
}

// NewReporter returns a Reporter that has nothing to write.
func NewReporter(now func() time.Time) *Reporter {
	return &Reporter{now: now, workloads: map[types.UID]*reported{}}
}

// reported is a workload whose status may have to be written.
type reported struct {
	rollout *Rollout
	update  Update
	// since is when the status began to differ from what is written.
	since time.Time
	// due is when it is written or looked at again; the zero time if neither.
	due time.Time
	// wrote is when it was last written, and source the workload after that write, until the watch shows another version.
	wrote  time.Time
	source *Source
	basis  *Source
	// backOff is how long it waits after a failure.
	backOff time.Duration
	writing bool
	// lastReported is what the last event reported, for a kind whose status is not written.
	lastReported *Finding
}

// Report takes over what runs. Unchanged workloads cost next to nothing. The errors are of workloads whose status cannot be made.
func (r *Reporter) Report(round *Round, copies *Copies, problems map[types.UID][]Problem) (errs []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clusters := make(map[string]*Cluster, len(round.Clusters))
	for i := range round.Clusters {
		clusters[round.Clusters[i].Name] = &round.Clusters[i]
	}
	there := make(map[types.UID]bool, len(round.Assignments))
	for _, a := range round.Assignments {
		if a.Source == nil || a.UID == "" {
			continue
		}
		uid := types.UID(a.UID)
		there[uid] = true
		r.take(uid, &Rollout{Assignment: a, Copies: copies.Of(uid), Clusters: clusters, Problems: problems[uid]})
	}
	maps.DeleteFunc(r.workloads, func(uid types.UID, w *reported) bool { return !there[uid] && !w.writing })
	errs, r.panics = r.panics, nil
	return errs
}

func (r *Reporter) take(uid types.UID, rollout *Rollout) {
	w := r.workloads[uid]
	if w == nil {
		w = &reported{}
		r.workloads[uid] = w
	}
	if w.source != nil && rollout.Source != w.basis {
		w.source, w.basis = nil, nil // the watch shows another version
	}
	before := w.rollout
	w.rollout = rollout
	if before != nil && before.alike(rollout) {
		return
	}
	r.refresh(w)
}

// refresh determines whether anything is to be written.
func (r *Reporter) refresh(w *reported) {
	now := r.now()
	rollout := *w.rollout
	if w.source != nil {
		assignment := *w.rollout.Assignment
		assignment.Source = w.source
		rollout.Assignment = &assignment
	}
	w.update = r.status(&rollout, now)
	switch {
	case !w.differs():
		w.since, w.due = time.Time{}, time.Time{}
		if w.update.Again > 0 {
			w.due = now.Add(w.update.Again)
		}
		return
	case w.since.IsZero():
		w.since = now
	}
	switch w.due = now; {
	case w.update.Turned:
	case len(rollout.Source.Status) == 0:
		w.due = w.since.Add(reportFirst)
	default:
		w.due = earlier(now.Add(reportQuiet), w.since.Add(reportWithin))
		w.due = later(w.due, w.wrote.Add(reportEvery))
	}
	if w.backOff > 0 {
		w.due = later(w.due, now.Add(w.backOff))
	}
}

// status returns what changes in the status of a workload. A panic affects only that workload.
func (r *Reporter) status(rollout *Rollout, now time.Time) (u Update) {
	if err := panics.Recovered(func() { u = rollout.Status(now) }); err != nil {
		r.panics = append(r.panics, fmt.Errorf("status of %s: %w", rollout.Reference, err))
	}
	return u
}

// differs reports whether there is anything to write or to report.
func (w *reported) differs() bool {
	return w.update.Status != nil || w.update.Delivered != nil && w.update.Before == nil && !w.writes() && w.event() != nil
}

// writes reports whether the status of the kind is written.
func (w *reported) writes() bool {
	return w.rollout.kindStatus().fill != nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// alike reports whether two rollouts lead to the same status.
func (r *Rollout) alike(o *Rollout) bool {
	if r.Source != o.Source || r.State != o.State || r.divides() != o.divides() || !slices.Equal(r.Targets, o.Targets) ||
		!slices.Equal(r.Problems, o.Problems) || len(r.Copies) != len(o.Copies) || (r.Placement == nil) != (o.Placement == nil) {
		return false
	}
	for cluster, c := range r.Copies {
		d := o.Copies[cluster]
		if d == nil || !c.alike(d) || !sameCluster(r.Clusters[cluster], o.Clusters[cluster]) {
			return false
		}
	}
	return !slices.ContainsFunc(r.Targets, func(t Target) bool { return !sameCluster(r.Clusters[t.Cluster], o.Clusters[t.Cluster]) })
}

func (r *Rollout) divides() bool {
	return r.Placement != nil && r.Placement.Spec.ReplicaScheduling != nil && r.Placement.Spec.ReplicaScheduling.Type == v1alpha1.ReplicasDivided
}

func sameCluster(a, b *Cluster) bool {
	return a == b || a != nil && b != nil && a.Delivers == b.Delivers && a.Silent == b.Silent && a.Lost == b.Lost
}

func (c *Copy) alike(d *Copy) bool {
	if c.Manifest == d.Manifest && c.Status == d.Status {
		return true
	}
	if (c.Manifest == nil) != (d.Manifest == nil) || c.Manifest != nil && (c.Manifest.Revision != d.Manifest.Revision || c.Manifest.Generation != d.Manifest.Generation) {
		return false
	}
	return equality.Semantic.DeepEqual(c.Status, d.Status)
}

// StatusWrite is a status to be written.
type StatusWrite struct {
	// Source is the workload, Patch the merge patch of its status; nil if the status of its kind is not written. The patch applies only
	// to the workload of this UID.
	*Source
	Patch []byte
	// Event is an event for its owner, nil if there is none.
	Event *Event

	status       map[string]any
	lastReported *Finding
	basis        *Source
}

// Event is an event about a workload.
type Event struct{ Type, Reason, Message string }

// Next takes statuses that are due. wait is when there may be more; 0 if not before the next Report.
func (r *Reporter) Next() (next []*StatusWrite, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	var due []*reported
	for _, w := range r.workloads {
		if w.writing || w.due.IsZero() {
			continue
		}
		if left := w.due.Sub(now); left <= 0 {
			due = append(due, w)
		} else if wait == 0 || left < wait {
			wait = left
		}
	}
	slices.SortFunc(due, func(a, b *reported) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.rollout.UID, b.rollout.UID))
	})
	for _, w := range due {
		if len(next) == reportsAtOnce {
			return next, time.Millisecond
		}
		if write := r.prepare(w); write != nil {
			next = append(next, write)
		}
	}
	return next, wait
}

// prepare makes the write for the current status of a workload.
func (r *Reporter) prepare(w *reported) *StatusWrite {
	r.refresh(w)
	if !w.differs() {
		return nil
	}
	write := &StatusWrite{Source: w.rollout.Source, Event: w.event(), status: w.update.Status, lastReported: w.update.Delivered, basis: w.rollout.Source}
	if w.update.Status != nil {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": w.rollout.UID}, "status": w.update.Status})
		if err != nil {
			panic(err) // strings, numbers and lists of them always encode
		}
		write.Patch = patch
	}
	w.writing = true
	return write
}

// event returns the event about a change of its problems: one when something goes wrong, and one when it is well again.
func (w *reported) event() *Event {
	before, after := w.update.Before, w.update.Delivered
	if !w.writes() {
		before = w.lastReported
	}
	switch {
	case after.wrong() && (!before.wrong() || before.Reason != after.Reason):
		return &Event{corev1.EventTypeWarning, "NotDelivered", after.Reason + ": " + after.Message}
	case before.wrong() && !after.wrong() && after != nil:
		return &Event{corev1.EventTypeNormal, "DeliveryResumed", after.Reason + ": " + after.Message}
	default:
		return nil
	}
}

// wrong reports whether a condition Delivered means that something is wrong, rather than under way.
func (f *Finding) wrong() bool {
	if f == nil || f.Status == corev1.ConditionTrue {
		return false
	}
	switch f.Reason {
	case v1alpha1.InProgressReason, v1alpha1.NotPlacedReason, v1alpha1.UnselectedReason, v1alpha1.DeliveredByOthersReason:
		return false
	}
	return true
}

// Wrote takes the outcome of writing a status. gone means that the workload no longer exists.
func (r *Reporter) Wrote(write *StatusWrite, err error, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.workloads[types.UID(write.UID)]
	if w == nil {
		return
	}
	w.writing = false
	now := r.now()
	switch {
	case gone:
		w.since, w.due = time.Time{}, time.Time{}
		return
	case err != nil:
		w.backOff = min(max(2*w.backOff, reportRetry), time.Minute)
		w.due = now.Add(w.backOff)
		return
	}
	w.backOff, w.since, w.wrote, w.lastReported = 0, time.Time{}, now, write.lastReported
	if write.status != nil && w.rollout.Source == write.basis {
		before := write.basis
		if w.source != nil {
			before = w.source
		}
		after := *before
		after.Status = merged(before.Status, write.status)
		w.source, w.basis = &after, write.basis
	}
	r.refresh(w)
}

// merged returns a status with a patch applied.
func merged(status []byte, patch map[string]any) []byte {
	content, err := json.Marshal(patch)
	if err != nil {
		return status
	}
	if len(status) == 0 {
		return content
	}
	after, err := jsonpatch.MergePatch(status, content)
	if err != nil {
		return content // a status that is not an object is replaced
	}
	return after
}
