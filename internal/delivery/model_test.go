package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// The model is a server with Works, clusters with agents that apply them, and workloads that are decided on, in any order of events.
// A deliverer is killed between any two writes, gets no answer to some, and sees a watch that is behind.

var workGroup = schema.GroupResource{Group: v1alpha1.GroupName, Resource: "works"}

type world struct {
	*rapid.T
	deliverer *Deliverer
	now       time.Time
	version   int
	works     map[types.NamespacedName]*v1alpha1.Work
	// before are the Works as they were some time ago, which is what a slow watch shows.
	before []*v1alpha1.Work
	// unshown are those that the round before has told of.
	unshown    []*v1alpha1.Work
	namespaces map[string]bool
	workloads  map[string]*modelled
	companions map[string]int
	clusters   map[string]*physical
	placements []*v1alpha1.WorkloadPlacement
	// failAfter is how many writes are made before one fails; lost says that the failed one is made all the same.
	failAfter int
	lost      bool
	// handOverAfter is how many writes are begun before a later round is handed over, -1 where none is.
	handOverAfter int
	writes        int
	calm          bool
}

// modelled is a workload.
type modelled struct {
	Assignment
	needs []string
	// gone is set once the server has it no more.
	gone bool
}

// physical is a cluster: what it runs, with the revision and the Work that each object is from.
type physical struct {
	Cluster
	registered bool
	runs       map[objectKey]applied
	// wishes count how often it was said what it is to have of a workload.
	wishes map[types.UID]int
	// excused are workloads that it ran while it was lost or did not deliver: nobody waits until they are gone.
	excused map[types.UID]bool
}

type applied struct {
	revision string
	uid      types.UID
	replicas int32
	ready    bool
	work     string
	// wish is which of the wishes for the workload it fulfils.
	wish int
}

func newWorld(t *rapid.T) *world {
	w := &world{
		T: t, now: time.Unix(1e9, 0), works: map[types.NamespacedName]*v1alpha1.Work{}, namespaces: map[string]bool{}, workloads: map[string]*modelled{},
		companions: map[string]int{}, clusters: map[string]*physical{}, failAfter: -1, handOverAfter: -1,
	}
	for _, name := range []string{"a", "b", "c"} {
		w.clusters[name] = &physical{Cluster: Cluster{Name: name, Delivers: true, UID: types.UID("cluster-" + name)}, registered: true, runs: map[objectKey]applied{}, wishes: map[types.UID]int{}, excused: map[types.UID]bool{}}
	}
	for i := range 2 {
		p := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i), Namespace: "default", CreationTimestamp: metav1.Unix(int64(i), 0)}}
		p.Spec.Delivery.WhenUnselected = []v1alpha1.UnselectedAction{v1alpha1.KeepUnselected, v1alpha1.RemoveUnselected}[i]
		w.placements = append(w.placements, p)
	}
	w.restart()
	return w
}

// restart is a new process.
func (w *world) restart() {
	w.unshown = nil
	w.deliverer = &Deliverer{Now: func() time.Time { return w.now }, limits: &workLimits{workloads: 3, manifests: 6, bytes: 6000, freshBytes: 4000, few: 2, bytesOfOne: 600}, Actions: Actions{
		ListWorks: func(context.Context) ([]*v1alpha1.Work, error) { return w.listed(), nil },
		ReadWork: func(_ context.Context, name types.NamespacedName) (*v1alpha1.Work, error) {
			if stored := w.works[name]; stored != nil {
				return stored.DeepCopy(), nil
			}
			return nil, apierrors.NewNotFound(workGroup, name.Name)
		},
		WriteWork:  w.write,
		DeleteWork: w.remove,
		MakeNamespace: func(_ context.Context, name string) error {
			return w.attempt(func() error { w.namespaces[name] = true; return nil })
		},
		Gone: func(_ context.Context, asked []v1alpha1.ManifestReference) (map[v1alpha1.ManifestReference]bool, error) {
			gone := map[v1alpha1.ManifestReference]bool{}
			for _, m := range asked {
				_, there := w.companions[m.Name]
				gone[m] = !there
			}
			return gone, nil
		},
		Shown:      func(m v1alpha1.ManifestReference) bool { _, there := w.companions[m.Name]; return there },
		Render:     w.render,
		Superseded: func(*Round) bool { return w.handOverAfter == 0 },
	}}
}

