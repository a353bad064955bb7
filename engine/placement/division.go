package placement

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Division is how the replicas of a workload are divided among its clusters.
type Division struct {
	By v1alpha1.ReplicaDivision
	// Min and Max bound how many replicas a cluster gets, unless it gets none; Max is 0 if there is no limit.
	Min, Max int64
	// Partial places as many replicas as there is room for.
	Partial bool

	weights []clusterWeight
}

type clusterWeight struct {
	clusters *Clusters
	weight   int64
}

// Weight returns the weight of a cluster, for division Weighted.
func (d *Division) Weight(c *snapshot.Cluster) int64 {
	for i := range d.weights {
		if w := &d.weights[i]; w.clusters.Select(c.Name, c.Location, c.Labels) {
			return w.weight
		}
	}
	return 0
}

// Excludes reports whether a cluster gets no replicas because it has no weight.
func (d *Division) Excludes(c *snapshot.Cluster) bool {
	return d.By == v1alpha1.DivideWeighted && d.Weight(c) == 0
}

// Divides returns how the replicas of a workload are divided; nil if each cluster gets all of them.
func (p *Placement) Divides(w *workload.Workload) *Division {
	if p.Division == nil || !w.Divisible || w.PerNode || w.Replicas < 1 {
		return nil
	}
	return p.Division
}

// Share returns the workload as the filter and the scores see it: as large as the least share that a cluster gets.
func (p *Placement) Share(w *workload.Workload) *workload.Workload {
	if d := p.Divides(w); d != nil {
		return w.Share(min(d.Min, w.Replicas))
	}
	return w
}

func (p *Placement) compileDivision(path *field.Path, spec *v1alpha1.WorkloadPlacementSpec) (errs field.ErrorList) {
	r := spec.ReplicaScheduling
	if r == nil {
		return nil
	}
	d := &Division{By: cmp.Or(r.Division, v1alpha1.DivideEven), Min: int64(cmp.Or(r.MinPerCluster, 1)), Max: int64(r.MaxPerCluster), Partial: r.Partial}
	switch r.Type {
	case "", v1alpha1.ReplicasDuplicated:
		if r.Division != "" && r.Division != v1alpha1.DivideEven || r.MinPerCluster > 1 || r.MaxPerCluster > 0 || len(r.Weights) > 0 || r.Partial {
			errs = append(errs, field.Invalid(path.Child("type"), cmp.Or(r.Type, v1alpha1.ReplicasDuplicated), "must be Divided for the other fields to count"))
		}
		return errs
	case v1alpha1.ReplicasDivided:
		p.Division = d
	default:
		return append(errs, field.NotSupported(path.Child("type"), r.Type, []v1alpha1.ReplicaSchedulingType{v1alpha1.ReplicasDivided, v1alpha1.ReplicasDuplicated}))
	}
	divisions := []v1alpha1.ReplicaDivision{v1alpha1.DivideAggregated, v1alpha1.DivideEven, v1alpha1.DivideFreeCapacity, v1alpha1.DivideOverflow, v1alpha1.DivideWeighted}
	if !slices.Contains(divisions, d.By) {
		errs = append(errs, field.NotSupported(path.Child("division"), d.By, divisions))
	}
	if d.Min < 1 || d.Max < 0 {
		errs = append(errs, field.Invalid(path, fmt.Sprintf("minPerCluster %d, maxPerCluster %d", d.Min, d.Max), "must be at least 1"))
	}
	if d.Max > 0 && d.Min > d.Max {
		errs = append(errs, field.Invalid(path.Child("minPerCluster"), d.Min, fmt.Sprintf("is above maxPerCluster, which is %d", d.Max)))
	}
	if p.OneCluster() {
		errs = append(errs, field.Invalid(path.Child("type"), r.Type, oneCluster(p.Strategy)+": use Spread, BinPack or Weighted"))
	}
	return append(errs, d.compileWeights(path.Child("weights"), r.Weights)...)
}

func (d *Division) compileWeights(path *field.Path, weights []v1alpha1.ClusterWeight) (errs field.ErrorList) {
	switch weighted := d.By == v1alpha1.DivideWeighted; {
	case weighted && len(weights) == 0:
		errs = append(errs, field.Required(path, "division Weighted divides by them, for example [{weight: 1}]"))
	case !weighted && len(weights) > 0:
		errs = append(errs, field.Forbidden(path, "count only for division Weighted"))
	}
	for i, w := range weights {
		at := path.Index(i)
		if w.Weight < 0 || w.Weight > maxClusterWeight {
			errs = append(errs, field.Invalid(at.Child("weight"), w.Weight, fmt.Sprintf("must be from 0 to %d", maxClusterWeight)))
		}
		clusters, more := CompileClusters(at, w.LocationSelector, w.ClusterSelector)
		errs = append(errs, more...)
		d.weights = append(d.weights, clusterWeight{clusters, int64(w.Weight)})
	}
	return errs
}

// maxClusterWeight is the largest weight of a cluster.
const maxClusterWeight = 1_000_000
