package apply

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

// state is everything the agent knows; plan derives what to do from it. It does no I/O.
type state struct {
	settings
	// kinds that may be applied, by apiVersion and kind.
	kinds         map[schema.GroupVersionKind]*kind
	namespaceKind *kind
	// works are those of the cluster, known once listed is set.
	works  map[string]*work
	listed bool
	// live are the agent's objects in the cluster; pods are the problems of workloads' pods.
	live map[id]*live
	pods pods
	// memory is the outcome of attempts. A restart loses it, and each object is applied once more.
	memory map[id]*memory
	// vanished are Works that are no longer seen.
	vanished map[string]*vanished

	// wanted is what all Works want; it is rebuilt when they have changed.
	wanted map[id]*wanted
	// namespaces is what is wanted in each namespace, in the order of application.
	namespaces map[string][]*wanted
	changed    bool
}

// settings do not change while the agent runs.
type settings struct {
	workspace, cluster string
	namespaceTemplate  string
	podSecurity        string
	pruneVolumes       bool
}

// action is a request to be made.
type action struct {
	// confirm is the name of a Work that the server is asked about, whether it is gone. Otherwise wanted is to be applied or, if that is nil,
	// the object with the id is to be removed.
	confirm  string
	id       id
	resource schema.GroupVersionResource
	wanted   *wanted
	live     *live
	// scaled leaves spec.replicas to an autoscaler.
	scaled bool
	// again is set after failures.
	again bool
	// readEvents is set if only the events about the object are to be read.
	readEvents bool
}

// namespaceKind is the kind of the namespaces that the agent makes.
var namespaceKind = schema.GroupKind{Kind: "Namespace"}

// isConfiguration reports which kinds are applied before others, and removed after them.
func isConfiguration(gk schema.GroupKind) bool {
	switch gk {
	case schema.GroupKind{Kind: "ServiceAccount"}, schema.GroupKind{Kind: "Secret"}, schema.GroupKind{Kind: "ConfigMap"}, claimKind:
		return true
	}
	return false
}

var claimKind = schema.GroupKind{Kind: "PersistentVolumeClaim"}

// ordered returns the Works by name, those of other workspaces last. The first Work that wants an object gets it.
func (s *state) ordered() []*work {
	return slices.SortedFunc(maps.Values(s.works), func(a, b *work) int {
		return cmp.Or(cmp.Compare(a.workspace, b.workspace), cmp.Compare(a.name, b.name))
	})
}

// rebuild reads what all Works want.
//
// Invariant: no namespace of the cluster has objects of two workspaces.
func (s *state) rebuild() {
	s.changed = false
	s.wanted, s.namespaces = map[id]*wanted{}, map[string][]*wanted{}
	ofWorkspace := map[string]string{} // by namespace of the cluster
	for _, w := range s.ordered() {
		for i, before := range w.manifests {
			if before.name == "" {
				continue // it cannot be read
			}
			d := new(wanted) // the previous one may be in use
			*d = *before
			w.manifests[i] = d
			s.resolve(d)
			if _, taken := ofWorkspace[d.namespace]; !taken && d.kind != nil {
				ofWorkspace[d.namespace] = w.workspace
			}
			if other, taken := ofWorkspace[d.namespace]; taken && other != w.workspace {
				if d.kind != nil {
					d.kind, d.problem = nil, fmt.Sprintf("namespace %s of the cluster is that of another workspace: the agent needs another --namespace-template", d.namespace)
				}
				if s.wanted[d.id] == nil {
					s.wanted[d.id] = d // so that what is there stays
				}
				continue
			}
			if first := s.wanted[d.id]; first != nil {
				d.kind, d.problem = nil, fmt.Sprintf("Work %s has %s %s in namespace %s of the cluster as well, from namespace %s: the first by name is applied",
					first.work.name, first.Kind, first.name, first.namespace, first.reference.Namespace)
				continue
			}
			s.wanted[d.id] = d
			if d.kind != nil {
				s.namespaces[d.namespace] = append(s.namespaces[d.namespace], d)
			}
		}
	}
	for name, all := range s.namespaces {
		slices.SortStableFunc(all, func(a, b *wanted) int {
			return cmp.Or(cmp.Compare(a.manifest.Wave, b.manifest.Wave), cmp.Compare(class(a.GroupKind), class(b.GroupKind)))
		})
		namespace := s.namespace(name, all[0].reference.Namespace)
		s.wanted[namespace.id] = namespace
	}
}

