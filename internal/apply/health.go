// Package apply is the agent's side of delivery: it keeps a physical cluster in line with the Works of its registration, and reports
// progress and problems in their status.
package apply

import (
	"fmt"
	"math"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// healthOf returns the progress of the cluster's controllers with an object, in the terms of kstatus. The message is what they
// wait for, or why they have given up.
func healthOf(object *unstructured.Unstructured) (health v1alpha1.Health, message string) {
	defer func() { // kstatus assumes that an object is as its API server would have it
		if p := recover(); p != nil {
			health, message = v1alpha1.HealthInProgress, fmt.Sprintf("its status cannot be read: %v", p)
		}
	}()
	result, err := status.Compute(object)
	if err != nil {
		return v1alpha1.HealthInProgress, fmt.Sprintf("its status cannot be read: %v", err)
	}
	switch result.Status {
	case status.CurrentStatus:
		return v1alpha1.HealthCurrent, ""
	case status.FailedStatus:
		return v1alpha1.HealthFailed, result.Message
	case status.TerminatingStatus:
		return v1alpha1.HealthTerminating, "it is being deleted"
	default:
		return v1alpha1.HealthInProgress, result.Message
	}
}

// alarming maps conditions to the status that indicates a problem, in objects that are not Current.
var alarming = map[string]corev1.ConditionStatus{
	"ReplicaFailure": corev1.ConditionTrue, "FailureTarget": corev1.ConditionTrue, "Failed": corev1.ConditionTrue, "Stalled": corev1.ConditionTrue,
	"Progressing": corev1.ConditionFalse,
}

// complaint returns the first alarming condition of a workload as text; empty if there is none.
func complaint(observed *observedStatus) string {
	for _, c := range observed.Conditions {
		if alarming[c.Type] == c.Status && c.Status != "" {
			return joined(c.Reason, c.Message)
		}
	}
	return ""
}

// joined prefixes a message with the reason unless it already contains it.
func joined(reason, message string) string {
	switch {
	case message == "":
		return reason
	case reason == "" || strings.Contains(message, reason):
		return message
	default:
		return reason + ": " + message
	}
}

// observedStatus is what is read of the status of workloads of all kinds.
type observedStatus struct {
	v1alpha1.WorkloadCounts `json:",inline"`

	ReadyReplicas          int32 `json:"readyReplicas"`
	UpdatedReplicas        int32 `json:"updatedReplicas"`
	AvailableReplicas      int32 `json:"availableReplicas"`
	DesiredNumberScheduled int32 `json:"desiredNumberScheduled"`
	CurrentNumberScheduled int32 `json:"currentNumberScheduled"`
	UpdatedNumberScheduled int32 `json:"updatedNumberScheduled"`
	NumberReady            int32 `json:"numberReady"`
	NumberAvailable        int32 `json:"numberAvailable"`
	// ObservedGeneration is nil if the kind does not report which generation its status is for.
	ObservedGeneration *int64 `json:"observedGeneration"`
	// Ready of a Job is a number; anything that is not a number is left out.
	Conditions []observedCondition `json:"conditions"`
}

type observedCondition struct {
	Type    string                 `json:"type"`
	Status  corev1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason"`
	Message string                 `json:"message"`
}

// statusOf reads an object's status. What cannot be read is left out, as is the number of updated pods in a status of an earlier generation:
// these pods are from a template that is no longer the object's.
func statusOf(object *unstructured.Unstructured) *observedStatus {
	observed, _ := decode.To[observedStatus](object.Object["status"])
	replicas, _, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	observed.Desired = int32(min(max(replicas, 0), math.MaxInt32))
	if of := observed.ObservedGeneration; of != nil && *of != object.GetGeneration() {
		observed.UpdatedReplicas, observed.UpdatedNumberScheduled = 0, 0
	}
	return &observed
}

// counts returns the counts of Deployments and similar kinds, of DaemonSets or of Jobs; nil if nothing is counted.
func (o *observedStatus) counts() *v1alpha1.WorkloadCounts {
	c := o.WorkloadCounts
	c.Desired += o.DesiredNumberScheduled
	c.Replicas += o.CurrentNumberScheduled
	c.Updated += o.UpdatedReplicas + o.UpdatedNumberScheduled
	c.Ready += o.ReadyReplicas + o.NumberReady
	c.Available += o.AvailableReplicas + o.NumberAvailable
	if c == (v1alpha1.WorkloadCounts{}) {
		return nil
	}
	return &c
}

// finished reports whether a Job has succeeded: kstatus treats a Job as Current as soon as it has started.
func (o *observedStatus) finished() bool {
	for _, c := range o.Conditions {
		if c.Type == string(batchv1.JobComplete) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