// attempt makes a write, unless it is the one that fails.
func (w *world) attempt(write func() error) error {
	if w.failAfter == 0 && !w.calm {
		if w.lost {
			_ = write()
		}
		return errors.New("no answer")
	}
	w.failAfter--
	return write()
}

func (w *world) listed() []*v1alpha1.Work {
	all := make([]*v1alpha1.Work, 0, len(w.works))
	for _, stored := range w.works {
		all = append(all, stored.DeepCopy())
	}
	return all
}

// begin notes that a write of a Work begins.
func (w *world) begin() {
	switch {
	case w.handOverAfter == 0:
		w.Fatal("a write of a round begins that is superseded")
	case w.handOverAfter > 0:
		w.handOverAfter--
	}
}

func (w *world) write(_ context.Context, object *v1alpha1.Work) (written *v1alpha1.Work, err error) {
	w.begin()
	err = w.attempt(func() error {
		name := nameOf(object)
		stored := w.works[name]
		switch {
		case stored == nil && object.ResourceVersion != "":
			return apierrors.NewNotFound(workGroup, object.Name)
		case stored == nil && !w.namespaces[object.Namespace]:
			return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, object.Namespace)
		case stored != nil && object.ResourceVersion == "":
			return apierrors.NewAlreadyExists(workGroup, object.Name)
		case stored != nil && object.ResourceVersion != stored.ResourceVersion:
			return apierrors.NewConflict(workGroup, object.Name, nil)
		}
		for i, m := range object.Spec.Manifests {
			if strings.Contains(m.Revision, "invalid") {
				return apierrors.NewInvalid(schema.GroupKind{Kind: "Work"}, object.Name, field.ErrorList{
					field.Invalid(field.NewPath("spec", "manifests").Index(i).Child("object", "metadata", "labels"), "", "not a label")})
			}
		}
		w.check(stored, object)
		w.writes++
		w.version++
		made := object.DeepCopy()
		made.ResourceVersion = fmt.Sprint(w.version)
		if stored == nil {
			made.UID, made.Generation = types.UID(fmt.Sprintf("work-%d", w.version)), 1
		} else if made.Status = stored.Status; !equalSpecs(made, stored) {
			made.Generation = stored.Generation + 1
		}
		w.countWishes(stored, made)
		w.works[name], written = made, made.DeepCopy()
		w.checkUnique(name.Namespace)
		return nil
	})
	return written, err
}

// countWishes notes what a cluster is to have that it was not to have before, or not so.
func (w *world) countWishes(before, after *v1alpha1.Work) {
	had := map[types.UID]string{}
	if before != nil {
		for _, m := range before.Spec.Manifests {
			had[m.WorkloadUID] = m.Revision
		}
	}
	for _, m := range after.Spec.Manifests {
		if had[m.WorkloadUID] != m.Revision {
			w.at(after.Namespace).wishes[m.WorkloadUID]++
		}
	}
}

func equalSpecs(a, b *v1alpha1.Work) bool {
	x, _ := json.Marshal(a.Spec)
	y, _ := json.Marshal(b.Spec)
	return string(x) == string(y)
}

func (w *world) remove(_ context.Context, object *v1alpha1.Work) error {
	w.begin()
	return w.attempt(func() error {
		stored := w.works[nameOf(object)]
		if stored == nil || stored.UID != object.UID || stored.ResourceVersion != object.ResourceVersion {
			return apierrors.NewConflict(workGroup, object.Name, nil)
		}
		w.check(stored, &v1alpha1.Work{ObjectMeta: stored.ObjectMeta})
		if c := w.at(stored.Namespace); c.Delivers {
			for _, ran := range c.runs {
				if ran.work == stored.Name {
					w.Fatalf("Work %s is deleted before its agent has removed what was in it", nameOf(stored))
				}
			}
		}
		w.writes++
		delete(w.works, nameOf(object))
		return nil
	})
}

func (w *world) at(namespace string) *physical {
	return w.clusters[strings.TrimPrefix(namespace, "cluster-")]
}

