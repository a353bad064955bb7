package delivery

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Copy is a workload in a cluster, as recorded in a Work.
type Copy struct {
	Work *v1alpha1.Work
	// Manifest is what the cluster is to have; nil once the copy is to be removed.
	Manifest *v1alpha1.Manifest
	// Status is what the agent reports of it; nil while it reports nothing.
	Status *v1alpha1.ManifestStatus
	// Removing is what the agent reports while it removes the copy.
	Removing *v1alpha1.ManifestReference
}

// Health returns the state of the wanted copy: reports on another revision do not count, nor do reports from before the manifest
// was there, when the same revision may have been on its way out.
func (c *Copy) Health() v1alpha1.Health {
	switch {
	case c.Manifest == nil:
		return v1alpha1.HealthTerminating
	case c.Status == nil || c.Status.Revision != c.Manifest.Revision || c.Status.Since != c.Manifest.Since || c.Status.Health == "":
		return v1alpha1.HealthPending
	default:
		return c.Status.Health
	}
}

// CarriedOut reports whether the cluster has the wanted copy, made from this version of the workload, and runs nothing else of it: no
// more replicas and, if the kind's controller replaces pods, none of an earlier template.
func (c *Copy) CarriedOut(source *Source) bool {
	if health := c.Health(); health == v1alpha1.HealthPending || health == v1alpha1.HealthTerminating || c.Manifest.Generation != source.Generation {
		return false
	}
	n := c.Counts()
	switch source.Kind {
	case "DaemonSet": // has as many replicas as there are nodes
		return n.Updated >= n.Replicas
	case "Deployment", "StatefulSet":
		return n.Updated >= n.Replicas && n.Replicas <= ptr.Deref(c.Manifest.Replicas, n.Replicas)
	default:
		return n.Replicas <= ptr.Deref(c.Manifest.Replicas, n.Replicas)
	}
}

