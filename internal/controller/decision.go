package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// toAPI converts the decision on a workload to its published form.
func toAPI(d *engine.Decision, item *workItem, now time.Time) v1alpha1.WorkloadDecision {
	object := item.object
	result := v1alpha1.WorkloadDecision{
		Workload:           v1alpha1.WorkloadReference{APIVersion: object.APIVersion, Kind: object.Kind, Name: object.Name, UID: object.UID},
		DefaultRequest:     object.defaultRequest,
		PolicyDigest:       d.PolicyDigest,
		InputsDigest:       d.InputsDigest,
		SnapshotGeneration: d.Generation,
		DecidedAt:          metav1.NewTime(now),
		Group:              d.Group,
		Divided:            d.Divides() || item.stored.Divided && item.object.workload.Whole().Replicas == 0, // shares of zero replicas, until it is scaled up again
		WaitingReplicas:    int32(d.Waiting),
	}
	for _, c := range d.Clusters {
		cluster := v1alpha1.ClusterDecision{Name: c.Name, Replicas: int32(c.Replicas), Score: int32(c.Score), Reason: c.Reason}
		if at := slices.IndexFunc(item.stored.Clusters, func(had v1alpha1.ClusterDecision) bool { return had.Name == c.Name }); c.Expired && at >= 0 {
			cluster.ReservationExpiredAt = item.stored.Clusters[at].ReservationExpiredAt
		}
		result.Clusters = append(result.Clusters, cluster)
	}
	setReserved(&result, func(i int) capacity.Resources { return d.Clusters[i].Reserved })
	return result
}

// setReserved sets the amount that a decision reserves on each of its clusters, by index.
func setReserved(d *v1alpha1.WorkloadDecision, amount func(i int) capacity.Resources) {
	alike := len(d.Clusters) > 0
	for i := range d.Clusters {
		alike = alike && amount(i).Same(amount(0))
	}
	if d.Reserved = nil; alike {
		d.Reserved = amount(0).ResourceList()
	}
	for i := range d.Clusters {
		if d.Clusters[i].Reserved = nil; !alike {
			d.Clusters[i].Reserved = amount(i).ResourceList()
		}
	}
}

// reservedOn returns what a decision reserves on one of its clusters.
func reservedOn(d *v1alpha1.WorkloadDecision, c *v1alpha1.ClusterDecision) corev1.ResourceList {
	if len(c.Reserved) > 0 {
		return c.Reserved
	}
	return d.Reserved
}

func clusterNames(clusters []v1alpha1.ClusterDecision) []string {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
	}
	return names
}

func describe(clusters []v1alpha1.ClusterDecision) string {
	parts := make([]string, len(clusters))
	for i, c := range clusters {
		parts[i] = fmt.Sprintf("%s (%s, %d)", c.Name, c.Reason, c.Score)
	}
	return strings.Join(parts, ", ")
}