// checkUnique holds that no object of a cluster is in two Works.
func (w *world) checkUnique(namespace string) {
	in := map[objectKey]string{}
	for name, stored := range w.works {
		if name.Namespace != namespace {
			continue
		}
		workloads := 0
		for i, key := range indexOf(stored) {
			if other, found := in[key]; found {
				w.Fatalf("%v is in Works %s and %s of %s", key, other, name.Name, namespace)
			}
			in[key] = name.Name
			if stored.Spec.Manifests[i].WorkloadUID != "" {
				workloads++
			}
		}
		if l := w.deliverer.limits; workloads > l.workloads || len(stored.Spec.Manifests) > l.manifests || int(stored.Spec.Workloads) != workloads {
			w.Fatalf("Work %s has %d workloads and %d manifests, and says %d", name, workloads, len(stored.Spec.Manifests), stored.Spec.Workloads)
		}
	}
}

// check holds what may not happen with one write.
func (w *world) check(before, after *v1alpha1.Work) {
	c := w.at(after.Namespace)
	had, has := map[types.UID]*v1alpha1.Manifest{}, map[types.UID]*v1alpha1.Manifest{}
	if before != nil {
		for i := range before.Spec.Manifests {
			had[before.Spec.Manifests[i].WorkloadUID] = &before.Spec.Manifests[i]
		}
	}
	for i := range after.Spec.Manifests {
		has[after.Spec.Manifests[i].WorkloadUID] = &after.Spec.Manifests[i]
	}
	for _, m := range w.workloads {
		uid := types.UID(m.UID)
		was, is := had[uid], has[uid]
		targets := map[string]int32{}
		for _, t := range m.Targets {
			targets[t.Cluster] = t.Replicas
		}
		_, wanted := targets[c.Name]
		switch {
		case m.gone || m.Deleting || uid == "":
		case m.State == Unknown && (is == nil) != (was == nil), m.State == Unknown && is != nil && is.Revision != was.Revision:
			w.Fatalf("%s changes on %s, and it is not known where it belongs", m.Name, c.Name)
		case m.State == Unselected && was != nil && was.WhenUnselected == v1alpha1.KeepUnselected && (is == nil || is.Revision != was.Revision):
			w.Fatalf("%s changes on %s, and is to be kept as it is", m.Name, c.Name)
		case m.State == Decided && was != nil && is == nil && len(targets) > 0 && m.MoveType() == v1alpha1.MakeBeforeBreak && c.Delivers && !c.Lost && w.now.Before(m.MoveBy()):
			if wanted {
				w.Fatalf("%s leaves %s, where it belongs", m.Name, c.Name)
			}
			for name := range targets {
				if t := w.clusters[name]; !t.registered || !t.Delivers || t.Lost || !w.saysReady(name, uid) {
					w.Fatalf("%s leaves %s before it is ready on %s", m.Name, c.Name, name)
				}
			}
		case m.State == Decided && was == nil && is != nil && m.MoveType() == v1alpha1.BreakBeforeMake:
			for name, other := range w.clusters {
				if _, stays := targets[name]; !stays && other.registered && other.Delivers && !other.Lost && other.has(uid) && !other.excused[uid] {
					w.Fatalf("%s comes to %s while it is on %s", m.Name, c.Name, name)
				}
			}
		}
		if m.gone || m.Deleting || m.State != Decided || !m.Divided || m.MoveType() != v1alpha1.BreakBeforeMake || is == nil || is.Replicas == nil || !w.now.Before(m.MoveBy()) {
			continue
		}
		if was == nil || was.Replicas != nil && *was.Replicas < *is.Replicas {
			for name, other := range w.clusters {
				if share, stays := targets[name]; stays && name != c.Name && other.registered && other.Delivers && !other.Lost && !other.excused[uid] && other.replicas(uid) > share {
					w.Fatalf("%s grows on %s while %s has %d and not %d yet", m.Name, c.Name, name, other.replicas(uid), share)
				}
			}
		}
	}
}

// saysReady says whether the agent of a cluster has said, of the Works of its registration as they are or as the watch shows them, that a
// workload is ready, and whether it is ready as it is to be now: not as it once was to be, though that may have been the same.
func (w *world) saysReady(cluster string, uid types.UID) bool {
	c := w.clusters[cluster]
	for _, ran := range c.runs {
		if ran.uid == uid && (ran.wish != c.wishes[uid] || !ran.ready) {
			return false
		}
	}
	for _, works := range [][]*v1alpha1.Work{w.listed(), w.before} {
		if copied := CopiesOf([]string{cluster}, works).Of(uid)[cluster]; copied != nil && owned(copied.Work, &c.Cluster) && copied.Health() == v1alpha1.HealthCurrent {
			return true
		}
	}
	return false
}

