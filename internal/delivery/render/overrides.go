package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
)

// Overrides are the compiled overrides of a placement. They are safe for concurrent use.
type Overrides struct {
	all []*override

	mu sync.Mutex
	// changes are keyed by the indices of the overrides that they come from.
	changes map[string]*Changes
}

type override struct {
	*v1alpha1.Override
	// placement, and path of the override in it.
	placement string
	path      *field.Path
	clusters  *placement.Clusters
	patches   []*patch
}

// Changes is what the overrides of a placement change in a cluster. Clusters that the same overrides select share the same
// Changes, so what is rendered for one is valid for the others.
type Changes struct {
	overrides []*override
}

// Cluster is the properties that overrides select by.
type Cluster struct {
	Name, Location string
	Labels         map[string]string
}

// CompileOverrides validates and compiles the overrides of a placement. If any is invalid, none applies.
func CompileOverrides(p *v1alpha1.WorkloadPlacement) (*Overrides, field.ErrorList) {
	o := &Overrides{changes: map[string]*Changes{}}
	path := field.NewPath("spec", "delivery", "overrides")
	var errs field.ErrorList
	operations, size := 0, 0
	for i := range p.Spec.Delivery.Overrides {
		compiled, more := compileOverride(path.Index(i), &p.Spec.Delivery.Overrides[i])
		compiled.placement = "WorkloadPlacement " + p.Namespace + "/" + p.Name
		o.all, errs = append(o.all, compiled), append(errs, more...)
		for _, patch := range compiled.patches {
			operations, size = operations+len(patch.operations), size+patch.size
		}
	}
	if operations > maxOperations {
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, fmt.Sprintf("patches have %d operations, may have at most %d together", operations, maxOperations)))
	}
	if size > maxPatchBytes {
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, fmt.Sprintf("patches have %d KiB of values, may have at most %d KiB together", size>>10, maxPatchBytes>>10)))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return o, nil
}

// Bounds of the patches of a placement, which are applied to each object.
const (
	maxOperations = 256
	maxPatchBytes = 256 << 10
)

// For returns what the overrides change in a cluster; nil if nothing.
func (o *Overrides) For(c Cluster) *Changes {
	if o == nil || len(o.all) == 0 {
		return nil
	}
	var selected []*override
	var key strings.Builder
	for i, override := range o.all {
		if o.Selects(i, c) {
			selected = append(selected, override)
			fmt.Fprintf(&key, "%d ", i)
		}
	}
	if len(selected) == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	changes := o.changes[key.String()]
	if changes == nil {
		changes = &Changes{selected}
		o.changes[key.String()] = changes
	}
	return changes
}

// Selects reports whether the override at an index selects a cluster.
func (o *Overrides) Selects(i int, c Cluster) bool {
	return o.all[i].clusters.Select(c.Name, c.Location, c.Labels)
}

func compileOverride(path *field.Path, spec *v1alpha1.Override) (*override, field.ErrorList) {
	clusters, errs := placement.CompileClusters(path, spec.LocationSelector, spec.ClusterSelector)
	o := &override{Override: spec, path: path, clusters: clusters}
	if spec.ImageRegistry != "" {
		if err := validateRegistry(spec.ImageRegistry); err != nil {
			errs = append(errs, field.Invalid(path.Child("imageRegistry"), spec.ImageRegistry, err.Error()))
		}
	}
	if spec.StorageClassName != "" {
		for _, message := range apivalidation.NameIsDNSSubdomain(spec.StorageClassName, false) {
			errs = append(errs, field.Invalid(path.Child("storageClassName"), spec.StorageClassName, message))
		}
	}
	validateKeys := func(name string, all map[string]string, validate func(map[string]string, *field.Path) field.ErrorList) {
		for _, key := range slices.Sorted(maps.Keys(all)) {
			errs = append(errs, validate(map[string]string{key: all[key]}, path.Child(name))...)
			if ofKcp(key) {
				errs = append(errs, field.Forbidden(path.Child(name).Key(key), "keys of the domain kcp.io are delivery's own: choose another"))
			}
		}
	}
	validateKeys("labels", spec.Labels, metav1validation.ValidateLabels)
	validateKeys("annotations", spec.Annotations, apivalidation.ValidateAnnotations)
	for i, c := range spec.Containers {
		for j, env := range c.Env {
			for _, message := range validation.IsRelaxedEnvVarName(env.Name) {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Child("env").Index(j).Child("name"), env.Name, message))
			}
		}
	}
	for i := range spec.Patches {
		compiled, more := compilePatch(path.Child("patches").Index(i), &spec.Patches[i])
		o.patches, errs = append(o.patches, compiled), append(errs, more...)
	}
	return o, errs
}
