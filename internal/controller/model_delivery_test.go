package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
)

// In some histories what is decided is delivered: a leader keeps Works as its passes say, beside these, and agents carry them out, some
// time or other, in part or in whole. Pods run where an agent has started them.

var workGroup = schema.GroupResource{Group: v1alpha1.GroupName, Resource: "works"}

// ran is what an agent has carried out of a workload.
type ran struct {
	work, revision string
	ready          bool
	object         deliveredObject
}

// deliveredObject is what the model renders of a workload.
type deliveredObject struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct{ Namespace, Name string } `json:"metadata"`
	Spec            struct{ Replicas, CPU int64 }    `json:"spec"`
}

// beginDelivering has a new leader deliver.
func (l *leader) beginDelivering() {
	if !l.delivers {
		return
	}
	l.deliverer = &delivery.Deliverer{Now: l.workspace.now, Actions: delivery.Actions{
		ListWorks: func(context.Context) ([]*v1alpha1.Work, error) { return l.storedWorks(), l.alive() },
		ReadWork: func(_ context.Context, name types.NamespacedName) (*v1alpha1.Work, error) {
			if w := l.works[name]; w != nil {
				return w, l.alive()
			}
			return nil, apierrors.NewNotFound(workGroup, name.Name)
		},
		WriteWork: l.writeWork,
		DeleteWork: func(_ context.Context, w *v1alpha1.Work) error {
			return l.attempt(func() error {
				stored := l.works[namespacedName(w)]
				if stored == nil || stored.UID != w.UID || stored.ResourceVersion != w.ResourceVersion {
					return apierrors.NewConflict(workGroup, w.Name, errors.New("changed"))
				}
				return l.expectCopiesToStay(func() { delete(l.works, namespacedName(w)) })
			})
		},
		MakeNamespace: func(context.Context, string) error { return l.alive() },
		Shown:         func(v1alpha1.ManifestReference) bool { return true },
		Render:        l.render,
	}}
	l.workspace.outcome = func() *delivery.Result { return l.outcome }
	l.workspace.handOver = func(r delivery.Round) {
		l.round = &r
		l.expectAssignments()
	}
}

// deliver makes a round of deliveries.
func (l *leader) deliver() {
	if l.round != nil {
		l.outcome = l.deliverer.Deliver(context.Background(), l.round, l.view.works)
	}
}