func class(gk schema.GroupKind) int {
	if isConfiguration(gk) {
		return 0
	}
	return 1
}

// resolve determines where in the cluster an object belongs, and whether it may be applied.
func (s *state) resolve(d *wanted) {
	d.kind, d.problem = nil, ""
	d.namespace = render.Namespace(s.namespaceTemplate, cmp.Or(d.work.workspace, s.workspace), s.cluster, d.reference.Namespace)
	gv, _ := schema.ParseGroupVersion(d.reference.APIVersion) // read has parsed it
	k := s.kinds[gv.WithKind(d.Kind)]
	switch {
	case d.work.workspace != "" && !render.KeepsApart(s.namespaceTemplate):
		d.problem = fmt.Sprintf("the agent of the cluster names namespaces %q, whatever the workspace: for workspaces that share the cluster, {workspace} has to be in its flag --namespace-template", s.namespaceTemplate)
	case k == nil:
		d.problem = fmt.Sprintf("the agent of the cluster does not apply %s of %s: its flag --deliver-kinds does not list it", d.Kind, d.reference.APIVersion)
	case k.problem != "":
		d.problem = k.problem
	default:
		d.kind = k
	}
}

// namespace returns a namespace of the cluster as the agent makes it.
func (s *state) namespace(name, origin string) *wanted {
	labels := map[string]string{
		"pod-security.kubernetes.io/enforce": s.podSecurity,
		"pod-security.kubernetes.io/warn":    s.podSecurity,
		"pod-security.kubernetes.io/audit":   s.podSecurity,
	}
	sum := sha256.Sum256([]byte(s.podSecurity + "/" + origin))
	return &wanted{
		id: id{namespaceKind, "", name}, kind: s.namespaceKind, labels: labels, work: &work{},
		manifest:  &v1alpha1.Manifest{Revision: hex.EncodeToString(sum[:8])},
		reference: v1alpha1.ManifestReference{APIVersion: "v1", Kind: "Namespace", Namespace: origin, Name: name},
	}
}

// plan returns what to do now, and when to look again at the latest.
func (s *state) plan(now time.Time) (actions []action, next time.Time) {
	if !s.listed {
		return nil, time.Time{}
	}
	if s.changed {
		s.rebuild()
	}
	p := &planner{state: s, now: now}
	for _, name := range slices.Sorted(maps.Keys(s.namespaces)) {
		p.namespace(name)
	}
	p.remove()
	return p.actions, p.next
}

type planner struct {
	*state
	now     time.Time
	actions []action
	next    time.Time
}

// at schedules another look at the plan.
func (p *planner) at(t time.Time) {
	if p.next.IsZero() || t.Before(p.next) {
		p.next = t
	}
}

// namespace plans what is applied in a namespace: wave by wave, and within a wave configuration first.
func (p *planner) namespace(name string) {
	namespace := p.wanted[id{namespaceKind, "", name}]
	p.object(namespace, true)
	l := p.live[namespace.id]
	there := l != nil && !l.deleting
	ready := true // all lower waves are
	for wave := range chunks(p.namespaces[name], func(d *wanted) int32 { return d.manifest.Wave }) {
		trying := false // a configuration object has not been tried yet
		for _, d := range wave {
			if class(d.GroupKind) > 0 && trying {
				p.object(d, false)
				continue
			}
			p.object(d, there && ready)
			m := p.memory[d.id]
			if class(d.GroupKind) == 0 && !current(d, p.live[d.id]) && (m == nil || m.running || m.tried != d.manifest.Revision) {
				trying = true
			}
		}
		if ready {
			_, ready = p.waitsFor(wave)
		}
	}
}

