package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// leaseIntervals is how many intervals a Lease lasts. As with a kubelet's Lease, three renewals may fail.
const leaseIntervals = 4

// renew renews the Lease of the registration. A renewal means that the agent is alive and that the ClusterUsage named in the
// annotation is current, so it comes after all other writes. It is not renewed for every report of a stream.
func (r *registration) renew(ctx context.Context, owner *v1alpha1.ClusterRegistration, report *report, due bool, now time.Time) error {
	if !due && now.Sub(r.renewed) < r.interval/2 {
		return nil
	}
	var usage any // removed if nothing is known
	if report.figures != nil {
		usage = v1alpha1.UsageVersion(r.usage)
	}
	duration := int32(max(1, (leaseIntervals * r.interval).Seconds()))
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"labels":      map[string]string{v1alpha1.LabelHeartbeat: "true"},
			"annotations": map[string]any{v1alpha1.AnnotationUsage: usage},
		},
		"spec": coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(string(report.clusterUID)), LeaseDurationSeconds: &duration, RenewTime: &metav1.MicroTime{Time: now},
		},
	})
	if err != nil {
		return err
	}
	err = r.patchLease(ctx, patch)
	if apierrors.IsNotFound(err) {
		err = r.createLease(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.AgentNamespace, Name: owner.Name, OwnerReferences: []metav1.OwnerReference{ownedBy(owner)},
			Labels: map[string]string{v1alpha1.LabelHeartbeat: "true"},
		}})
		if err == nil {
			err = r.patchLease(ctx, patch)
		}
	}
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
		return r.missing(fmt.Sprintf("Lease %s/%s, or the right to renew it,", v1alpha1.AgentNamespace, owner.Name), err)
	case err != nil:
		return fmt.Errorf("renewing Lease %s/%s: %w", v1alpha1.AgentNamespace, owner.Name, err)
	}
	r.renewed = now
	return nil
}