func (c *physical) has(uid types.UID) bool {
	for _, ran := range c.runs {
		if ran.uid == uid {
			return true
		}
	}
	return false
}

// replicas are those of a workload that the cluster runs.
func (c *physical) replicas(uid types.UID) (n int32) {
	for _, ran := range c.runs {
		if ran.uid == uid {
			n += ran.replicas
		}
	}
	return n
}

func reference(kind, name string) v1alpha1.ManifestReference {
	apiVersion := map[string]string{"Deployment": "apps/v1", "StatefulSet": "apps/v1"}[kind]
	return v1alpha1.ManifestReference{APIVersion: cmp.Or(apiVersion, "v1"), Kind: kind, Namespace: "default", Name: name}
}

func manifest(m v1alpha1.ManifestReference, content string) *v1alpha1.Manifest {
	raw, _ := json.Marshal(map[string]any{"apiVersion": m.APIVersion, "kind": m.Kind, "metadata": map[string]any{"namespace": m.Namespace, "name": m.Name}, "content": content})
	return &v1alpha1.Manifest{Revision: content, Object: runtime.RawExtension{Raw: raw}}
}

func (w *world) render(a *Assignment, shares []Share) (all []Rendered) {
	for _, s := range shares {
		var r Rendered
		r.Workload = manifest(reference(a.Kind, a.Name), fmt.Sprintf("%s generation %d with %d replicas for %s", a.UID, a.Generation, s.Replicas, a.Placement.Name))
		r.Workload.WorkloadUID, r.Workload.Replicas, r.Workload.WhenUnselected = types.UID(a.UID), &s.Replicas, a.Placement.Spec.Delivery.WhenUnselected
		for _, name := range w.workloads[a.Name].needs {
			version, there := w.companions[name]
			if !there {
				r.Problems = append(r.Problems, Problem{Reason: v1alpha1.MissingReferenceReason, Message: name})
				continue
			}
			content := fmt.Sprintf("version %d for %s", version, a.Placement.Name)
			if name == "large" {
				content += strings.Repeat(".", 4500)
			}
			if name == "refused" && version%2 == 0 {
				content += " is invalid"
			}
			r.With = append(r.With, Companion{reference("ConfigMap", name), manifest(reference("ConfigMap", name), content)})
		}
		all = append(all, r)
	}
	return all
}

// round is what a placing pass says.
func (w *world) round() *Round {
	r := &Round{}
	for _, name := range slices.Sorted(maps.Keys(w.clusters)) {
		if c := w.clusters[name]; c.registered {
			r.Clusters = append(r.Clusters, c.Cluster)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.workloads)) {
		if m := w.workloads[name]; !m.gone {
			a := m.Assignment
			source := *m.Source
			a.Source = &source
			r.Assignments = append(r.Assignments, &a)
		}
	}
	return r
}

// expectNewest checks that what was written is known to be there, however late the watch is, and that it is told what is not there any more.
func (w *world) expectNewest(r *Result, shown []*v1alpha1.Work) {
	known, there := map[types.NamespacedName]int64{}, map[types.UID]bool{}
	for _, work := range r.Newest(shown) {
		known[nameOf(work)], there[work.UID] = work.Generation, true
	}
	for _, work := range w.unshown {
		if !there[work.UID] && !r.Vanished {
			w.Fatalf("Work %s was there, is not any more, and nobody is told", nameOf(work))
		}
	}
	w.unshown = r.Unshown
	for name, stored := range w.works {
		if !r.Unsure && known[name] != stored.Generation {
			w.Fatalf("Work %s is of generation %d, known is %d", name, stored.Generation, known[name])
		}
	}
}