func (m *model) storedWorks() []*v1alpha1.Work {
	return slices.SortedFunc(maps.Values(m.works), func(a, b *v1alpha1.Work) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
}

// writeWork stores a Work as an API server does.
func (l *leader) writeWork(_ context.Context, w *v1alpha1.Work) (written *v1alpha1.Work, err error) {
	err = l.attempt(func() error {
		name, stored := namespacedName(w), l.works[namespacedName(w)]
		switch {
		case stored == nil && w.ResourceVersion != "":
			return apierrors.NewNotFound(workGroup, w.Name)
		case stored != nil && w.ResourceVersion == "":
			return apierrors.NewAlreadyExists(workGroup, w.Name)
		case stored != nil && w.ResourceVersion != stored.ResourceVersion:
			return apierrors.NewConflict(workGroup, w.Name, errors.New("changed"))
		case l.registrations[strings.TrimPrefix(w.Namespace, "cluster-")] == nil:
			return apierrors.NewForbidden(workGroup, w.Name, errors.New("its owner is gone"))
		}
		written = w.DeepCopy()
		written.ResourceVersion = l.next()
		if stored == nil {
			written.UID, written.Generation = types.UID("work-"+written.ResourceVersion), 1
		} else if written.Status = stored.Status; !equality.Semantic.DeepEqual(written.Spec, stored.Spec) {
			written.Generation = stored.Generation + 1
		}
		l.happens("writes of works")
		return l.expectCopiesToStay(func() { l.works[name] = written })
	})
	return written, err
}

// render makes what clusters are to have of a workload.
func (l *leader) render(a *delivery.Assignment, shares []delivery.Share) (all []delivery.Rendered) {
	w := l.sources[a.Source]
	for _, s := range shares {
		o := deliveredObject{TypeMeta: metav1.TypeMeta{APIVersion: a.APIVersion, Kind: a.Kind}}
		o.Metadata.Namespace, o.Metadata.Name = a.Namespace, a.Name
		o.Spec.Replicas, o.Spec.CPU = int64(s.Replicas), w.workload.Requests.CPU
		if a.Divided {
			o.Spec.CPU = w.workload.Whole().Share(int64(s.Replicas)).Requests.CPU
		} else if r := l.registrations[s.Name]; r != nil && r.Status.Nodes != nil {
			o.Spec.CPU = w.workload.On(int64(r.Status.Nodes.Usable), int64(r.Status.Nodes.Usable)).Requests.CPU
		}
		raw, err := json.Marshal(o)
		if err != nil {
			l.Fatal(err)
		}
		all = append(all, delivery.Rendered{Workload: &v1alpha1.Manifest{
			WorkloadUID: types.UID(a.UID), Revision: string(raw), Replicas: &s.Replicas, Object: runtime.RawExtension{Raw: raw}, Generation: a.Generation,
		}})
	}
	return all
}

// carryOut has the agent of a cluster carry out its Works, and report: a slow one removes nothing yet, and nothing that it starts is
// ready.
func (m *model) carryOut(name string, slow bool) {
	s := m.sites[name]
	if m.registrations[name] == nil {
		return
	}
	wanted := map[types.UID]bool{}
	for _, w := range m.storedWorks() {
		if w.Namespace != v1alpha1.WorkNamespace(name) {
			continue
		}
		status := v1alpha1.WorkStatus{ObservedGeneration: w.Generation}
		for i := range w.Spec.Manifests {
			wanted[w.Spec.Manifests[i].WorkloadUID] = true
			status.Manifests = append(status.Manifests, m.start(s, w.Name, &w.Spec.Manifests[i], slow))
		}
		m.tell(w, status)
	}
	for _, uid := range slices.Sorted(maps.Keys(s.runs)) {
		if wanted[uid] {
			continue
		}
		run := s.runs[uid]
		if w := m.works[types.NamespacedName{Namespace: v1alpha1.WorkNamespace(name), Name: run.work}]; slow && w != nil {
			status := *w.Status.DeepCopy()
			status.Removing = append(status.Removing, run.reference(uid))
			m.tell(w, status)
			continue
		}
		delete(s.runs, uid)
		delete(s.pods, uid)
		m.happens("copies that are removed")
	}
	m.report(name, -1)
}

// start has a cluster run what a manifest says, as far as there is room, and says how it fares.
func (m *model) start(s *site, work string, manifest *v1alpha1.Manifest, slow bool) v1alpha1.ManifestStatus {
	uid, run := manifest.WorkloadUID, ran{work: work, revision: manifest.Revision}
	if err := json.Unmarshal(manifest.Object.Raw, &run.object); err != nil {
		m.Fatal(err)
	}
	free := s.allocatable
	for other, amount := range s.pods {
		if other != uid {
			free -= amount
		}
	}
	before, there := s.runs[uid]
	run.ready = !slow || there && before.ready && before.revision == run.revision
	if amount := run.object.Spec.CPU; run.ready && amount <= free {
		s.pods[uid] = amount
	} else {
		run.ready = false
		s.pods[uid] = max(0, min(amount, free, s.pods[uid]))
	}
	s.runs[uid] = run
	status := v1alpha1.ManifestStatus{
		ManifestReference: run.reference(uid), Revision: manifest.Revision, Since: manifest.Since, Health: v1alpha1.HealthInProgress, Counts: &v1alpha1.WorkloadCounts{},
	}
	if run.ready {
		status.Health, status.Counts.Ready = v1alpha1.HealthCurrent, int32(run.object.Spec.Replicas)
	}
	return status
}

func (r *ran) reference(uid types.UID) v1alpha1.ManifestReference {
	return v1alpha1.ManifestReference{APIVersion: r.object.APIVersion, Kind: r.object.Kind, Namespace: r.object.Metadata.Namespace, Name: r.object.Metadata.Name, WorkloadUID: uid}
}

// tell writes the status of a Work.
func (m *model) tell(w *v1alpha1.Work, status v1alpha1.WorkStatus) {
	if !equality.Semantic.DeepEqual(w.Status, status) {
		told := w.DeepCopy()
		told.Status, told.ResourceVersion = status, m.next()
		m.works[namespacedName(w)] = told
	}
}

// deliverSome has a leader deliver, or an agent carry out its Works.
func (m *model) deliverSome() {
	if !m.delivers {
		return
	}
	if rapid.Bool().Draw(m.T, "agents") {
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.sites))).Draw(m.T, "cluster")
		m.carryOut(name, rapid.IntRange(0, 2).Draw(m.T, "slow") == 2)
		return
	}
	m.leader.deliver()
}

