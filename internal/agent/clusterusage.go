package agent

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// writeUsage writes the figures to the ClusterUsage if they have changed. The update carries the resource version that this
// agent has read or written, so that two clusters with the same name do not overwrite each other.
func (r *registration) writeUsage(ctx context.Context, owner *v1alpha1.ClusterRegistration, report *report) error {
	if r.usage == nil {
		current, err := r.getUsage(ctx)
		switch {
		case apierrors.IsNotFound(err):
			current, err = r.createUsage(ctx, newClusterUsage(owner, report))
			if apierrors.IsForbidden(err) {
				return r.missing("ClusterUsage "+owner.Name, err)
			}
		case apierrors.IsForbidden(err):
			return r.missing("the right to read ClusterUsage "+owner.Name, err)
		}
		if err != nil {
			return fmt.Errorf("ClusterUsage %s: %w", owner.Name, err)
		}
		r.usage = current
	}
	updated := r.usage.DeepCopy()
	report.writeUsageTo(updated)
	if sameUsage(r.usage, updated) {
		return nil
	}
	written, err := r.updateUsage(ctx, updated)
	if err != nil {
		r.usage = nil // read again
		return fmt.Errorf("ClusterUsage %s: %w", owner.Name, err)
	}
	r.usage = written
	return nil
}

// newClusterUsage returns a usage with the figures, which is deleted with the registration.
func newClusterUsage(owner *v1alpha1.ClusterRegistration, report *report) *v1alpha1.ClusterUsage {
	usage := &v1alpha1.ClusterUsage{ObjectMeta: metav1.ObjectMeta{Name: owner.Name, OwnerReferences: []metav1.OwnerReference{ownedBy(owner)}}}
	report.writeUsageTo(usage)
	return usage
}

func ownedBy(owner *v1alpha1.ClusterRegistration) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterRegistration", Name: owner.Name, UID: owner.UID}
}

// missing returns the error for an object, or a permission on it, that the agent's manifests would have created.
func (r *registration) missing(what string, err error) error {
	return &blockedError{"incomplete", fmt.Errorf("%s is missing; apply the manifest of the agent's rights (docs/deploy/agent-rbac.yaml) in the workspace: %w", what, err)}
}

func sameUsage(a, b *v1alpha1.ClusterUsage) bool {
	return a.ClusterUID == b.ClusterUID && equal(a.Allocatable, b.Allocatable) && equal(a.Allocated, b.Allocated) &&
		a.OmittedWorkloads == b.OmittedWorkloads && slices.EqualFunc(a.Workloads, b.Workloads, sameWorkload)
}

func sameWorkload(a, b v1alpha1.WorkloadUsage) bool {
	return a.UID == b.UID && equal(a.Requests, b.Requests)
}