// deliver makes a round, with the Works that the watch shows.
func (w *world) deliver(shown []*v1alpha1.Work) *Result {
	round := w.round()
	r := w.deliverer.Deliver(w.Context(), round, shown)
	w.expectNewest(r, shown)
	for _, f := range r.Finalizers {
		m := w.workloads[f.Name]
		if m.gone || m.UID != f.UID {
			continue
		}
		if !f.Wanted {
			for name, c := range w.clusters {
				if c.registered && c.Delivers && !c.Lost && c.has(types.UID(f.UID)) && !c.excused[types.UID(f.UID)] {
					w.Fatalf("%s loses its finalizer while it is on %s", f.Name, name)
				}
			}
		}
		m.Finalizers = nil
		if f.Wanted {
			m.Finalizers = []string{v1alpha1.FinalizerDelivery}
		}
		m.gone = m.gone || m.Deleting && !f.Wanted
	}
	return r
}

// carryOut has an agent carry out its Works; slow ones remove nothing yet, and what they have applied is not ready.
func (w *world) carryOut(c *physical, slow bool) {
	if c.Lost || !c.registered || !c.Delivers {
		return
	}
	wanted := map[objectKey]bool{}
	for name, stored := range w.works {
		if w.at(name.Namespace) != c {
			continue
		}
		stored.Status = v1alpha1.WorkStatus{ObservedGeneration: stored.Generation}
		for i, key := range indexOf(stored) {
			m := stored.Spec.Manifests[i]
			wanted[key] = true
			ran := applied{revision: m.Revision, uid: m.WorkloadUID, ready: !slow, work: name.Name, wish: c.wishes[m.WorkloadUID]}
			if before, found := c.runs[key]; found && before.revision == m.Revision {
				ran.ready = ran.ready || before.ready
			}
			delete(c.excused, m.WorkloadUID)
			if m.Replicas != nil {
				ran.replicas = *m.Replicas
			}
			if slow {
				ran.replicas = max(ran.replicas, c.runs[key].replicas)
			}
			c.runs[key] = ran
			if m.WorkloadUID != "" {
				status := v1alpha1.ManifestStatus{ManifestReference: reference(key.Kind, key.Name), Revision: m.Revision, Since: m.Since, Health: v1alpha1.HealthInProgress, Counts: &v1alpha1.WorkloadCounts{Replicas: ran.replicas}}
				status.WorkloadUID = m.WorkloadUID
				if ran.ready {
					status.Health, status.Counts.Ready = v1alpha1.HealthCurrent, ran.replicas
				}
				stored.Status.Manifests = append(stored.Status.Manifests, status)
			}
		}
		w.version++
		stored.ResourceVersion = fmt.Sprint(w.version)
	}
	for key, ran := range c.runs {
		if wanted[key] {
			continue
		}
		stored := w.works[types.NamespacedName{Namespace: v1alpha1.WorkNamespace(c.Name), Name: ran.work}]
		if slow && stored != nil {
			removing := reference(key.Kind, key.Name)
			removing.WorkloadUID = ran.uid
			stored.Status.Removing = append(stored.Status.Removing, removing)
			continue
		}
		delete(c.runs, key)
	}
}

// register has a cluster be registered or not. Its Works go with the registration, and another of the name has another UID.
func (w *world) register(c *physical, registered bool) {
	if c.registered = registered; registered {
		c.UID += "'"
		c.runs = map[objectKey]applied{}
	}
	maps.DeleteFunc(w.works, func(name types.NamespacedName, _ *v1alpha1.Work) bool { return w.at(name.Namespace) == c })
}

// settle takes clusters off decisions that their workloads have left.
func (w *world) settle() {
	for _, m := range w.workloads {
		m.Leaving = slices.DeleteFunc(slices.Clone(m.Leaving), func(name string) bool {
			c := w.clusters[name]
			return !c.registered || !c.Delivers || c.Lost || !c.has(types.UID(m.UID)) && CopiesOf([]string{name}, w.listed()).Of(types.UID(m.UID)) == nil
		})
	}
}

func (w *world) pick() *modelled {
	names := []string{}
	for _, name := range slices.Sorted(maps.Keys(w.workloads)) {
		if m := w.workloads[name]; !m.gone && !m.Deleting {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		w.Skip("there is no workload")
	}
	return w.workloads[rapid.SampledFrom(names).Draw(w.T, "workload")]
}

func (w *world) pickCluster() *physical {
	return w.clusters[rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.T, "cluster")]
}