// deliverAll has the leader deliver, and all agents carry that out.
func (m *model) deliverAll() {
	if !m.delivers {
		return
	}
	m.leader.deliver()
	for _, name := range slices.Sorted(maps.Keys(m.sites)) {
		m.carryOut(name, false)
	}
}

// copies are those of the workloads as the Works have them that are stored.
func (m *model) copies() *delivery.Copies {
	return delivery.CopiesOf(slices.Sorted(maps.Keys(m.registrations)), m.storedWorks())
}

// copiesToRun counts the clusters that are to run a workload, but for those that are lost.
func (l *leader) copiesToRun(copies map[string]*delivery.Copy) (n int) {
	for i := range l.round.Clusters {
		if c := &l.round.Clusters[i]; c.Delivers && !c.Lost && copies[c.Name] != nil && copies[c.Name].Manifest != nil {
			n++
		}
	}
	return n
}

// expectCopiesToStay checks that a write leaves every workload that has a place, and may be somewhere else only once it is ready there, a copy
// at least.
func (l *leader) expectCopiesToStay(write func()) error {
	before := l.copies()
	write()
	after := l.copies()
	for i := range l.round.Clusters {
		if r := l.registrations[l.round.Clusters[i].Name]; r == nil || r.UID != l.round.Clusters[i].UID {
			return nil // what was ready there has gone with the registration, and the leader does not know yet
		}
	}
	for _, a := range l.round.Assignments {
		uid := types.UID(a.UID)
		if a.State == delivery.Decided && l.copiesToRun(before.Of(uid)) > 0 && l.copiesToRun(after.Of(uid)) == 0 && l.clock.Before(a.MoveBy()) {
			l.Fatalf("%s is to be on %v, and loses its last copy", a.Name, a.Targets)
		}
	}
	return nil
}

// expectAssignments checks that a workload that runs somewhere, as the leader is shown, and is not gone, has an assignment.
func (l *leader) expectAssignments() {
	shown := delivery.CopiesOf(slices.Sorted(maps.Keys(l.registrations)), l.view.works)
	for name, w := range l.workloads {
		assigned := slices.ContainsFunc(l.round.Assignments, func(a *delivery.Assignment) bool { return a.UID == string(w.UID) })
		if l.copiesToRun(shown.Of(w.UID)) > 0 && !assigned {
			l.Fatalf("%s runs on %v and has no assignment", name, slices.Sorted(maps.Keys(shown.Of(w.UID))))
		}
	}
}

// expectGone checks that what a write takes off the clusters that a workload leaves is not there any more.
func (l *leader) expectGone(before, after map[string]v1alpha1.WorkloadDecision) {
	for name, was := range before {
		now, there := after[name]
		if !there || now.Workload.UID != was.Workload.UID {
			continue
		}
		l.expectNoLessThanRuns(name, &was, &now)
		for _, left := range was.Leaving {
			stays := slices.ContainsFunc(now.Leaving, func(o v1alpha1.LeavingCluster) bool { return o.Name == left.Name }) ||
				slices.Contains(clusterNames(now.Clusters), left.Name)
			c := l.workspace.delivering[left.Name]
			if _, runs := l.sites[left.Name].runs[was.Workload.UID]; runs && !stays && c.Delivers && !c.Lost && l.registrations[left.Name] != nil {
				l.Fatalf("%s is said to be gone from %s, and runs there", name, left.Name)
			}
			l.happens("departures")
		}
	}
}

