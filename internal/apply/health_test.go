package apply

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestHealth: health is kstatus's, and the message is the first thing that is wrong.
func TestHealth(t *testing.T) {
	start := metav1.NewTime(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC))
	for _, test := range []struct {
		name, object       string
		health             v1alpha1.Health
		message, complaint string
		counts             *v1alpha1.WorkloadCounts
		finished           bool
	}{
		{name: "no controller has seen it", health: v1alpha1.HealthInProgress, message: "Replicas: 0/3", counts: &v1alpha1.WorkloadCounts{Desired: 3}, object: `{kind: Deployment, apiVersion: apps/v1, metadata: {generation: 1}, spec: {replicas: 3}}`},
		{
			name: "a rollout goes on", health: v1alpha1.HealthInProgress, message: "Updated: 1/2",
			object: `{kind: Deployment, apiVersion: apps/v1, metadata: {generation: 2}, spec: {replicas: 2},
				status: {observedGeneration: 2, replicas: 3, updatedReplicas: 1, readyReplicas: 2, availableReplicas: 2}}`,
			counts: &v1alpha1.WorkloadCounts{Desired: 2, Replicas: 3, Updated: 1, Ready: 2, Available: 2},
		},
		{
			name: "the status is of an earlier template", health: v1alpha1.HealthInProgress, message: "Deployment generation is 2, but latest observed generation is 1",
			object: `{kind: Deployment, apiVersion: apps/v1, metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 1, replicas: 1,
				updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, conditions: [{type: Available, status: "True"}]}}`,
			counts: &v1alpha1.WorkloadCounts{Desired: 1, Replicas: 1, Ready: 1, Available: 1},
		},
		{
			name: "the status is of an earlier template, of a DaemonSet", health: v1alpha1.HealthInProgress, message: "DaemonSet generation is 2, but latest observed generation is 1",
			object: `{kind: DaemonSet, apiVersion: apps/v1, metadata: {generation: 2}, status: {observedGeneration: 1, desiredNumberScheduled: 2, currentNumberScheduled: 2,
				updatedNumberScheduled: 2, numberReady: 2, numberAvailable: 2}}`,
			counts: &v1alpha1.WorkloadCounts{Desired: 2, Replicas: 2, Ready: 2, Available: 2},
		},
		{
			name: "a quota forbids pods", health: v1alpha1.HealthInProgress, message: "Replicas: 0/2", complaint: "FailedCreate: pods is forbidden: exceeded quota",
			object: `{kind: Deployment, apiVersion: apps/v1, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1,
				conditions: [{type: Progressing, status: "True"}, {type: ReplicaFailure, status: "True", reason: FailedCreate, message: "pods is forbidden: exceeded quota"}]}}`,
			counts: &v1alpha1.WorkloadCounts{Desired: 2},
		},
		{
			name: "a Deployment is ready", health: v1alpha1.HealthCurrent,
			object: `{kind: Deployment, apiVersion: apps/v1, metadata: {generation: 1}, spec: {replicas: 1}, status: {observedGeneration: 1, replicas: 1,
				updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, conditions: [{type: Available, status: "True"}]}}`,
			counts: &v1alpha1.WorkloadCounts{Desired: 1, Replicas: 1, Updated: 1, Ready: 1, Available: 1},
		},
		{
			name: "a Job has started", health: v1alpha1.HealthCurrent,
			object: `{kind: Job, apiVersion: batch/v1, status: {active: 1, ready: 1, startTime: "2026-11-26T12:00:00Z"}}`,
			counts: &v1alpha1.WorkloadCounts{Active: 1, Ready: 1, StartTime: &start},
		},
		{
			name: "a Job is done", health: v1alpha1.HealthCurrent, finished: true,
			object: `{kind: Job, apiVersion: batch/v1, status: {succeeded: 1, conditions: [{type: Complete, status: "True"}]}}`,
			counts: &v1alpha1.WorkloadCounts{Succeeded: 1},
		},
		{
			name: "a Job has failed", health: v1alpha1.HealthFailed, message: "Job Failed. failed: 1/1", complaint: "BackoffLimitExceeded: it has failed too often",
			object: `{kind: Job, apiVersion: batch/v1, status: {failed: 1, conditions: [{type: Failed, status: "True", reason: BackoffLimitExceeded, message: it has failed too often}]}}`,
			counts: &v1alpha1.WorkloadCounts{Failed: 1},
		},
		{
			name: "a DaemonSet counts nodes", health: v1alpha1.HealthInProgress, message: "Available: 1/2",
			object: `{kind: DaemonSet, apiVersion: apps/v1, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 2, currentNumberScheduled: 2,
				updatedNumberScheduled: 2, numberReady: 1, numberAvailable: 1}}`,
			counts: &v1alpha1.WorkloadCounts{Desired: 2, Replicas: 2, Updated: 2, Ready: 1, Available: 1},
		},
		{
			name: "a status that no controller writes", health: v1alpha1.HealthInProgress, message: "its status cannot be read: cannot restore slice from map",
			object: `{kind: Deployment, apiVersion: apps/v1, metadata: {generation: 1}, status: {replicas: many, readyReplicas: 1e30, conditions: {}}}`,
		},
		{name: "no status at all", health: v1alpha1.HealthCurrent, object: `{kind: ConfigMap, apiVersion: v1}`},
		{name: "it is being deleted", health: v1alpha1.HealthTerminating, message: "it is being deleted", object: `{kind: ConfigMap, apiVersion: v1, metadata: {deletionTimestamp: "2026-11-26T12:00:00Z"}}`},
	} {
		object := &unstructured.Unstructured{}
		if content, err := yaml.YAMLToJSON([]byte(test.object)); err != nil || object.UnmarshalJSON(content) != nil {
			t.Fatal(test.object, err)
		}
		health, message := healthOf(object)
		observed := statusOf(object)
		if health != test.health || message != test.message || complaint(observed) != test.complaint || observed.finished() != test.finished {
			t.Errorf("%s: %s, %q, %q, finished %t", test.name, health, message, complaint(observed), observed.finished())
		}
		if diff := cmp.Diff(test.counts, observed.counts()); diff != "" {
			t.Errorf("%s: counts, -want +got:\n%s", test.name, diff)
		}
	}
}
