package apply

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// model is an agent between two servers: Works as the workspace has them, objects as the cluster has them. The agent may see both
// late or, where its watch falls short, not at all.
type model struct {
	*rapid.T
	works   map[string]*work
	cluster map[id]*live
	agent   *state
	now     time.Time
	version int
	slow    bool // whether requests may fail, and watches show nothing
}

func newModel(t *rapid.T) *model {
	s := newState(settings{workspace: "w", cluster: "c", namespaceTemplate: "{workspace}-{namespace}", podSecurity: "baseline"}, []v1alpha1.WorkloadType{
		{APIVersion: "v1", Kind: "ConfigMap"}, {APIVersion: "apps/v1", Kind: "Deployment"},
	})
	s.listed = true
	for _, k := range append(slices.Collect(maps.Values(s.kinds)), s.namespaceKind) {
		k.known, k.synced = true, true
	}
	s.namespaceKind.resource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	return &model{T: t, works: map[string]*work{}, cluster: map[id]*live{}, agent: &s, now: time.Unix(0, 0), slow: true}
}

func (m *model) next() string {
	m.version++
	return fmt.Sprint(m.version)
}

// write changes a Work in the workspace: some objects, each of which is in no other Work.
func (m *model) write() {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(m.T, "work")
	if rapid.IntRange(0, 4).Draw(m.T, "delete") == 0 {
		delete(m.works, name)
		return
	}
	w := &work{name: name, uid: types.UID(m.next()), generation: int64(m.version), resourceVersion: m.next()}
	if before := m.works[name]; before != nil {
		w.uid = before.uid
	}
	for _, kind := range []string{"v1/ConfigMap", "apps/v1/Deployment"} {
		for i := range rapid.IntRange(0, 3).Draw(m.T, "objects") {
			apiVersion, kind := kind[:strings.LastIndex(kind, "/")], kind[strings.LastIndex(kind, "/")+1:]
			d := &wanted{work: w, manifest: &v1alpha1.Manifest{
				Revision: fmt.Sprintf("r%d", rapid.IntRange(0, 3).Draw(m.T, "revision")), Wave: rapid.Int32Range(0, 2).Draw(m.T, "wave"),
				Object: runtime.RawExtension{Raw: fmt.Appendf(nil, `{"apiVersion": %q, "kind": %q, "metadata": {"name": "%s%d", "namespace": "n%d"}}`, apiVersion, kind, name, i, i%2)},
			}}
			if kind == "Deployment" {
				d.manifest.WorkloadUID = types.UID(fmt.Sprintf("u%d", rapid.IntRange(0, 1).Draw(m.T, "uid")))
			}
			if problem := d.read(); problem != "" {
				m.Fatal(problem)
			}
			w.manifests = append(w.manifests, d)
		}
	}
	m.works[name] = w
}

// see shows the agent the Works as they are.
func (m *model) see() {
	for name := range m.agent.works {
		if m.works[name] == nil {
			delete(m.agent.works, name)
			m.agent.changed = true
		}
	}
	for _, w := range m.works {
		seen := *w
		seen.manifests = slices.Clone(w.manifests)
		m.agent.putWork(&seen)
	}
}

// lose has the watch show one Work less than there are.
func (m *model) lose() {
	if names := slices.Sorted(maps.Keys(m.agent.works)); len(names) > 0 {
		delete(m.agent.works, rapid.SampledFrom(names).Draw(m.T, "lost"))
		m.agent.changed = true
	}
}

// watch shows the agent the cluster as it is, and its controllers have everything ready.
func (m *model) watch() {
	for _, l := range m.cluster {
		l.health = v1alpha1.HealthCurrent
	}
	m.agent.live = map[id]*live{}
	for key, l := range m.cluster {
		seen := *l
		m.agent.live[key] = &seen
	}
}

