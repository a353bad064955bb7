package apply

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// pods holds the problems of each workload's pods; most have none.
type pods map[types.UID]map[types.NamespacedName]string

// pod is what is kept of one pod.
type pod struct {
	types.NamespacedName
	workload        types.UID
	resourceVersion string
	trouble         string
}

func podOf(object *unstructured.Unstructured) *pod {
	p := &pod{
		NamespacedName:  types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()},
		workload:        types.UID(object.GetLabels()[v1alpha1.LabelWorkloadUID]),
		resourceVersion: object.GetResourceVersion(),
	}
	if object.GetDeletionTimestamp() == nil {
		status, _ := decode.To[podStatus](object.Object["status"])
		p.trouble = status.trouble()
	}
	return p
}

// podStatus is what is read of the status of a pod.
type podStatus struct {
	Phase                 corev1.PodPhase     `json:"phase"`
	Reason                string              `json:"reason"`
	Message               string              `json:"message"`
	Conditions            []observedCondition `json:"conditions"`
	InitContainerStatuses []containerStatus   `json:"initContainerStatuses"`
	ContainerStatuses     []containerStatus   `json:"containerStatuses"`
}

type containerStatus struct {
	Name  string `json:"name"`
	State struct {
		Waiting    *containerState `json:"waiting"`
		Terminated *containerState `json:"terminated"`
	} `json:"state"`
	LastState struct {
		Terminated *containerState `json:"terminated"`
	} `json:"lastState"`
}

type containerState struct {
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	ExitCode int32  `json:"exitCode"`
}

// trouble returns, as text, what keeps a pod from being ready and does not pass by itself; empty if there is nothing.
func (s *podStatus) trouble() string {
	if s.Phase == corev1.PodFailed && s.Reason != "" {
		return joined(s.Reason, s.Message)
	}
	for _, c := range s.Conditions {
		if c.Type == string(corev1.PodScheduled) && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return joined(c.Reason, c.Message)
		}
	}
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		switch w, ended := c.State.Waiting, c.State.Terminated; {
		case w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing":
			text := joined(w.Reason, w.Message)
			if last := c.LastState.Terminated; last != nil {
				text += fmt.Sprintf(" (it ended last with exit code %d, %s)", last.ExitCode, last.Reason)
			}
			return fmt.Sprintf("container %s: %s", c.Name, text)
		case ended != nil && ended.ExitCode != 0:
			return fmt.Sprintf("container %s: %s (exit code %d)", c.Name, joined(ended.Reason, ended.Message), ended.ExitCode)
		}
	}
	return ""
}

// observe records a pod, and reports whether anything has changed.
func (all pods) observe(p *pod) bool {
	of := all[p.workload]
	before, found := of[p.NamespacedName]
	if found && before == p.trouble {
		return false
	}
	if of == nil {
		of = map[types.NamespacedName]string{}
		all[p.workload] = of
	}
	of[p.NamespacedName] = p.trouble
	return p.trouble != before
}

// forget removes a pod, and reports whether it had a problem.
func (all pods) forget(p *pod) bool {
	of := all[p.workload]
	trouble := of[p.NamespacedName]
	delete(of, p.NamespacedName)
	if len(of) == 0 {
		delete(all, p.workload)
	}
	return trouble != ""
}

// trouble returns the problem of the first pod of a workload that has one, and how many have.
func (all pods) trouble(workload types.UID, namespace string) string {
	var first types.NamespacedName
	total, wrong := 0, 0
	for name, trouble := range all[workload] {
		if name.Namespace != namespace {
			continue // anybody who can create pods can give them this label
		}
		total++
		if trouble == "" {
			continue
		}
		wrong++
		if first.Name == "" || name.Name < first.Name {
			first = name
		}
	}
	if wrong == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d pods: %s", wrong, total, all[workload][first])
}

// any reports whether a workload has pods.
func (all pods) any(workload types.UID, namespace string) bool {
	for name := range all[workload] {
		if name.Namespace == namespace {
			return true
		}
	}
	return false
}

// each yields the names of all pods.
func (all pods) each(yield func(*pod) bool) {
	for workload, of := range all {
		for name := range maps.Keys(of) {
			if !yield(&pod{NamespacedName: name, workload: workload}) {
				return
			}
		}
	}
}