// decide has a workload belong elsewhere.
func (w *world) decide(m *modelled, targets []Target) {
	for _, t := range m.Targets {
		if !slices.Contains(m.Leaving, t.Cluster) {
			m.Leaving = append(m.Leaving, t.Cluster)
		}
	}
	m.Leaving = slices.DeleteFunc(m.Leaving, func(name string) bool {
		return slices.ContainsFunc(targets, func(t Target) bool { return t.Cluster == name })
	})
	m.State, m.Targets, m.DecidedAt, m.Divided = Decided, targets, w.now, rapid.Bool().Draw(w.T, "divided")
	m.Placement = w.placements[rapid.IntRange(0, 1).Draw(w.T, "placement")]
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				name := fmt.Sprintf("w%d", rapid.IntRange(0, 5).Draw(t, "name"))
				if m := w.workloads[name]; m != nil && !m.gone {
					t.Skip("it is there")
				}
				w.version++
				m := &modelled{needs: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z", "large", "refused"}), 0, 3, rapid.ID).Draw(t, "needs")}
				kind := rapid.SampledFrom([]string{"Deployment", "StatefulSet"}).Draw(t, "kind")
				m.Source = &Source{Reference: workload.Reference{APIVersion: "apps/v1", Kind: kind, Namespace: "default", Name: name, UID: fmt.Sprintf("uid-%d", w.version)}, Generation: 1}
				w.workloads[name] = m
			},
			"update": func(*rapid.T) { w.pick().Generation++ },
			"decide": func(t *rapid.T) {
				m := w.pick()
				var targets []Target
				for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(t, "targets") {
					targets = append(targets, Target{name, rapid.Int32Range(0, 3).Draw(t, "replicas")})
				}
				w.decide(m, targets)
			},
			"leave undecided": func(t *rapid.T) {
				m := w.pick()
				m.State = rapid.SampledFrom([]State{Unknown, Waiting, Unselected}).Draw(t, "state")
				if m.State == Unselected {
					m.Placement = nil
				}
				if m.State != Unknown {
					for _, target := range m.Targets {
						m.Leaving = append(m.Leaving, target.Cluster)
					}
					m.Targets = nil
				}
			},
			"delete": func(*rapid.T) {
				m := w.pick()
				m.Deleting = true
				m.gone = len(m.Finalizers) == 0
			},
			"change a companion": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"x", "y", "z", "large", "refused"}).Draw(t, "name")
				if rapid.Bool().Draw(t, "delete") {
					delete(w.companions, name)
				} else {
					w.companions[name]++
				}
			},
			"change a cluster": func(t *rapid.T) {
				c := w.pickCluster()
				for _, ran := range c.runs {
					c.excused[ran.uid] = true
				}
				switch rapid.IntRange(0, 2).Draw(t, "change") {
				case 0:
					c.Lost = !c.Lost
				case 1:
					c.Delivers = !c.Delivers
				case 2:
					w.register(c, !c.registered)
				}
			},
			"carry out": func(t *rapid.T) { w.carryOut(w.pickCluster(), rapid.Bool().Draw(t, "slow")) },
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "seconds")) * time.Second)
			},
			"settle": func(*rapid.T) { w.settle() },
			"deliver": func(t *rapid.T) {
				shown := w.listed()
				if rapid.Bool().Draw(t, "late") {
					shown = w.before
				}
				w.failAfter, w.lost = rapid.IntRange(-1, 3).Draw(t, "failAfter"), rapid.Bool().Draw(t, "lost")
				w.deliver(shown)
				if rapid.Bool().Draw(t, "killed") {
					w.restart()
				}
				w.before = shown
			},
			"show": func(*rapid.T) { w.before = w.listed() },
			"":     func(*rapid.T) {},
		}
		t.Repeat(steps)
		w.converge()
	})
}