// waitsFor returns the first object of a wave that is not ready, and whether all are.
func (s *state) waitsFor(wave []*wanted) (*wanted, bool) {
	for _, d := range wave {
		if l := s.live[d.id]; !current(d, l) || !l.ready() {
			return d, false
		}
	}
	return nil, true
}

// chunks returns consecutive elements with the same key.
func chunks[T any, K comparable](all []T, key func(T) K) func(func([]T) bool) {
	return func(yield func([]T) bool) {
		for start := 0; start < len(all); {
			end := start + 1
			for end < len(all) && key(all[end]) == key(all[start]) {
				end++
			}
			if !yield(all[start:end]) {
				return
			}
			start = end
		}
	}
}

// current reports whether the cluster has the wanted revision.
func current(d *wanted, l *live) bool {
	return l != nil && l.revision == d.manifest.Revision && !d.other(l)
}

// other reports whether the object in the cluster belongs to a workload that was deleted since, and recreated under the same name.
func (d *wanted) other(l *live) bool {
	return l.workloadUID != "" && d.manifest.WorkloadUID != "" && l.workloadUID != d.manifest.WorkloadUID
}

// object plans what to do about an object. Unless it is its turn, it is not brought to another revision.
func (p *planner) object(d *wanted, turn bool) {
	l, m := p.live[d.id], p.memory[d.id]
	if m == nil {
		m = &memory{}
	}
	scaled := d.manifest.Scaled || l != nil && l.scaled
	var drifted bool
	switch {
	case m.running || !d.kind.synced:
		return
	case l != nil && l.deleting:
		return // it is recreated once it is gone
	case l != nil && d.other(l):
		p.try(m, d.manifest.Revision, action{id: d.id, resource: d.kind.resource, live: l})
		return
	case l != nil && d.GroupKind == namespaceKind && l.revision == "":
		return // the cluster's operator has made it, and handed it over by its labels
	case !current(d, l):
		if !turn {
			return
		}
	case m.uid == l.uid && m.revision == l.revision && m.owned == l.owned && (!scaled || !l.ownsReplicas):
		p.readEvents(d, l, m)
		p.settle(m)
		return
	default:
		drifted = m.uid == l.uid && m.owned != l.owned
	}
	if drifted && p.now.Before(m.corrected.Add(pause(m.corrections))) {
		p.at(m.corrected.Add(pause(m.corrections)))
		return
	}
	p.try(m, d.manifest.Revision, action{id: d.id, resource: d.kind.resource, wanted: d, live: l, scaled: scaled})
}

// readEventsEvery is how often the events about a workload without pods are read.
const readEventsEvery = 15 * time.Second

// readEvents plans to read the events about a workload that wants pods and has none: its controller reports there, and often nowhere else, why it
// cannot create them.
func (p *planner) readEvents(d *wanted, l *live, m *memory) {
	if d.manifest.WorkloadUID == "" || l.health != v1alpha1.HealthInProgress || l.complaint != "" || p.pods.any(d.manifest.WorkloadUID, d.namespace) {
		m.event, m.asked = "", time.Time{}
		return
	}
	if m.asked.IsZero() {
		m.asked = p.now.Add(2*time.Second - readEventsEvery) // most have pods soon
	}
	if due := m.asked.Add(readEventsEvery); p.now.Before(due) {
		p.at(due)
		return
	}
	p.actions = append(p.actions, action{id: d.id, live: l, readEvents: true, again: true})
}

// settle forgets changes by others once they have stopped.
func (p *planner) settle(m *memory) {
	switch quiet := m.corrected.Add(maxQuarrel); {
	case m.corrections == 0:
	case p.now.Before(quiet):
		p.at(quiet)
	default:
		m.corrections = 0
	}
}

// pause returns how long a recurring change by others is left in place.
func pause(corrections int) time.Duration {
	if corrections < 3 {
		return 0
	}
	return min(time.Second<<min(corrections-3, 10), time.Minute)
}