// expectNoLessThanRuns checks that what is reserved on a cluster is no less than before, or no less than what its Works and its agent may still
// run. It does not claim that of divided shares: one that comes to nothing and back, or that another placement divides, may be reserved anew.
func (l *leader) expectNoLessThanRuns(name string, was, now *v1alpha1.WorkloadDecision) {
	if w := l.workloads[name]; was.Divided || now.Divided || was.Group != now.Group || w != nil && w.workload.PerNode {
		return // what runs of one for each node follows the nodes
	}
	uid, copies := was.Workload.UID, l.copies().Of(was.Workload.UID)
	for _, c := range now.Clusters {
		d, before := l.workspace.delivering[c.Name], promisedOn(was, c.Name)
		if before == 0 || !d.Delivers || d.Lost || l.registrations[c.Name] == nil || c.ReservationExpiredAt != nil {
			continue
		}
		runs := l.sites[c.Name].runs[uid].object.Spec.CPU
		if copied := copies[c.Name]; copied != nil && copied.Manifest != nil {
			var o deliveredObject
			if err := json.Unmarshal(copied.Manifest.Object.Raw, &o); err != nil {
				l.Fatal(err)
			}
			runs = max(runs, o.Spec.CPU)
		}
		after := amountOf(*now, c)
		if after < min(before, runs) {
			l.Fatalf("%s: %d instead of %d are reserved on %s, and it may still run %d there", name, after, before, c.Name, runs)
		}
		if after < before {
			l.happens("reservations that fall")
		}
	}
}

// promisedOn is what a decision promises on a cluster, or on one that the workload leaves: 0 where that has expired.
func promisedOn(d *v1alpha1.WorkloadDecision, cluster string) int64 {
	for _, c := range d.Clusters {
		if c.Name == cluster && c.ReservationExpiredAt == nil {
			return amountOf(*d, c)
		}
	}
	for _, l := range d.Leaving {
		if l.Name == cluster {
			return millis(l.Reserved)
		}
	}
	return 0
}

// expectDelivered checks that at rest each workload runs where it is decided to be, and nowhere else.
func (m *model) expectDelivered() {
	if !m.delivers {
		return
	}
	durable := m.durable()
	for _, cluster := range slices.Sorted(maps.Keys(m.sites)) {
		runs := m.sites[cluster].runs
		for name, d := range durable {
			_, there := runs[d.Workload.UID]
			if belongs := slices.Contains(clusterNames(d.Clusters), cluster); belongs != there {
				m.Fatalf("%s is decided to be on %v, and runs on %s: %t", name, clusterNames(d.Clusters), cluster, there)
			}
			if len(d.Leaving) > 0 {
				m.Fatalf("%s still leaves %v", name, d.Leaving)
			}
		}
		for uid := range runs {
			if !slices.ContainsFunc(slices.Collect(maps.Values(durable)), func(d v1alpha1.WorkloadDecision) bool { return d.Workload.UID == uid }) {
				m.Fatalf("%s still runs on %s, without a decision", uid, cluster)
			}
		}
	}
}

// source makes a workload be another one for those who deliver it.
func (m *model) source(w *workloadObject) {
	if !m.delivers {
		return
	}
	w.source = &delivery.Source{Reference: w.workload.Reference, Generation: int64(m.version), ResourceVersion: m.next()}
	m.sources[w.source] = w
}

// attempt makes a write, unless the leader is dead or fenced, or the write is the one that fails.
func (l *leader) attempt(write func() error) error {
	if l.killAfter == 0 {
		l.dead = true
	}
	l.killAfter--
	if err := l.alive(); err != nil {
		return err
	}
	if l.failAt--; l.failAt == -1 {
		return apierrors.NewInternalError(fmt.Errorf("out of cheese"))
	}
	return write()
}
