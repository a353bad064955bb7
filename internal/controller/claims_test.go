package controller

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
)

// testBinding is an APIBinding to an export that claims resources, with all of them accepted and applied.
func testBinding(claimed ...string) *apisv1alpha2.APIBinding {
	b := &apisv1alpha2.APIBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: apisv1alpha2.SchemeGroupVersion.String(), Kind: "APIBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: "tmc.kcp.io"},
	}
	b.Status.Phase = apisv1alpha2.APIBindingPhaseBound
	for _, resource := range claimed {
		gr := schema.ParseGroupResource(resource)
		claim := apisv1alpha2.PermissionClaim{GroupResource: apisv1alpha2.GroupResource{Group: gr.Group, Resource: gr.Resource}, Verbs: slices.Clone(claimVerbs)}
		if gr.Group == "apps" || gr.Group == "batch" {
			claim.IdentityHash = "identity-of-" + gr.Group
		}
		scoped := apisv1alpha2.ScopedPermissionClaim{PermissionClaim: claim, Selector: apisv1alpha2.PermissionClaimSelector{MatchAll: true}}
		b.Status.ExportPermissionClaims = append(b.Status.ExportPermissionClaims, claim)
		b.Status.AppliedPermissionClaims = append(b.Status.AppliedPermissionClaims, scoped)
		b.Spec.PermissionClaims = append(b.Spec.PermissionClaims, apisv1alpha2.AcceptablePermissionClaim{ScopedPermissionClaim: scoped, State: apisv1alpha2.ClaimAccepted})
	}
	return b
}
