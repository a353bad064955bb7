package agent

import (
	"cmp"
	"maps"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/int128"
)

// Bounds on the report, so that it always fits into an object of the API server.
const (
	maxWorkloads     = 10_000
	maxWorkloadBytes = 5 << 18 // bytes of all workloads as JSON; etcd takes 1.5 MiB for the whole object
	maxResources     = 256
	maxExamples      = 3
)

// usage is what the nodes of a cluster have and what its pods request. It is updated one node or pod at a time, in any order.
// Updating a pod takes time proportional to its resources, updating a node to its pods.
type usage struct {
	pods  map[string]*pod
	nodes map[unique.Handle[string]]*bucket
	// workloads sums the pods that are included in allocated.
	workloads map[unique.Handle[types.UID]]*podRequests
	// volumes is the total capacity for PersistentVolumes in bytes; 0 if unknown.
	volumes int64
	// rules select what is reported of nodes; told is what is reported of them, nil if they have changed since.
	rules   NodeRules
	summary *nodeSummary
	// problems are the quantities that cannot be used, by node or pod.
	problems map[string][]string
}

// bucket is a node and the pods that are bound to it. Either may be seen first.
type bucket struct {
	node      *node // nil until it is seen
	pods      []*pod
	requested sums
}

// podRequests is the total requests of one workload's pods.
type podRequests struct {
	pods      int
	requested sums
}

// unbound is the bucket of pods that have no node yet. No node has this name.
var unbound = unique.Make("")

func newUsage() *usage {
	return &usage{
		pods:      map[string]*pod{},
		nodes:     map[unique.Handle[string]]*bucket{},
		workloads: map[unique.Handle[types.UID]]*podRequests{},
		problems:  map[string][]string{},
	}
}

// setPod adds or replaces a pod and reports whether that changes anything.
func (u *usage) setPod(p *pod) bool {
	if p.over {
		return u.deletePod(p.key)
	}
	if last, found := u.pods[p.key]; found {
		if last.same(p) {
			return false
		}
		u.deletePod(p.key)
	}
	u.pods[p.key] = p
	b := u.bucket(p.node)
	p.at = len(b.pods)
	b.pods = append(b.pods, p)
	u.count(p.node, b, p, 1)
	u.setProblems("pod "+p.key, p.problems)
	return true
}

func (u *usage) deletePod(key string) bool {
	p, found := u.pods[key]
	if !found {
		return false
	}
	delete(u.pods, key)
	b := u.nodes[p.node]
	u.count(p.node, b, p, -1)
	last := len(b.pods) - 1
	b.pods[p.at] = b.pods[last]
	b.pods[p.at].at = p.at
	b.pods[last] = nil
	b.pods = b.pods[:last]
	u.drop(p.node, b)
	u.setProblems("pod "+key, nil)
	return true
}

// setNode adds or replaces a node and reports whether that changes anything.
func (u *usage) setNode(n *node) bool {
	name := unique.Make(n.name)
	b := u.bucket(name)
	if b.node != nil && b.node.same(n) {
		return false
	}
	u.exchange(name, b, n)
	return true
}

func (u *usage) deleteNode(key string) bool {
	name := unique.Make(key)
	b, found := u.nodes[name]
	if !found || b.node == nil {
		return false
	}
	u.exchange(name, b, nil)
	u.drop(name, b)
	return true
}

// exchange replaces the node of a bucket and recounts its pods, since what they count for depends on the node.
func (u *usage) exchange(name unique.Handle[string], b *bucket, n *node) {
	if b.node == nil || n == nil || !b.node.traits.same(n.traits) {
		u.summary = nil
	}
	for _, p := range b.pods {
		u.count(name, b, p, -1)
	}
	b.node = n
	for _, p := range b.pods {
		u.count(name, b, p, 1)
	}
	var problems []string
	if n != nil {
		problems = n.problems
	}
	u.setProblems("node "+name.Value(), problems)
}

