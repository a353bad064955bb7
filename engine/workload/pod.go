package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/internal/decode"
)

// podTemplate is the part of a pod, or of its template, that determines its requests and the nodes that it can run
// on. Nothing else is read, so nothing else can make a workload unreadable.
type podTemplate struct {
	Spec struct {
		nodes.PodSpec
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

// readPod reads the template at a path, and the storage that the ephemeral volumes of each pod claim.
func readPod(path string, content any) (template *podTemplate, storage capacity.Resources, err error) {
	read, problems := decode.To[podTemplate](content)
	for i, p := range problems {
		problems[i].Field = strings.TrimSuffix(child(path, p.Field), ".")
	}
	if err := problems.Err(); err != nil {
		return nil, storage, err
	}
	for i, v := range read.Spec.Volumes {
		claimed, err := v.Ephemeral.VolumeClaimTemplate.storage(fmt.Sprintf("%s[%d].ephemeral.volumeClaimTemplate", child(path, "spec.volumes"), i))
		if err != nil {
			return nil, storage, err
		}
		storage = storage.Add(claimed)
	}
	read.Spec.Volumes = nil
	return &read, storage, nil
}

// requests returns what the scheduler counts for a pod made from the template at a path, with what LimitRanges add.
func (t *podTemplate) requests(path string, defaults corev1.ResourceList) (capacity.Resources, error) {
	pod := t.pod()
	if countedAtMost(pod, defaults) > maxCounted {
		return capacity.Resources{}, fmt.Errorf("%s: the containers, times the resources that they and LimitRanges name, are more than %d", child(path, "spec"), maxCounted)
	}
	setDefaults(pod, defaults)
	if err := validateRequests(child(path, "spec"), &pod.Spec); err != nil {
		return capacity.Resources{}, err
	}
	requests, err := capacity.FromResourceList(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))
	if err != nil {
		return capacity.Resources{}, fmt.Errorf("%s: requests: %w", child(path, "spec"), err)
	}
	return requests, nil
}

// maxCounted bounds the cost of counting a pod, which grows with its containers times the named resources: those of sidecars
// count again for each init container, and those of LimitRanges for each container.
const maxCounted = 1 << 16

// countedAtMost returns how many amounts are added or compared at most to count a pod.
func countedAtMost(pod *corev1.Pod, defaults corev1.ResourceList) int {
	containers, names := 0, len(defaults)
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		containers++
		names += len(c.Resources.Requests) + len(c.Resources.Limits)
	}
	return containers * names
}

// asks returns what a pod made from the template at a path asks of its node.
func (t *podTemplate) asks(path string) (nodes.Pods, error) {
	requested := map[string]bool{}
	for _, c := range slices.Concat(t.Spec.InitContainers, t.Spec.Containers) {
		for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
			for name := range list {
				if strings.Contains(string(name), "/") {
					requested[string(name)] = true
				}
			}
		}
	}
	return t.Spec.Of(child(path, "spec"), slices.Sorted(maps.Keys(requested)))
}

// child returns the path of a field of the object at a path, which is empty for the whole object.
func child(path, field string) string { return strings.TrimPrefix(path+"."+field, ".") }

// pod returns a pod that shares the lists of the template.
func (t *podTemplate) pod() *corev1.Pod {
	containers := func(read []container) []corev1.Container {
		all := make([]corev1.Container, len(read))
		for i, c := range read {
			all[i] = corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Resources: c.Resources}
		}
		return all
	}
	resources := t.Spec.Resources
	if resources != nil {
		resources = &corev1.ResourceRequirements{Limits: resources.Limits, Requests: resources.Requests}
	}
	return &corev1.Pod{Spec: corev1.PodSpec{
		Overhead: t.Spec.Overhead, Resources: resources,
		InitContainers: containers(t.Spec.InitContainers), Containers: containers(t.Spec.Containers),
	}}
}

// setDefaults sets the requests that the API server sets when a pod is created: a limit without a request becomes the request, and then
// LimitRanges add theirs. It does not do so for templates, which is why workloads show none. test/kubernetes compares this with a
// server.
func setDefaults(pod *corev1.Pod, defaults corev1.ResourceList) {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			r := &containers[i].Resources
			request(r, func(corev1.ResourceName) bool { return true })
			r.Requests = withDefaults(r.Requests, defaults)
		}
	}
	// A limit of the pod as a whole stands in for what no container requests. Hugepages cannot be overcommitted: their limit is
	// the request, whatever the containers request.
	if pod.Spec.Resources != nil && len(pod.Spec.Resources.Limits) > 0 {
		sum := podresource.AggregateContainerRequests(pod, podresource.PodResourcesOptions{})
		request(pod.Spec.Resources, func(name corev1.ResourceName) bool {
			_, requested := sum[name]
			return podresource.IsSupportedPodLevelResource(name) &&
				(!requested || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix))
		})
	}
}

// request turns limits without a request into requests, for wanted resources.
func request(r *corev1.ResourceRequirements, wanted func(corev1.ResourceName) bool) {
	limits := maps.Clone(r.Limits)
	maps.DeleteFunc(limits, func(name corev1.ResourceName, _ resource.Quantity) bool { return !wanted(name) })
	r.Requests = withDefaults(r.Requests, limits)
}

// withDefaults returns a list with entries of another that it lacks. The lists are not modified.
func withDefaults(list, defaults corev1.ResourceList) corev1.ResourceList {
	result, copied := list, false
	for name, amount := range defaults {
		if _, exists := list[name]; exists {
			continue
		}
		if !copied {
			if result, copied = maps.Clone(list), true; result == nil {
				result = corev1.ResourceList{}
			}
		}
		result[name] = amount
	}
	return result
}

// DefaultRequests returns, by namespace, what LimitRanges add to each container that has no request for a resource. If several in a
// namespace set a value for a resource, the API server uses any of them, so the largest counts. An amount that no container
// may request is ignored.
func DefaultRequests(ranges []*corev1.LimitRange) map[string]corev1.ResourceList {
	all := map[string]corev1.ResourceList{}
	for _, r := range ranges {
		for _, limit := range r.Spec.Limits {
			if limit.Type != corev1.LimitTypeContainer {
				continue
			}
			// As the API server completes a LimitRange: max stands for a limit, a limit for a request, and then min does.
			given := withDefaults(withDefaults(withDefaults(limit.DefaultRequest, limit.Default), limit.Max), limit.Min)
			for name, amount := range given {
				if _, err := capacity.FromResourceList(corev1.ResourceList{name: amount}); err != nil {
					continue
				}
				if before, found := all[r.Namespace][name]; found && before.Cmp(amount) >= 0 {
					continue
				}
				if all[r.Namespace] == nil {
					all[r.Namespace] = corev1.ResourceList{}
				}
				all[r.Namespace][name] = amount
			}
		}
	}
	return all
}

// validateRequests checks each container on its own, since a negative request could hide in the sum of a pod.
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
