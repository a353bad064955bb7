package agent

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
)

// pod is what is kept of a pod: about a hundred bytes and its requests.
type pod struct {
	key      string // namespace/name
	node     unique.Handle[string]
	workload unique.Handle[types.UID]
	requests []amount
	problems []string
	// absurd is set if a request is more than any node can have, over if the pod has ended and no longer requests anything.
	absurd, over bool
	// at is the index in its bucket.
	at int
}

// noWorkload is the workload of pods without the label.
var noWorkload = unique.Make(types.UID(""))

func (p *pod) same(o *pod) bool {
	return p.node == o.node && p.workload == o.workload && slices.Equal(p.requests, o.requests) && slices.Equal(p.problems, o.problems)
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, by which client-go computes keys.
func (p *pod) GetObjectMeta() metav1.Object {
	namespace, name, _ := strings.Cut(p.key, "/")
	return &metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// podOf reads a pod.
func podOf(object *corev1.Pod) *pod {
	p := &pod{
		key:      object.Namespace + "/" + object.Name,
		node:     unique.Make(object.Spec.NodeName),
		workload: unique.Make(types.UID(object.Labels[v1alpha1.LabelWorkloadUID])),
		over:     object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed,
	}
	if p.over {
		return p
	}
	object, unusable := p.repair(object)
	// With status: a pod that is being resized counts with the larger of its current and its new requests, as in the
	// scheduler.
	requests := amounts(podresource.PodRequests(object, podresource.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
	}), func(name corev1.ResourceName, err error) {
		p.problems = append(p.problems, "requests in all: "+err.Error())
		unusable[name] = true
	})
	p.requests = slices.DeleteFunc(requests, func(a amount) bool { return a.n == 0 || unusable[a.name.Value()] })
	for _, name := range slices.Sorted(maps.Keys(unusable)) {
		p.requests = append(p.requests, amount{unique.Make(name), absurd})
		p.absurd = true
	}
	return p
}

// repair checks each list on its own, since a sum can hide a negative request. It returns a pod whose requests can be added up, without
// those that cannot be used, and the resources of those that are too large. A negative request counts as 0.
func (p *pod) repair(object *corev1.Pod) (*corev1.Pod, map[corev1.ResourceName]bool) {
	unusable := map[corev1.ResourceName]bool{}
	sound := true
	for _, list := range requestsOf(object) {
		if _, err := capacity.FromResourceList(*list); err != nil {
			sound = false
		}
	}
	if sound {
		return object, unusable
	}
	object = object.DeepCopy()
	for field, list := range requestsOf(object) {
		amounts(*list, func(name corev1.ResourceName, err error) {
			p.problems = append(p.problems, field.String()+"."+err.Error())
			if q := (*list)[name]; q.Sign() > 0 {
				unusable[name] = true
			}
			delete(*list, name)
		})
	}
	return object, unusable
}

// field is the path of a list of requests in a pod.
type field struct{ path, container, list string }

func (f field) String() string {
	if f.container == "" {
		return f.path + f.list
	}
	return f.path + "[" + f.container + "]" + f.list
}

// requestsOf yields all lists that the requests of a pod are computed from.
func requestsOf(object *corev1.Pod) iter.Seq2[field, *corev1.ResourceList] {
	return func(yield func(field, *corev1.ResourceList) bool) {
		containers := func(path string, containers []corev1.Container) bool {
			for i := range containers {
				if c := &containers[i]; !yield(field{path, c.Name, ".resources.requests"}, &c.Resources.Requests) {
					return false
				}
			}
			return true
		}
		statuses := func(path string, statuses []corev1.ContainerStatus) bool {
			for i := range statuses {
				s := &statuses[i]
				if s.Resources != nil && !yield(field{path, s.Name, ".resources.requests"}, &s.Resources.Requests) ||
					!yield(field{path, s.Name, ".allocatedResources"}, &s.AllocatedResources) {
					return false
				}
			}
			return true
		}
		_ = containers("spec.initContainers", object.Spec.InitContainers) &&
			containers("spec.containers", object.Spec.Containers) &&
			(object.Spec.Resources == nil || yield(field{"spec", "", ".resources.requests"}, &object.Spec.Resources.Requests)) &&
			yield(field{"spec", "", ".overhead"}, &object.Spec.Overhead) &&
			statuses("status.initContainerStatuses", object.Status.InitContainerStatuses) &&
			statuses("status.containerStatuses", object.Status.ContainerStatuses) &&
			(object.Status.Resources == nil || yield(field{"status", "", ".resources.requests"}, &object.Status.Resources.Requests)) &&
			yield(field{"status", "", ".allocatedResources"}, &object.Status.AllocatedResources)
	}
}

// amounts reads a list except the resource "pods", which is counted separately. It calls refuse for amounts that cannot be used.
func amounts(list corev1.ResourceList, refuse func(name corev1.ResourceName, err error)) []amount {
	all := make([]amount, 0, len(list))
	take := func(resources capacity.Resources) {
		for name, n := range resources.Each {
			if _, given := list[corev1.ResourceName(name)]; given && name != string(corev1.ResourcePods) {
				all = append(all, amount{unique.Make(corev1.ResourceName(name)), n})
			}
		}
	}
	resources, err := capacity.FromResourceList(list)
	if err == nil {
		take(resources)
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		one := corev1.ResourceList{name: list[name]}
		if resources, err := capacity.FromResourceList(one); err != nil {
			refuse(name, err)
		} else if n := resources.Get(string(name)); name != corev1.ResourcePods {
			all = append(all, amount{unique.Make(name), n})
		}
	}
	return all
}

// node is what is kept of a node.
type node struct {
	name        string
	state       state
	ready       bool
	allocatable []amount
	slots       int64 // how many pods it can run
	problems    []string
	traits      *traits // nil while it can take no pods, whatever they tolerate
}

// state is whether a node can take pods and, if not, why: the first of these that applies.
type state int

const (
	usable state = iota
	notReady
	unschedulable
	tainted
	invalid
)

func (n *node) usable() bool { return n != nil && n.state == usable }

func (n *node) same(o *node) bool {
	return n.state == o.state && n.ready == o.ready && n.slots == o.slots &&
		slices.Equal(n.allocatable, o.allocatable) && slices.Equal(n.problems, o.problems) && n.traits.same(o.traits)
}

// has returns the node's amount of a resource.
func (n *node) has(name unique.Handle[corev1.ResourceName]) int64 {
	if n != nil {
		for _, a := range n.allocatable {
			if a.name == name {
				return a.n
			}
		}
	}
	return 0
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, by which client-go computes keys.
func (n *node) GetObjectMeta() metav1.Object { return &metav1.ObjectMeta{Name: n.name} }

// nodeOf reads a node.
func nodeOf(object *corev1.Node, tolerations []corev1.Toleration) *node {
	n := &node{name: object.Name}
	for _, c := range object.Status.Conditions {
		if c.Type == corev1.NodeReady {
			n.ready = c.Status == corev1.ConditionTrue
		}
	}
	n.traits = traitsOf(object, n.ready)
	n.allocatable = amounts(object.Status.Allocatable, func(_ corev1.ResourceName, err error) {
		n.problems = append(n.problems, "status.allocatable."+err.Error())
	})
	n.allocatable = slices.DeleteFunc(n.allocatable, func(a amount) bool { return a.n == 0 })
	if n.ready && len(object.Status.Allocatable) == 0 {
		n.problems = append(n.problems, "status.allocatable is empty")
	}
	if slots := object.Status.Allocatable[corev1.ResourcePods]; len(n.problems) == 0 {
		n.slots = slots.Value()
	}
	_, isTainted := scheduling.FindMatchingUntoleratedTaint(klog.Background(), object.Spec.Taints, tolerations, keepsAway, false)
	switch {
	case !n.ready:
		n.state = notReady
	case object.Spec.Unschedulable:
		n.state = unschedulable
	case isTainted:
		n.state = tainted
	case len(n.problems) > 0:
		n.state = invalid
	}
	if len(n.problems) > 0 { // then nothing of it is counted
		n.allocatable = nil
	}
	return n
}

// keepsAway reports whether a taint keeps away pods that do not tolerate it.
func keepsAway(t *corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
}
