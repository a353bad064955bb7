package check

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
	"github.com/kcp-placement/placement/internal/spelling"
	"github.com/kcp-placement/placement/offline/manifest"
)

// CodeOverride marks overrides that cannot be applied, or change nothing.
const CodeOverride = "override"

// delivery checks what is delivered.
type delivery struct {
	*checker
	objects  *render.Objects
	clusters []render.Cluster
}

func (c *checker) delivery(w *manifest.Workspace, clusters []manifest.Typed[v1alpha1.ClusterRegistration]) *delivery {
	d := &delivery{checker: c, objects: render.NewObjects(c.kinds)}
	for _, o := range w.ConfigMaps {
		d.objects.Put(o.Unstructured())
	}
	for _, o := range w.Others {
		d.objects.Put(o.Unstructured())
	}
	for _, o := range clusters {
		d.clusters = append(d.clusters, render.Cluster{Name: o.Typed.Name, Location: o.Typed.Spec.Location, Labels: o.Typed.Labels})
	}
	return d
}

// placement checks the overrides of a placement with its workloads.
func (d *delivery) placement(o manifest.Typed[v1alpha1.WorkloadPlacement], workloads []manifest.Workload) {
	overrides, errs := render.CompileOverrides(o.Typed)
	for _, err := range errs {
		reported := slices.ContainsFunc(d.report.Findings, func(f Finding) bool { return f.Object == o.String() && f.Field == err.Field })
		if !reported {
			d.find(Finding{Error, CodeOverride, o.Position(err.Field), o.String(), err.Field, err.ErrorBody()})
		}
	}
	if len(errs) > 0 || len(o.Typed.Spec.Delivery.Overrides) == 0 {
		return
	}
	d.inVain(o, overrides, workloads)
	// The fields that are wrong, with the first error of each and the number of workloads affected.
	wrong, count := map[string]error{}, map[string]int{}
	for _, w := range workloads {
		for _, err := range d.render(w, overrides) {
			var of *render.OverrideError
			if !errors.As(err, &of) {
				continue
			}
			if count[of.Field]++; count[of.Field] == 1 {
				wrong[of.Field] = fmt.Errorf("%s: %w", w, of.Err)
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(wrong)) {
		message := wrong[at].Error()
		if more := count[at] - 1; more > 0 {
			message += fmt.Sprintf(" (and %d more workloads)", more)
		}
		d.find(Finding{Error, CodeOverride, o.Position(at), o.String(), at, message})
	}
}

// render returns the errors in rendering a workload for any of the clusters, each once.
func (d *delivery) render(w manifest.Workload, overrides *render.Overrides) (errs []error) {
	needs, err := render.NeedsOf(d.kinds, w.Unstructured())
	if err != nil {
		return nil // reported where the workload is read
	}
	with, _ := d.objects.With(needs)
	rendered, reported := map[*render.Changes]bool{}, map[string]bool{}
	for _, cluster := range d.clusters {
		changes := overrides.For(cluster)
		if rendered[changes] {
			continue
		}
		rendered[changes] = true
		_, err := render.Manifests(render.Request{Kinds: d.kinds, Workload: w.Unstructured(), With: with, Changes: changes})
		for _, err := range split(err) {
			if !reported[err.Error()] {
				reported[err.Error()] = true
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// split returns the errors that are joined in one.
func split(err error) []error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// inVain reports overrides that select no cluster, and those of containers that no workload has, unless too little is known to tell.
func (d *delivery) inVain(o manifest.Typed[v1alpha1.WorkloadPlacement], overrides *render.Overrides, workloads []manifest.Workload) {
	warn := func(at *field.Path, format string, args ...any) {
		d.find(Finding{Warning, CodeOverride, o.Position(at.String()), o.String(), at.String(), fmt.Sprintf(format, args...)})
	}
	var containers, kinds []string
	for _, w := range workloads {
		templates, err := d.kinds.PodTemplates(w.Unstructured())
		if err != nil {
			return // reported where the workload is read
		}
		kinds = append(kinds, w.GetKind())
		for _, template := range templates {
			containers = append(containers, render.Containers(template.Content)...)
		}
	}
	path := field.NewPath("spec", "delivery", "overrides")
	for i, override := range o.Typed.Spec.Delivery.Overrides {
		if len(d.clusters) > 0 && !slices.ContainsFunc(d.clusters, func(c render.Cluster) bool { return overrides.Selects(i, c) }) {
			warn(path.Index(i), "selects none of the %d clusters", len(d.clusters))
		}
		if len(workloads) == 0 {
			continue
		}
		for j, c := range override.Containers {
			if !slices.Contains(containers, c.Name) {
				warn(path.Index(i).Child("containers").Index(j).Child("name"), "no workload of the placement has a container %s%s", c.Name, spelling.DidYouMean(c.Name, containers))
			}
		}
		for j, patch := range override.Patches {
			at := path.Index(i).Child("patches").Index(j).Child("kind")
			isOfWorkloads := slices.ContainsFunc(d.kinds.All(), func(k *workload.Definition) bool { return k.Kind == patch.Kind })
			switch near := spelling.Typo(patch.Kind, slices.Concat(kinds, companions)); {
			case patch.Kind == "":
			case isOfWorkloads && !slices.Contains(kinds, patch.Kind):
				warn(at, "no workload of the placement is a %s", patch.Kind)
			case near != "":
				warn(at, "there is no such kind, did you mean %s?", near)
			}
		}
	}
}

// companions are the kinds of objects that accompany workloads without the label.
var companions = func() (kinds []string) {
	for _, kind := range render.CompanionKinds {
		kinds = append(kinds, kind.Kind)
	}
	return kinds
}()