// converge has everything work, and holds that it comes to what is decided, and then to rest.
func (w *world) converge() {
	w.calm = true
	for _, c := range w.clusters {
		if !c.registered {
			c.registered = true
			c.UID += "'"
			c.runs = map[objectKey]applied{}
		}
		c.Lost, c.Delivers = false, true
	}
	for range 8 {
		w.now = w.now.Add(time.Hour)
		w.deliver(w.listed())
		for _, c := range w.clusters {
			w.carryOut(c, false)
		}
		w.settle()
	}
	w.restart()
	for range 2 { // what is refused is found out, and told
		w.deliver(w.listed())
		w.now = w.now.Add(time.Hour)
	}
	for _, c := range w.clusters {
		w.carryOut(c, false)
	}
	w.writes = 0
	for range 2 {
		if r := w.deliver(w.listed()); w.writes > 0 || len(r.Finalizers) > 0 || len(r.Errors) > 0 {
			w.Fatalf("%d writes, finalizers %v and errors %v though nothing has changed", w.writes, r.Finalizers, r.Errors)
		}
	}
	for name, c := range w.clusters {
		runs, kept := map[types.UID]int32{}, false
		for _, m := range w.workloads { // what goes with a workload that stays as it is stays, too
			kept = kept || c.has(types.UID(m.UID)) && (m.State == Unknown || m.State == Unselected)
		}
		for _, ran := range c.runs {
			if ran.uid != "" {
				runs[ran.uid] = ran.replicas
			}
		}
		for _, m := range w.workloads {
			uid := types.UID(m.UID)
			replicas, found := runs[uid]
			delete(runs, uid)
			at := slices.IndexFunc(m.Targets, func(t Target) bool { return t.Cluster == name })
			switch {
			case m.gone || m.Deleting || m.State == Waiting:
				if found {
					w.Fatalf("%s still runs on %s", m.Name, name)
				}
			case m.State == Decided && (at >= 0) != found:
				w.Fatalf("%s runs on %s: %t, and belongs on %v", m.Name, name, found, m.Targets)
			case m.State == Decided && found && replicas != m.Targets[at].Replicas:
				w.Fatalf("%s has %d replicas on %s, and is to have %v", m.Name, replicas, name, m.Targets)
			}
			if m.State == Decided && found && !m.Deleting && !m.gone {
				for _, need := range m.needs {
					version, there := w.companions[need]
					if need == "refused" && version%2 == 0 {
						continue
					}
					if _, runs := c.runs[keyOfReference(reference("ConfigMap", need))]; there != runs && !kept {
						w.Fatalf("%s is on %s: %t, and %s needs it, which is there: %t", need, name, runs, m.Name, there)
					}
				}
			}
		}
		if len(runs) > 0 {
			w.Fatalf("%v still run on %s, and are gone", runs, name)
		}
	}
	for name, stored := range w.works {
		if len(stored.Spec.Manifests) == 0 {
			w.Fatalf("Work %s has nothing and is still there", name)
		}
		if !owned(stored, &w.at(name.Namespace).Cluster) {
			w.Fatalf("Work %s goes with %v", name, stored.OwnerReferences)
		}
	}
	// Once no agent delivers any more, no workload is held: nobody would ever release it.
	for _, c := range w.clusters {
		c.Delivers = false
	}
	w.deliver(w.listed())
	for _, m := range w.workloads {
		if !m.gone && m.State != Unknown && len(m.Finalizers) > 0 {
			w.Fatalf("%s keeps its finalizer though no agent delivers", m.Name)
		}
	}
}

// newDeployment is a workload that is decided on.
func (w *world) newDeployment(name string, targets ...Target) *modelled {
	m := &modelled{}
	m.Source = &Source{Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: name, UID: "uid-" + name}, Generation: 1}
	w.workloads[name] = m
	m.State, m.Targets, m.DecidedAt, m.Placement = Decided, targets, w.now, w.placements[0]
	return m
}

// TestThereAndBack: a workload moves to and fro between clusters whose agents are behind. What an agent has said of a copy before that
// was to go, and then to be there again just the same, is no reason to let another go.
func TestThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm = true
		m := w.newDeployment("w", Target{"a", 1})
		t.Repeat(map[string]func(*rapid.T){
			"decide": func(t *rapid.T) {
				w.decide(m, []Target{{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "target"), 1}})
			},
			"carry out": func(t *rapid.T) { w.carryOut(w.pickCluster(), rapid.Bool().Draw(t, "slow")) },
			"deliver":   func(*rapid.T) { w.deliver(w.listed()) },
			"again":     func(*rapid.T) { w.deliver(w.listed()) },
		})
	})
}

