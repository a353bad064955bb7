package workload

import (
	"fmt"
	"maps"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	podresource "k8s.io/component-helpers/resource"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/decode"
)

// bookkeeping are annotations that tools write on every change of a workload. They are hidden from policies, so that a new
// image does not cause a new decision.
var bookkeeping = []string{
	corev1.LastAppliedConfigAnnotation,
	"deployment.kubernetes.io/revision",
}

// FromObject converts any object with a pod template at spec.template: Deployments, StatefulSets, Jobs and the like. Replicas are
// spec.replicas, or spec.parallelism of a Job, 1 by default. An error names the field; the workload then has only its
// reference, labels and annotations.
func FromObject(object *unstructured.Unstructured) (*Workload, error) {
	w := &Workload{
		Reference: Reference{
			APIVersion: object.GetAPIVersion(),
			Kind:       object.GetKind(),
			Namespace:  object.GetNamespace(),
			Name:       object.GetName(),
			UID:        string(object.GetUID()),
		},
		Labels:      object.GetLabels(),
		Annotations: object.GetAnnotations(),
		Replicas:    1,
	}
	for _, key := range bookkeeping {
		if _, found := w.Annotations[key]; found {
			w.Annotations = maps.Clone(w.Annotations)
			delete(w.Annotations, key)
		}
	}
	if gvk := object.GroupVersionKind(); gvk.Group == "apps" && gvk.Kind == "DaemonSet" {
		w.PerNode = true
	}
	return w, w.readSpec(object)
}

// End is why a workload is not decided on any more, in words; empty if it is.
type End string

// The ends of workloads.
const (
	BeingDeleted End = "it is being deleted"
	// HasFinished is a Job that needs no capacity any more.
	HasFinished End = "it has finished"
)

// EndOf returns the End of a workload.
func EndOf(object *unstructured.Unstructured) End {
	if object.GetDeletionTimestamp() != nil {
		return BeingDeleted
	}
	if object.GroupVersionKind().Group != batchv1.GroupName {
		return ""
	}
	value, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status", "conditions")
	conditions, _ := value.([]any) // none if it is of another type
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["status"] == string(corev1.ConditionTrue) {
			switch batchv1.JobConditionType(fmt.Sprint(c["type"])) {
			case batchv1.JobComplete, batchv1.JobFailed:
				return HasFinished
			}
		}
	}
	return ""
}

func (w *Workload) readSpec(object *unstructured.Unstructured) error {
	for _, field := range []string{"replicas", "parallelism"} {
		value, found, err := unstructured.NestedFieldNoCopy(object.Object, "spec", field)
		if err != nil {
			return fmt.Errorf("spec.%s: %w", field, err)
		}
		if !found || value == nil {
			continue
		}
		replicas, ok := value.(int64)
		if !ok || replicas < 0 || replicas > math.MaxInt32 {
			return fmt.Errorf("spec.%s: %v is not a count", field, value)
		}
		w.Replicas = replicas
	}
	content, found, err := unstructured.NestedFieldNoCopy(object.Object, "spec", "template")
	if err != nil {
		return fmt.Errorf("spec.template: %w", err)
	}
	if !found {
		return fmt.Errorf("spec.template: there is no pod template in this %s", object.GetKind())
	}
	template, problems := decode.At[podTemplate]("spec.template", content)
	if err := problems.Err(); err != nil {
		return err
	}
	pod := template.pod()
	if err := validateRequests(&pod.Spec); err != nil {
		return err
	}
	requests, err := capacity.FromResourceList(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))
	if err != nil {
		return fmt.Errorf("spec.template: requests: %w", err)
	}
	if w.Requests, err = requests.Mul(w.Replicas); err != nil {
		return fmt.Errorf("spec.template: requests of %d replicas: %w", w.Replicas, err)
	}
	return nil
}

// podTemplate is the part of a pod template that requests are computed from. Nothing else is read, so nothing else can make a
// workload unreadable.
type podTemplate struct {
	Spec struct {
		Overhead       corev1.ResourceList          `json:"overhead"`
		Resources      *corev1.ResourceRequirements `json:"resources"`
		InitContainers []container                  `json:"initContainers"`
		Containers     []container                  `json:"containers"`
	} `json:"spec"`
}

type container struct {
	Name          string                         `json:"name"`
	RestartPolicy *corev1.ContainerRestartPolicy `json:"restartPolicy"`
	Resources     corev1.ResourceRequirements    `json:"resources"`
}

func (t *podTemplate) pod() *corev1.Pod {
	containers := func(read []container) []corev1.Container {
		all := make([]corev1.Container, len(read))
		for i, c := range read {
			all[i] = corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Resources: c.Resources}
		}
		return all
	}
	return &corev1.Pod{Spec: corev1.PodSpec{
		Overhead: t.Spec.Overhead, Resources: t.Spec.Resources,
		InitContainers: containers(t.Spec.InitContainers), Containers: containers(t.Spec.Containers),
	}}
}

// validateRequests checks each container by itself, since a negative request could hide in the sum of a pod.
func validateRequests(pod *corev1.PodSpec) error {
	check := func(field, name string, list corev1.ResourceList) error {
		if _, err := capacity.FromResourceList(list); err != nil {
			return fmt.Errorf("spec.template.spec.%s[%s].resources.requests.%w", field, name, err)
		}
		return nil
	}
	for _, c := range pod.InitContainers {
		if err := check("initContainers", c.Name, c.Resources.Requests); err != nil {
			return err
		}
	}
	for _, c := range pod.Containers {
		if err := check("containers", c.Name, c.Resources.Requests); err != nil {
			return err
		}
	}
	if _, err := capacity.FromResourceList(pod.Overhead); err != nil {
		return fmt.Errorf("spec.template.spec.overhead.%w", err)
	}
	return nil
}