// meddle has somebody in the cluster change an object, or delete it.
func (m *model) meddle() {
	keys := slices.SortedFunc(maps.Keys(m.cluster), func(a, b id) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if len(keys) == 0 {
		return
	}
	key := rapid.SampledFrom(keys).Draw(m.T, "meddled")
	if key.GroupKind == namespaceKind {
		return
	}
	if rapid.Bool().Draw(m.T, "delete") {
		delete(m.cluster, key)
		return
	}
	m.cluster[key].owned, m.cluster[key].resourceVersion = 7, m.next()
}

// wants says whether a Work of the workspace wants an object.
func (m *model) wants(key id) bool {
	for _, w := range m.works {
		if slices.ContainsFunc(w.manifests, func(d *wanted) bool {
			return d.GroupKind == key.GroupKind && d.name == key.name && "w-"+d.reference.Namespace == key.namespace
		}) {
			return true
		}
	}
	return false
}

// act has the agent do what it plans, and returns how much that is.
func (m *model) act() int {
	actions, _ := m.agent.plan(m.now)
	for _, do := range actions {
		if do.confirm != "" {
			m.agent.confirmed(do.confirm, m.works[do.confirm] == nil, m.now)
			continue
		}
		m.agent.begin(do)
	}
	for _, do := range actions {
		if do.confirm == "" && !do.readEvents {
			m.request(do)
		} else if do.readEvents {
			m.agent.eventsRead(do.id, "", m.now)
		}
	}
	for _, status := range m.agent.statuses() {
		if status.ObservedGeneration == 0 {
			m.Error("a status without a generation")
		}
	}
	return len(actions)
}

// request carries out what the agent asks of the cluster. Some requests fail, of which some are carried out all the same.
func (m *model) request(do action) {
	outcome := 2
	if m.slow {
		outcome = rapid.IntRange(0, 4).Draw(m.T, "outcome")
	}
	if outcome == 0 {
		m.agent.end(do, nil, apierrors.NewForbidden(schema.GroupResource{}, do.id.name, errors.New("quota")), m.now)
		return
	}
	var applied *live
	if do.wanted == nil {
		l := m.cluster[do.id]
		switch {
		case l == nil || do.live != nil && do.live.uid != l.uid:
		case do.id.GroupKind == namespaceKind:
			for key := range m.cluster {
				if key.namespace == do.id.name {
					m.Fatalf("namespace %s is removed with %v in it", do.id.name, key)
				}
			}
			delete(m.cluster, do.id)
		default:
			if m.wants(do.id) && m.agent.wanted[do.id] == nil && !m.changed(do.id) {
				m.Fatalf("%v is removed, though a Work wants it", do.id)
			}
			delete(m.cluster, do.id)
		}
	} else {
		d := do.wanted
		if n := m.cluster[id{namespaceKind, "", d.namespace}]; n == nil && d.GroupKind != namespaceKind {
			m.agent.end(do, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, d.namespace), m.now)
			return
		}
		l := m.cluster[do.id]
		if l == nil {
			l = &live{id: do.id, uid: types.UID(m.next()), health: v1alpha1.HealthInProgress}
		}
		changed := *l
		changed.revision, changed.owned, changed.resourceVersion, changed.work, changed.origin = d.manifest.Revision, 1, m.next(), d.work.name, d.reference.Namespace
		changed.workloadUID = d.manifest.WorkloadUID
		m.cluster[do.id] = &changed
		seen := changed
		applied = &seen
	}
	if outcome == 1 {
		m.agent.end(do, nil, errors.New("no answer"), m.now)
		return
	}
	if do.wanted == nil {
		delete(m.agent.live, do.id)
	}
	m.agent.end(do, applied, nil, m.now)
}

// changed says that the agent has seen the Work that an object came with in a version without it, or that the server has just said
// that this Work is gone: so it may be removed, though the workspace wants it again since.
func (m *model) changed(key id) bool {
	work := m.cluster[key].work
	v := m.agent.vanished[work]
	return m.agent.works[work] != nil || v != nil && v.confirmed
}

// TestConvergence: whatever the agent sees late or not at all, and whichever requests fail, it removes nothing that a Work wants, and
// once all is seen the cluster is as the Works say.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(*rapid.T) { m.write() }, "see": func(*rapid.T) { m.see() }, "lose": func(*rapid.T) { m.lose() },
			"watch": func(*rapid.T) { m.watch() }, "meddle": func(*rapid.T) { m.meddle() }, "act": func(*rapid.T) { m.act() },
			"wait": func(*rapid.T) { m.now = m.now.Add(5 * time.Second) },
			"restart": func(*rapid.T) {
				fresh := newModel(t)
				fresh.agent.works, fresh.agent.changed = m.agent.works, true
				m.agent = fresh.agent
				m.watch()
			},
		})
		m.slow = false
		for i := range 60 {
			for key, l := range m.cluster {
				if i == 30 && key.GroupKind != namespaceKind {
					l.owned, l.resourceVersion = 7, m.next() // somebody has changed all there is
				}
			}
			m.see()
			m.watch()
			m.act()
			m.act()
			m.now = m.now.Add(2 * time.Minute)
		}
		m.see()
		m.watch()
		if n := m.act(); n > 0 {
			t.Errorf("%d actions are left", n)
		}
		wanted := map[id]bool{}
		for _, w := range m.works {
			for _, d := range w.manifests {
				key := id{d.GroupKind, "w-" + d.reference.Namespace, d.name}
				wanted[key], wanted[id{namespaceKind, "", key.namespace}] = true, true
				if l := m.cluster[key]; l == nil || l.revision != d.manifest.Revision || l.owned != 1 || l.workloadUID != d.manifest.WorkloadUID {
					t.Errorf("%v is %+v, is to be %+v", key, l, d.manifest)
				}
			}
		}
		for key := range m.cluster {
			if !wanted[key] {
				t.Errorf("%v is left", key)
			}
		}
		for name, status := range m.agent.statuses() {
			if n := len(m.works[name].manifests); status.Applied != fmt.Sprintf("%d/%d", n, n) || len(status.Removing) > 0 || status.Failed > 0 {
				t.Errorf("Work %s: %+v", name, status.WorkStatus)
			}
		}
	})
}