// Reference returns the workload by its name in the workspace.
func (c *Copy) Reference() (r workload.Reference, known bool) {
	if c.Manifest == nil {
		if c.Removing == nil {
			return r, false
		}
		return workload.Reference{APIVersion: c.Removing.APIVersion, Kind: c.Removing.Kind, Namespace: c.Removing.Namespace, Name: c.Removing.Name, UID: string(c.Removing.WorkloadUID)}, true
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(c.Manifest.Object.Raw, &object); err != nil {
		return r, false
	}
	return workload.Reference{APIVersion: object.APIVersion, Kind: object.Kind, Namespace: object.Namespace, Name: object.Name, UID: string(c.Manifest.WorkloadUID)}, true
}

// Replicas returns how many replicas the cluster is to have, 0 for a kind without replicas.
func (c *Copy) Replicas() int64 {
	var object struct {
		Spec struct {
			Replicas, Parallelism int64
		}
	}
	if c.Manifest == nil || json.Unmarshal(c.Manifest.Object.Raw, &object) != nil {
		return 0
	}
	return max(0, object.Spec.Replicas, object.Spec.Parallelism)
}

// Copies are the copies of workloads in the clusters of a workspace.
type Copies struct {
	// of holds the copies by UID of the workload and by cluster. Invariant: a workload's map is never changed, only replaced.
	of map[types.UID]map[string]*Copy
	// in holds the copies by cluster.
	in map[string]*copiesIn
	// clusters are those that Works were last read for; namespaces maps the namespaces of their Works to the clusters.
	clusters   []string
	namespaces map[string]string
}

// copiesIn holds the copies in one cluster, and the Works that they were read from.
type copiesIn struct {
	works    []*v1alpha1.Work
	copies   map[types.UID]*Copy
	progress Progress
}

// Progress is how much of the Works of its cluster an agent has carried out.
type Progress struct {
	// Behind counts the Works that it has not carried out in their current version, Removing the objects that are being removed.
	Behind, Removing int
	// Wrong are the objects with a problem.
	Wrong []*v1alpha1.ManifestStatus
}

// CopiesOf reads the Works of the given clusters. Works in namespaces that belong to no cluster are left out. Agents' reports
// count only for workloads that the agents were given.
func CopiesOf(clusters []string, works []*v1alpha1.Work) *Copies {
	c := &Copies{}
	c.Update(clusters, works)
	return c
}

// Update takes over the current Works, and returns the workloads whose copies have changed. A Work is never modified, only replaced, so
// clusters whose Works are all the same objects are not read again.
func (c *Copies) Update(clusters []string, works []*v1alpha1.Work) (changed map[types.UID]bool) {
	if c.of == nil {
		c.of, c.in = map[types.UID]map[string]*Copy{}, map[string]*copiesIn{}
	}
	if !slices.Equal(c.clusters, clusters) {
		c.clusters, c.namespaces = slices.Clone(clusters), make(map[string]string, len(clusters))
		for _, name := range clusters {
			c.namespaces[v1alpha1.WorkNamespace(name)] = name
		}
	}
	now := map[string][]*v1alpha1.Work{}
	for _, w := range works {
		if cluster, found := c.namespaces[w.Namespace]; found {
			now[cluster] = append(now[cluster], w)
		}
	}
	changed = map[types.UID]bool{}
	for cluster := range c.in {
		if now[cluster] == nil {
			c.take(cluster, nil, changed)
		}
	}
	for cluster, works := range now {
		slices.SortFunc(works, func(a, b *v1alpha1.Work) int {
			return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
		})
		if !slices.Equal(c.Works(cluster), works) {
			c.take(cluster, works, changed)
		}
	}
	return changed
}

// take reads the Works of a cluster.
func (c *Copies) take(cluster string, works []*v1alpha1.Work, changed map[types.UID]bool) {
	before, now := map[types.UID]*Copy(nil), &copiesIn{works: works, copies: map[types.UID]*Copy{}}
	if c.in[cluster] != nil {
		before = c.in[cluster].copies
	}
	for _, w := range works {
		now.read(w)
	}
	for uid := range before {
		if now.copies[uid] == nil {
			changed[uid] = true
			c.set(uid, cluster, nil)
		}
	}
	for uid, copied := range now.copies {
		if b := before[uid]; b == nil || !b.same(copied) {
			changed[uid] = true
		}
		c.set(uid, cluster, copied)
	}
	if c.in[cluster] = now; works == nil {
		delete(c.in, cluster)
	}
}

// set replaces a copy; nil removes it.
func (c *Copies) set(uid types.UID, cluster string, copied *Copy) {
	now := make(map[string]*Copy, len(c.of[uid])+1)
	maps.Copy(now, c.of[uid])
	if now[cluster] = copied; copied == nil {
		delete(now, cluster)
	}
	if c.of[uid] = now; len(now) == 0 {
		delete(c.of, uid)
	}
}

func (c *copiesIn) read(w *v1alpha1.Work) {
	if w.Status.ObservedGeneration < w.Generation {
		c.progress.Behind++
	}
	c.progress.Removing += len(w.Status.Removing)
	statuses := make(map[types.UID]*v1alpha1.ManifestStatus, len(w.Status.Manifests))
	for i := range w.Status.Manifests {
		s := &w.Status.Manifests[i]
		if s.WorkloadUID != "" {
			statuses[s.WorkloadUID] = s
		}
		if s.Wrong {
			c.progress.Wrong = append(c.progress.Wrong, s)
		}
	}
	for i := range w.Spec.Manifests {
		m := &w.Spec.Manifests[i]
		if m.WorkloadUID == "" {
			continue
		}
		c.add(m.WorkloadUID, &Copy{Work: w, Manifest: m, Status: statuses[m.WorkloadUID]})
	}
	// What the agent last reported, and what has left the Work since, is there until the agent has carried that out.
	if w.Status.ObservedGeneration < w.Generation {
		for uid, status := range statuses {
			if c.copies[uid] == nil {
				c.add(uid, &Copy{Work: w, Removing: &status.ManifestReference})
			}
		}
	}
	for i := range w.Spec.Departed {
		if d := &w.Spec.Departed[i]; d.Generation > w.Status.ObservedGeneration && c.copies[d.WorkloadUID] == nil {
			c.add(d.WorkloadUID, &Copy{Work: w, Removing: &d.ManifestReference})
		}
	}
	for i := range w.Status.Removing {
		if uid := w.Status.Removing[i].WorkloadUID; uid != "" && c.copies[uid] == nil {
			c.add(uid, &Copy{Work: w, Removing: &w.Status.Removing[i]})
		}
	}
}

func (c *copiesIn) add(uid types.UID, copied *Copy) {
	if before := c.copies[uid]; before == nil || before.Manifest == nil {
		c.copies[uid] = copied
	}
}

// same reports whether everything known of two copies is equal.
func (c *Copy) same(d *Copy) bool {
	if c.Manifest != d.Manifest && (c.Manifest == nil || d.Manifest == nil || c.Manifest.Revision != d.Manifest.Revision ||
		c.Manifest.Since != d.Manifest.Since || c.Manifest.Generation != d.Manifest.Generation || !ptr.Equal(c.Manifest.Replicas, d.Manifest.Replicas)) {
		return false
	}
	carriedOut := func(w *v1alpha1.Work) bool { return w.Status.ObservedGeneration >= w.Generation }
	return c.Work.UID == d.Work.UID && carriedOut(c.Work) == carriedOut(d.Work) && equality.Semantic.DeepEqual(c.Status, d.Status) &&
		equality.Semantic.DeepEqual(c.Removing, d.Removing)
}

// Of returns the copies of a workload by cluster. The caller must not modify it.
func (c *Copies) Of(uid types.UID) map[string]*Copy { return c.of[uid] }

// In yields the copies in a cluster.
func (c *Copies) In(cluster string) iter.Seq2[types.UID, *Copy] {
	if in := c.in[cluster]; in != nil {
		return maps.All(in.copies)
	}
	return func(func(types.UID, *Copy) bool) {}
}

// Works returns the Works of a cluster.
func (c *Copies) Works(cluster string) []*v1alpha1.Work {
	if in := c.in[cluster]; in != nil {
		return in.works
	}
	return nil
}

// Progress returns the progress of the agent of a cluster.
func (c *Copies) Progress(cluster string) (p Progress) {
	if in := c.in[cluster]; in != nil {
		p = in.progress
	}
	return p
}

// Departures are copies to be removed that the agent has not reported as gone yet.
//
// An agent reports that by carrying out a version of the Work that lacks the copy. So the first version of each Work that was seen
// without it has to be remembered; after a restart that is a later one, and the copy counts as present for longer.
type Departures map[departure]map[types.UID]int64

type departure struct {
	uid     types.UID
	cluster string
}

// Gone reports whether nothing of a workload is left in a cluster. Call it in each round for every pair that matters, and for no
// others: Forget drops the pairs that keep does not want.
func (d Departures) Gone(copies *Copies, uid types.UID, cluster string) bool {
	key := departure{uid, cluster}
	if copies.Of(uid)[cluster] != nil {
		delete(d, key)
		return false
	}
	first := d[key]
	if first == nil {
		first = map[types.UID]int64{}
		for _, w := range copies.Works(cluster) {
			first[w.UID] = w.Generation
		}
		d[key] = first
	}
	for _, w := range copies.Works(cluster) {
		if generation, found := first[w.UID]; found && w.Status.ObservedGeneration < generation {
			return false
		}
	}
	return true
}

// Forget drops every pair for which keep returns false.
func (d Departures) Forget(keep func(uid types.UID, cluster string) bool) {
	for key := range d {
		if !keep(key.uid, key.cluster) {
			delete(d, key)
		}
	}
}