// count adds a pod to the sums if sign is 1, and subtracts it if sign is -1.
func (u *usage) count(name unique.Handle[string], b *bucket, p *pod, sign int64) {
	counted := b.node.usable()
	if name == unbound {
		counted = !p.absurd // a pod with such a request is never bound
	}
	var d *podRequests
	if counted && p.workload != noWorkload {
		if d = u.workloads[p.workload]; d == nil {
			d = &podRequests{}
			u.workloads[p.workload] = d
		}
		if d.pods += int(sign); d.pods == 0 {
			delete(u.workloads, p.workload)
		}
	}
	if name == unbound && !counted {
		return
	}
	for _, a := range p.requests {
		if a.n == absurd {
			a.n = b.node.has(a.name) // the node is full
		}
		b.requested.add(a.name, sign*a.n)
		if d != nil {
			d.requested.add(a.name, sign*a.n)
		}
	}
}

func (u *usage) bucket(name unique.Handle[string]) *bucket {
	b, found := u.nodes[name]
	if !found {
		b = &bucket{}
		u.nodes[name] = b
	}
	return b
}

func (u *usage) drop(name unique.Handle[string], b *bucket) {
	if b.node == nil && len(b.pods) == 0 {
		delete(u.nodes, name)
	}
}

func (u *usage) setProblems(about string, problems []string) {
	if len(problems) == 0 {
		delete(u.problems, about)
		return
	}
	u.problems[about] = problems
}

// figures are the totals of a cluster at one moment.
type figures struct {
	allocatable, allocated, largestFree corev1.ResourceList

	nodes v1alpha1.NodeCounts
	// because counts the unusable nodes by state.
	because map[state]int

	// summary is what is reported of the labels and taints of nodes.
	summary *nodeSummary

	// pods counts the pods that are included in allocated. workloads are the workloads of these pods, as far as listed.
	pods      int
	workloads []v1alpha1.WorkloadUsage
	// allWorkloads counts all of these workloads, listed or not.
	allWorkloads int

	// problems counts the quantities that cannot be used; firstProblems describes the first few.
	problems      int
	firstProblems []string
	// unlisted counts the resources for which there is no room in the report.
	unlisted int
}

// figures sums up the nodes.
func (u *usage) figures() *figures {
	f := &figures{because: map[state]int{}, allWorkloads: len(u.workloads)}
	var have, asked sums
	free := map[corev1.ResourceName]int64{}
	offered := map[corev1.ResourceName]bool{}
	for name, b := range u.nodes {
		if name == unbound {
			for _, s := range b.requested {
				asked.addTotal(s.name, s.total)
			}
			for _, p := range b.pods {
				if !p.absurd {
					f.pods++
				}
			}
			continue
		}
		if b.node == nil {
			continue
		}
		f.nodes.Total++
		if b.node.ready {
			f.nodes.Ready++
		}
		for _, a := range b.node.allocatable {
			offered[a.name.Value()] = true
		}
		if !b.node.usable() {
			f.because[b.node.state]++
			continue
		}
		f.nodes.Usable++
		f.pods += len(b.pods)
		for _, s := range b.requested {
			asked.addTotal(s.name, s.total)
		}
		for _, a := range b.node.allocatable {
			have.add(a.name, a.n)
			if room := a.n - b.requested.get(a.name); room > 0 && int64(len(b.pods)) < b.node.slots {
				free[a.name.Value()] = max(free[a.name.Value()], room)
			}
		}
	}
	if u.volumes > 0 { // any node can mount them
		have.add(unique.Make(corev1.ResourceStorage), u.volumes)
		offered[corev1.ResourceStorage], free[corev1.ResourceStorage] = true, u.volumes
	}
	f.resources(have, asked, offered, free)
	f.listWorkloads(u.workloads)
	f.summary = u.nodeSummary()
	for _, about := range slices.Sorted(maps.Keys(u.problems)) {
		for _, problem := range u.problems[about] {
			if f.problems++; f.problems <= maxExamples {
				f.firstProblems = append(f.firstProblems, about+": "+problem)
			}
		}
	}
	return f
}