// try adds an action unless its last attempt failed only recently.
func (p *planner) try(m *memory, revision string, a action) {
	if m.failures > 0 && m.tried == revision {
		if p.now.Before(m.retry) {
			p.at(m.retry)
			return
		}
		a.again = true
	}
	p.actions = append(p.actions, a)
}

// remove plans what is to be removed: workloads first, then configuration, and namespaces once they are empty.
func (p *planner) remove() {
	workloads, objects := map[string]bool{}, map[string]bool{} // namespaces that still have any
	var unwanted, empty []*live
	for key, l := range p.live {
		if key.GroupKind == namespaceKind {
			continue
		}
		objects[key.namespace] = true
		if p.wanted[key] == nil && !p.left(l) {
			unwanted = append(unwanted, l)
			workloads[key.namespace] = workloads[key.namespace] || class(key.GroupKind) > 0
		}
	}
	slices.SortFunc(unwanted, func(a, b *live) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.name, b.name))
	})
	for _, l := range unwanted {
		if m := p.memoryOf(l.id); !l.deleting && !m.running && (class(l.GroupKind) > 0 || !workloads[l.namespace]) && p.may(l.work) {
			p.takeAway(m, l.id, l)
		}
	}
	for key, m := range p.memory {
		if p.wanted[key] != nil || p.live[key] != nil || m.running {
			continue
		}
		if !m.unsure || m.wanted == nil || key.GroupKind == namespaceKind || key.GroupKind == claimKind && !p.pruneVolumes {
			delete(p.memory, key) // if it was made after all, the watch shows it
			continue
		}
		objects[key.namespace] = true
		if p.may(m.wanted.work.name) {
			p.takeAway(m, key, nil)
		}
	}
	for key, l := range p.live {
		if key.GroupKind == namespaceKind && p.wanted[key] == nil && !objects[key.name] && !l.deleting && l.revision != "" && p.sure() && p.known() {
			empty = append(empty, l)
		}
	}
	for _, l := range empty {
		if m := p.memoryOf(l.id); !m.running {
			p.try(m, removal, action{id: l.id, resource: p.namespaceKind.resource, live: l})
		}
	}
}

// takeAway adds the removal of an object; if nothing is known of it, it may not exist.
func (p *planner) takeAway(m *memory, key id, l *live) {
	if resource, served := p.resource(key.GroupKind); served {
		p.try(m, removal, action{id: key, resource: resource, live: l})
	}
}

// resource returns the resource through which objects of a kind are served.
func (s *state) resource(gk schema.GroupKind) (resource schema.GroupVersionResource, served bool) {
	for _, k := range s.kinds {
		if k.GroupKind() == gk && k.known && k.problem == "" {
			return k.resource, true
		}
	}
	return resource, false
}

// known reports whether the cluster's objects are known, as far as it lets the agent list them.
func (s *state) known() bool {
	if !s.listed || !s.namespaceKind.settled() {
		return false
	}
	for _, k := range s.kinds {
		if !k.settled() {
			return false
		}
	}
	return true
}

func (k *kind) settled() bool {
	return k.known && (k.problem != "" || k.synced || k.err != nil && !isTransient(k.err))
}

// left reports whether an object stays though no Work wants it: a PersistentVolumeClaim, since its data would be lost.
func (s *state) left(l *live) bool { return l.GroupKind == claimKind && !s.pruneVolumes }

// may reports whether what came with a Work may be removed, given that no Work wants it. Invariant: this Work is there without it, or the
// server confirms that the Work is gone.
func (p *planner) may(work string) bool {
	if w := p.works[work]; w != nil {
		return !w.doubtful
	}
	if work == "" {
		return false
	}
	v := p.vanished[work]
	switch {
	case v == nil:
		v = &vanished{}
		p.vanished[work] = v
	case v.running:
		return false
	case p.now.Before(v.retry): // the last answer holds until then
		p.at(v.retry)
		return v.confirmed && p.sure()
	}
	v.running = true
	p.actions = append(p.actions, action{confirm: work})
	return false
}

// sure reports whether all Works have been read in full.
func (s *state) sure() bool {
	for _, w := range s.works {
		if w.doubtful {
			return false
		}
	}
	return true
}
