package render

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// changed is an object that is being changed. kinds is nil, and there are no pod templates, if it is not a workload.
type changed struct {
	*unstructured.Unstructured
	kinds *workload.Table
	with  []*unstructured.Unstructured
}

// OverrideError reports an override of a placement that cannot be applied to an object.
type OverrideError struct {
	// Placement is for example "WorkloadPlacement shop/web", Field a field of it.
	Placement, Field string
	Err              error
}

// Error implements error.
func (e *OverrideError) Error() string { return e.Placement + ": " + e.Field + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OverrideError) Unwrap() error { return e.Err }

// apply applies the changes to an object.
func (c *Changes) apply(object changed) error {
	if c == nil {
		return nil
	}
	for _, o := range c.overrides {
		if field, err := o.apply(object); err != nil {
			return &OverrideError{o.placement, o.path.String() + "." + field, err}
		}
	}
	return nil
}

// apply applies one override. An error comes with the field of the override.
func (o *override) apply(object changed) (field string, err error) {
	templates, err := object.templates()
	if err != nil {
		return "", err
	}
	if o.ImageRegistry != "" {
		for _, template := range templates {
			if err := setRegistry(template, o.ImageRegistry); err != nil {
				return "imageRegistry", err
			}
		}
	}
	if o.StorageClassName != "" {
		if err := o.setStorageClass(object, templates); err != nil {
			return "storageClassName", err
		}
	}
	if field, err := o.setLabels(object, templates); err != nil {
		return field, err
	}
	if err := setAll(object.Object, templates, "annotations", o.Annotations); err != nil {
		return "annotations", err
	}
	for _, template := range templates {
		for i := range o.Containers {
			if err := addToContainer(template.Content, &o.Containers[i]); err != nil {
				return fmt.Sprintf("containers[%d]", i), err
			}
		}
	}
	for i, patch := range o.patches {
		if !patch.patches(object) {
			continue
		}
		if field, err := patch.apply(object); err != nil {
			return fmt.Sprintf("patches[%d].%s", i, field), err
		}
	}
	return "", nil
}

func (c changed) templates() ([]workload.PodTemplate, error) {
	if c.kinds == nil {
		return nil, nil
	}
	return c.kinds.PodTemplates(c.Unstructured)
}

func (o *override) setStorageClass(object changed, templates []workload.PodTemplate) error {
	set := func(claim any) error {
		if claim, ok := claim.(map[string]any); ok {
			return unstructured.SetNestedField(claim, o.StorageClassName, "spec", "storageClassName")
		}
		return nil
	}
	if object.GroupVersionKind().GroupKind() == claimKind {
		return set(object.Object)
	}
	for _, template := range templates {
		for i, claim := range template.VolumeClaims {
			if err := set(claim); err != nil {
				return fmt.Errorf("%s[%d]: %w", template.VolumeClaimsPath, i, err)
			}
		}
		for i, volume := range listIn(template.Content, "spec", "volumes") {
			claim, _, _ := unstructured.NestedFieldNoCopy(volume, "ephemeral", "volumeClaimTemplate")
			if err := set(claim); err != nil {
				return fmt.Errorf("%s[%d]: %w", template.Child("spec.volumes"), i, err)
			}
		}
	}
	return nil
}

// setLabels sets labels, except those that a selector reads, so that it continues to select the same.
func (o *override) setLabels(object changed, templates []workload.PodTemplate) (field string, err error) {
	if len(templates) > 0 && len(o.Labels) > 0 {
		for _, other := range append([]*unstructured.Unstructured{object.Unstructured}, object.with...) {
			for _, key := range selectorKeys(other) {
				if _, found := o.Labels[key]; found {
					return "labels[" + key + "]", fmt.Errorf("the selector of %s reads this label, so it has to stay as it is: choose another", describe(other))
				}
			}
		}
	}
	return "labels", setAll(object.Object, templates, "labels", o.Labels)
}

// selectorKeys returns the labels of pods that an object selects by.
func selectorKeys(object *unstructured.Unstructured) []string {
	content, _, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "selector")
	fields, _ := content.(map[string]any)
	if _, isText := anyOf(fields).(string); isText { // of a Service or a ReplicationController
		return slices.Sorted(maps.Keys(fields))
	}
	selector, _ := decode.To[metav1.LabelSelector](content)
	keys := slices.Sorted(maps.Keys(selector.MatchLabels))
	for _, r := range selector.MatchExpressions {
		keys = append(keys, r.Key)
	}
	return keys
}

func anyOf(fields map[string]any) any {
	for _, value := range fields {
		return value
	}
	return nil
}

// setAll sets labels or annotations of an object and of its pod templates.
func setAll(object map[string]any, templates []workload.PodTemplate, name string, values map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := unstructured.SetNestedField(object, values[key], "metadata", name, key); err != nil {
			return err
		}
		for _, template := range templates {
			if err := unstructured.SetNestedField(template.Content, values[key], "metadata", name, key); err != nil {
				return fmt.Errorf("%s: %w", template.Path, err)
			}
		}
	}
	return nil
}

// addToContainer adds to the containers of that name.
func addToContainer(template map[string]any, o *v1alpha1.ContainerOverride) error {
	for _, field := range []string{"initContainers", "containers"} {
		for _, container := range listIn(template, "spec", field) {
			if container["name"] != o.Name {
				continue
			}
			if len(o.Args) > 0 {
				args, ok := container["args"].([]any)
				if !ok && container["args"] != nil {
					return fmt.Errorf("args of container %s must be a list", o.Name)
				}
				args = slices.Clone(args)
				for _, arg := range o.Args {
					args = append(args, arg)
				}
				container["args"] = args
			}
			if len(o.Env) > 0 {
				env, ok := container["env"].([]any)
				if !ok && container["env"] != nil {
					return fmt.Errorf("env of container %s must be a list", o.Name)
				}
				container["env"] = withEnv(slices.Clone(env), o.Env)
			}
		}
	}
	return nil
}

// withEnv sets variables in a list, replacing those of the same name.
func withEnv(env []any, variables []v1alpha1.EnvironmentVariable) []any {
	for _, v := range variables {
		variable := map[string]any{"name": v.Name, "value": v.Value}
		i := slices.IndexFunc(env, func(other any) bool {
			fields, _ := other.(map[string]any)
			return fields["name"] == v.Name
		})
		if i >= 0 {
			env[i] = variable
		} else {
			env = append(env, variable)
		}
	}
	return env
}

// Containers returns the names of the containers and init containers of a pod template.
func Containers(template map[string]any) (names []string) {
	for _, field := range []string{"initContainers", "containers"} {
		for _, container := range listIn(template, "spec", field) {
			if name, ok := container["name"].(string); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// listIn returns the objects of a list.
func listIn(object map[string]any, path ...string) []map[string]any {
	content, _, _ := unstructured.NestedFieldNoCopy(object, path...)
	list, _ := content.([]any)
	var all []map[string]any
	for _, element := range list {
		if element, ok := element.(map[string]any); ok {
			all = append(all, element)
		}
	}
	return all
}