// TestAFormerRegistrationSaysNothing: a cluster is registered anew while a workload moves there, and the watch still shows that it is ready there.
func TestAFormerRegistrationSaysNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm = true
		m := w.newDeployment("w", Target{"a", 1})
		for _, on := range []string{"a", "b"} {
			w.decide(m, []Target{{on, 1}})
			w.deliver(w.listed())
			w.carryOut(w.clusters[on], false)
		}
		w.before = w.listed()
		w.register(w.clusters["b"], false)
		w.register(w.clusters["b"], true)
		w.deliver(w.before)
		if on := w.clusters["a"]; CopiesOf([]string{"a"}, w.listed()).Of(types.UID(m.UID)) == nil || !on.has(types.UID(m.UID)) {
			t.Fatal("it leaves a")
		}
	})
}

// TestSharesBreakFirst: a StatefulSet whose replicas are divided is divided anew time after time, on clusters whose agents are behind. No
// cluster gets more of it while another has more than its share, as check holds, and in the end all have their shares.
func TestSharesBreakFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm = true
		m := w.newDeployment("w", Target{"a", 2}, Target{"b", 2})
		m.Kind, m.Divided = "StatefulSet", true
		t.Repeat(map[string]func(*rapid.T){
			"divide": func(t *rapid.T) {
				a := rapid.Int32Range(0, 4).Draw(t, "a")
				w.decide(m, []Target{{"a", a}, {"b", 4 - a}})
				m.Divided = true
			},
			"carry out":                    func(t *rapid.T) { w.carryOut(w.pickCluster(), rapid.Bool().Draw(t, "slow")) },
			"deliver":                      func(*rapid.T) { w.deliver(w.listed()) },
			"a later round is handed over": func(t *rapid.T) { w.deliverSome(rapid.IntRange(0, 3).Draw(t, "writes")) },
		})
		w.converge()
	})
}

// deliverSome makes a round in the midst of which a later one is handed over.
func (w *world) deliverSome(writes int) {
	w.handOverAfter = writes
	w.deliver(w.listed())
	w.handOverAfter = -1
}

// TestEveryClusterHasItsTurn: where a later round is handed over at every write, each cluster is written for all the same.
func TestEveryClusterHasItsTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm = true
		busy := w.newDeployment("busy", Target{"a", 1})
		w.newDeployment("b", Target{"b", 1})
		w.newDeployment("c", Target{"c", 1})
		for range 12 {
			busy.Generation++
			w.deliverSome(1)
		}
		for _, uid := range []types.UID{"uid-busy", "uid-b", "uid-c"} {
			if copies := CopiesOf([]string{"a", "b", "c"}, w.listed()).Of(uid); len(copies) != 1 {
				t.Errorf("%s is delivered to %d clusters", uid, len(copies))
			}
		}
	})
}

// TestABusyWorkHoldsUpNoMove: in the Work to which a workload moves something changes again before the agent has told that it has carried
// out the last change, time after time. The old copy goes all the same once the new one is ready.
func TestABusyWorkHoldsUpNoMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm = true
		busy, m := w.newDeployment("busy", Target{"b", 1}), w.newDeployment("w", Target{"a", 1})
		round := func() {
			busy.Generation++
			w.deliver(w.listed())
			for _, c := range w.clusters {
				w.carryOut(c, false)
			}
			for name, stored := range w.works {
				if w.at(name.Namespace).Name == "b" { // it has changed again while the agent told
					stored.Status.ObservedGeneration = stored.Generation - 1
				}
			}
		}
		round()
		w.decide(m, []Target{{"b", 1}})
		for range 3 {
			round()
		}
		if copies := CopiesOf([]string{"a"}, w.listed()).Of("uid-w"); copies["a"] != nil && copies["a"].Manifest != nil {
			t.Error("w is still to run on a")
		}
	})
}

// TestAWrongMoveIsTold: an annotation that names no order of moves does not count, and the workload says so while it is delivered all the same.
func TestAWrongMoveIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm = true
		m := w.newDeployment("w", Target{"a", 1})
		m.Annotations = map[string]string{v1alpha1.AnnotationMove: "breakbeforemake"}
		told := w.deliver(w.listed()).Problems["uid-w"]
		if len(told) != 1 || !strings.Contains(told[0].Message, `annotation tmc.kcp.io/move: "breakbeforemake" must be`) {
			t.Errorf("told %v", told)
		}
		if CopiesOf([]string{"a"}, w.listed()).Of("uid-w")["a"] == nil {
			t.Error("it is not delivered")
		}
	})
}
