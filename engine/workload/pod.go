package workload

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/decode"
)

// podTemplate is the part of a pod, or of its template, that requests are computed from. Nothing else is read, so nothing else
// can make a workload unreadable.
type podTemplate struct {
	Spec struct {
		Overhead       corev1.ResourceList          `json:"overhead"`
		Resources      *corev1.ResourceRequirements `json:"resources"`
		InitContainers []container                  `json:"initContainers"`
		Containers     []container                  `json:"containers"`
		Volumes        []struct {
			Ephemeral struct {
				VolumeClaimTemplate volumeClaim `json:"volumeClaimTemplate"`
			} `json:"ephemeral"`
		} `json:"volumes"`
	} `json:"spec"`
}

type container struct {
	Name          string                         `json:"name"`
	RestartPolicy *corev1.ContainerRestartPolicy `json:"restartPolicy"`
	Resources     corev1.ResourceRequirements    `json:"resources"`
}

// podRequests returns what the scheduler counts for a pod that is made of the template at a path, and the storage that its
// ephemeral volumes claim.
func podRequests(path string, content any) (requests, storage capacity.Resources, err error) {
	template, problems := decode.To[podTemplate](content)
	for i, p := range problems {
		problems[i].Field = strings.TrimSuffix(child(path, p.Field), ".")
	}
	if err := problems.Err(); err != nil {
		return requests, storage, err
	}
	pod := template.pod()
	setDefaults(pod)
	if err := validateRequests(child(path, "spec"), &pod.Spec); err != nil {
		return requests, storage, err
	}
	requests, err = capacity.FromResourceList(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))
	if err != nil {
		return requests, storage, fmt.Errorf("%s: requests: %w", child(path, "spec"), err)
	}
	for i, v := range template.Spec.Volumes {
		claimed, err := v.Ephemeral.VolumeClaimTemplate.storage(fmt.Sprintf("%s[%d].ephemeral.volumeClaimTemplate", child(path, "spec.volumes"), i))
		if err != nil {
			return requests, storage, err
		}
		storage = storage.Add(claimed)
	}
	return requests, storage, nil
}

// child returns the path of a field of the object at a path, which is empty for the whole object.
func child(path, field string) string { return strings.TrimPrefix(path+"."+field, ".") }

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

// setDefaults sets the requests that the API server sets when a pod is created: a limit without a request is a request. It does
// not do so for templates, which is why workloads show none. test/kubernetes compares this with a server.
func setDefaults(pod *corev1.Pod) {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			request(&containers[i].Resources, func(corev1.ResourceName) bool { return true })
		}
	}
	// A limit of the pod as a whole stands for what no container requests. Hugepages cannot be overcommitted: their limit is
	// the request, whatever containers say.
	if pod.Spec.Resources != nil && len(pod.Spec.Resources.Limits) > 0 {
		sum := podresource.AggregateContainerRequests(pod, podresource.PodResourcesOptions{})
		request(pod.Spec.Resources, func(name corev1.ResourceName) bool {
			_, requested := sum[name]
			return podresource.IsSupportedPodLevelResource(name) &&
				(!requested || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix))
		})
	}
}

// request makes requests of the limits that have none, where a resource is wanted.
func request(r *corev1.ResourceRequirements, wanted func(corev1.ResourceName) bool) {
	for name, limit := range r.Limits {
		if _, exists := r.Requests[name]; exists || !wanted(name) {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = limit
	}
}

// validateRequests checks each container by itself, since a negative request could hide in the sum of a pod.
func validateRequests(path string, pod *corev1.PodSpec) error {
	check := func(field string, list corev1.ResourceList) error {
		if _, err := capacity.FromResourceList(list); err != nil {
			return fmt.Errorf("%s.%s.%w", path, field, err)
		}
		return nil
	}
	for _, c := range pod.InitContainers {
		if err := check(fmt.Sprintf("initContainers[%s].resources.requests", c.Name), c.Resources.Requests); err != nil {
			return err
		}
	}
	for _, c := range pod.Containers {
		if err := check(fmt.Sprintf("containers[%s].resources.requests", c.Name), c.Resources.Requests); err != nil {
			return err
		}
	}
	if pod.Resources != nil {
		if err := check("resources.requests", pod.Resources.Requests); err != nil {
			return err
		}
	}
	return check("overhead", pod.Overhead)
}

// volumeClaim is the part of a template of a PersistentVolumeClaim that counts.
type volumeClaim struct {
	Spec struct {
		Resources corev1.VolumeResourceRequirements `json:"resources"`
	} `json:"spec"`
}

// storage returns what the template at a path asks for.
func (c *volumeClaim) storage(path string) (capacity.Resources, error) {
	asked, found := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if !found {
		return capacity.Resources{}, nil
	}
	storage, err := capacity.FromResourceList(corev1.ResourceList{corev1.ResourceStorage: asked})
	if err != nil {
		return capacity.Resources{}, fmt.Errorf("%s.spec.resources.requests.%w", path, err)
	}
	return storage, nil
}

// claimedStorage returns the storage that the templates of PersistentVolumeClaims at a path ask for.
func claimedStorage(path string, content any) (capacity.Resources, error) {
	claims, problems := decode.At[[]volumeClaim](path, content)
	if err := problems.Err(); err != nil {
		return capacity.Resources{}, err
	}
	var all capacity.Resources
	for i, c := range claims {
		storage, err := c.storage(fmt.Sprintf("%s[%d]", path, i))
		if err != nil {
			return capacity.Resources{}, err
		}
		all = all.Add(storage)
	}
	return all, nil
}
