package delivery

import (
	"encoding/json"
	"iter"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Copy is a workload in a cluster, as a Work has it.
type Copy struct {
	Work *v1alpha1.Work
	// Manifest is what the cluster is to have; nil once the copy is to be removed.
	Manifest *v1alpha1.Manifest
	// Status is what the agent says of it; nil while it says nothing.
	Status *v1alpha1.ManifestStatus
	// Removing is what the agent says while it removes the copy.
	Removing *v1alpha1.ManifestReference
}

// Health is the state of the copy as it is to be: what the agent says of another revision does not count, nor what it said before the
// manifest was there, when the same revision may have been on its way out.
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

// Reference is the workload by its name in the workspace.
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

// Replicas is how many replicas the cluster is to have, 0 for a kind without.
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
	// of are the copies by the UID of the workload and by the cluster.
	of map[types.UID]map[string]*Copy
	// works are the Works by cluster.
	works map[string][]*v1alpha1.Work
}

// CopiesOf reads Works, each with the name of the cluster that it is for. Those of namespaces that are of no cluster are left
// out. What agents say counts only for workloads that they were given.
func CopiesOf(clusters []string, works []*v1alpha1.Work) *Copies {
	c := &Copies{of: map[types.UID]map[string]*Copy{}, works: map[string][]*v1alpha1.Work{}}
	names := make(map[string]string, len(clusters))
	for _, name := range clusters {
		names[v1alpha1.WorkNamespace(name)] = name
	}
	for _, w := range works {
		if cluster, found := names[w.Namespace]; found {
			c.works[cluster] = append(c.works[cluster], w)
			c.read(cluster, w)
		}
	}
	return c
}

func (c *Copies) read(cluster string, w *v1alpha1.Work) {
	statuses := make(map[types.UID]*v1alpha1.ManifestStatus, len(w.Status.Manifests))
	for i := range w.Status.Manifests {
		if s := &w.Status.Manifests[i]; s.WorkloadUID != "" {
			statuses[s.WorkloadUID] = s
		}
	}
	for i := range w.Spec.Manifests {
		m := &w.Spec.Manifests[i]
		if m.WorkloadUID == "" {
			continue
		}
		c.add(cluster, m.WorkloadUID, &Copy{Work: w, Manifest: m, Status: statuses[m.WorkloadUID]})
	}
	// What the agent had when it was last heard of, and what has left since, is there until the agent has carried that out.
	if w.Status.ObservedGeneration < w.Generation {
		for uid, status := range statuses {
			if c.of[uid][cluster] == nil {
				c.add(cluster, uid, &Copy{Work: w, Removing: &status.ManifestReference})
			}
		}
	}
	for i := range w.Status.Removing {
		if uid := w.Status.Removing[i].WorkloadUID; uid != "" && c.of[uid][cluster] == nil {
			c.add(cluster, uid, &Copy{Work: w, Removing: &w.Status.Removing[i]})
		}
	}
}

func (c *Copies) add(cluster string, uid types.UID, copied *Copy) {
	if c.of[uid] == nil {
		c.of[uid] = map[string]*Copy{}
	}
	if before := c.of[uid][cluster]; before == nil || before.Manifest == nil {
		c.of[uid][cluster] = copied
	}
}

// Of returns the copies of a workload by cluster. Nothing in it may be changed.
func (c *Copies) Of(uid types.UID) map[string]*Copy { return c.of[uid] }

// None says that there are none.
func (c *Copies) None() bool { return len(c.of) == 0 }

// All yields the copies of each workload.
func (c *Copies) All() iter.Seq2[types.UID, map[string]*Copy] { return maps.All(c.of) }

// Works returns the Works of a cluster.
func (c *Copies) Works(cluster string) []*v1alpha1.Work { return c.works[cluster] }

// Departures are copies that are to be removed, of which the agent has not said yet that they are gone.
//
// An agent says that by carrying out a Work as it is without the copy. So what has to be remembered is which version of each
// Work was the first seen without it; after a restart that is a later one, and the copy counts as there for longer.
type Departures map[departure]map[types.UID]int64

type departure struct {
	uid     types.UID
	cluster string
}

// Gone says whether nothing of a workload is left in a cluster. It is to be asked of each pair that matters each time, and of no
// others: what is not asked for is forgotten by Forget.
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

// Forget drops all that is remembered but what keep returns true for.
func (d Departures) Forget(keep func(uid types.UID, cluster string) bool) {
	for key := range d {
		if !keep(key.uid, key.cluster) {
			delete(d, key)
		}
	}
}