// nodeSummary returns the summary of the nodes, computed once until they change.
func (u *usage) nodeSummary() *nodeSummary {
	if u.summary == nil {
		var all []group
		for _, b := range u.nodes {
			if b.node != nil && b.node.traits != nil {
				all = append(all, group{*b.node.traits, 1})
			}
		}
		u.summary = summarize(all, &u.rules)
	}
	return u.summary
}

// resources fills the three lists with the same resources: those that nodes have and those that pods request.
func (f *figures) resources(have, asked sums, offered map[corev1.ResourceName]bool, free map[corev1.ResourceName]int64) {
	names := maps.Clone(offered)
	for _, s := range asked {
		names[s.name.Value()] = true
	}
	sorted := slices.SortedFunc(maps.Keys(names), func(a, b corev1.ResourceName) int {
		if offered[a] != offered[b] { // resources that nodes have come first
			if offered[a] {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	if len(sorted) > maxResources {
		f.unlisted = len(sorted) - maxResources
		sorted = sorted[:maxResources]
	}
	f.allocatable, f.allocated, f.largestFree = corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for _, name := range sorted {
		f.allocatable[name] = capacity.Quantity(string(name), have.get(unique.Make(name)))
		f.allocated[name] = capacity.Quantity(string(name), asked.get(unique.Make(name)))
		f.largestFree[name] = capacity.Quantity(string(name), free[name])
	}
}

// listWorkloads lists workloads by UID, as many as fit into the object.
func (f *figures) listWorkloads(workloads map[unique.Handle[types.UID]]*podRequests) {
	type entry struct {
		uid         types.UID
		podRequests *podRequests
	}
	all := make([]entry, 0, len(workloads))
	for uid, d := range workloads {
		all = append(all, entry{uid.Value(), d})
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.uid, b.uid) })
	room := maxWorkloadBytes
	for _, e := range all[:min(len(all), maxWorkloads)] {
		room -= len(`{"uid":"","requests":{}},`) + len(e.uid)
		requests := make(corev1.ResourceList, len(e.podRequests.requested))
		for _, s := range e.podRequests.requested {
			name, q := s.name.Value(), capacity.Quantity(string(s.name.Value()), amountOf(s.total))
			requests[name] = q
			room -= len(`"":"",`) + len(name) + len(q.String())
		}
		if room < 0 {
			break
		}
		f.workloads = append(f.workloads, v1alpha1.WorkloadUsage{UID: e.uid, Requests: requests})
	}
}

// amount is an amount of one resource, in the units of engine/capacity.
type amount struct {
	name unique.Handle[corev1.ResourceName]
	n    int64
}

// absurd stands for a request of more than any node can have. It counts as the pod's whole node.
const absurd = int64(-1)

// sums are totals by resource. A total of 0 is not kept.
type sums []sum

type sum struct {
	name  unique.Handle[corev1.ResourceName]
	total int128.Int
}

func (s *sums) add(name unique.Handle[corev1.ResourceName], n int64) {
	s.addTotal(name, int128.Of(n))
}

func (s *sums) addTotal(name unique.Handle[corev1.ResourceName], t int128.Int) {
	i := slices.IndexFunc(*s, func(s sum) bool { return s.name == name })
	if i < 0 {
		*s = append(*s, sum{name: name})
		i = len(*s) - 1
	}
	if (*s)[i].total = (*s)[i].total.Add(t); (*s)[i].total == (int128.Int{}) {
		*s = slices.Delete(*s, i, i+1)
	}
}

func (s sums) get(name unique.Handle[corev1.ResourceName]) int64 {
	for i := range s {
		if s[i].name == name {
			return amountOf(s[i].total)
		}
	}
	return 0
}

// amountOf is a total, at most capacity.MaxAmount.
func amountOf(total int128.Int) int64 { return min(total.Int64(), capacity.MaxAmount) }
