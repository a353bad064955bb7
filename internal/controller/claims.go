package controller

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// hidden is why a resource of a workspace cannot be read, or not in full. An informer shows no objects of it then, as if there
// were none.
type hidden struct {
	// reason is the condition reason; why names the claim and what is wrong with it, how is the remedy.
	reason, why, how string
	// partly is set where a selector limits the claim: objects that the informer shows exist, but others may exist as well.
	partly bool
	// fleeting is set while the state has just begun and may be over before anybody reads about it.
	fleeting bool
}

// Error implements error.
func (h *hidden) Error() string { return h.why + ". " + h.how }

// claimVerbs are the verbs needed to read a resource, deliveryVerbs those needed to write the status and the finalizer of a workload.
var (
	claimVerbs    = []string{"get", "list", "watch"}
	deliveryVerbs = []string{"get", "list", "watch", "patch"}
)

// hiddenBy returns which of the resources the binding does not let the controller read. kcp serves the objects of a claim only if
// the export makes it, the binding accepts it for the same identity, and kcp has applied it.
func hiddenBy(binding *apisv1alpha2.APIBinding, resources []schema.GroupVersionResource) map[schema.GroupResource]*hidden {
	return deniedBy(binding, resources, claimVerbs)
}

// deniedBy returns the resources on which the binding does not grant the controller the verbs.
func deniedBy(binding *apisv1alpha2.APIBinding, resources []schema.GroupVersionResource, verbs []string) map[schema.GroupResource]*hidden {
	all := map[schema.GroupResource]*hidden{}
	var accept []patchOperation
	for _, resource := range resources {
		h, operations := denies(binding, resource.GroupResource(), verbs, len(accept))
		if h != nil {
			all[resource.GroupResource()] = h
			accept = append(accept, operations...)
		}
	}
	how := acceptCommand(binding.Name, accept)
	for _, h := range all {
		switch h.reason {
		case v1alpha1.ClaimNotAcceptedReason:
			h.how = "To accept all that is missing: " + how
		case v1alpha1.ClaimLimitedReason:
			h.how = fmt.Sprintf("To lift the limit, remove the claim, and then accept it with `selector: {matchAll: true}`: kubectl edit apibinding %s", binding.Name)
		}
	}
	return all
}

// denies returns why a binding does not let the controller use the verbs of a resource, nil if it does, and the patch operations on the
// binding that accept the claim. later is the number of operations that precede them.
func denies(binding *apisv1alpha2.APIBinding, resource schema.GroupResource, verbs []string, later int) (*hidden, []patchOperation) {
	claimed := func(c apisv1alpha2.PermissionClaim) bool {
		return c.Group == resource.Group && c.Resource == resource.Resource
	}
	i := slices.IndexFunc(binding.Status.ExportPermissionClaims, claimed)
	if i < 0 {
		return &hidden{reason: v1alpha1.NotClaimedReason, why: fmt.Sprintf("the APIExport does not claim %s", resource),
			how: "The operator of the APIExport adds the permission claim"}, nil
	}
	claim := binding.Status.ExportPermissionClaims[i]
	same := func(c apisv1alpha2.PermissionClaim) bool { return claimed(c) && c.IdentityHash == claim.IdentityHash }
	at := slices.IndexFunc(binding.Spec.PermissionClaims, func(c apisv1alpha2.AcceptablePermissionClaim) bool { return same(c.PermissionClaim) })
	applied := slices.IndexFunc(binding.Status.AppliedPermissionClaims, func(c apisv1alpha2.ScopedPermissionClaim) bool { return same(c.PermissionClaim) })
	notAccepted := func(format string, args ...any) (*hidden, []patchOperation) {
		return &hidden{reason: v1alpha1.ClaimNotAcceptedReason, why: fmt.Sprintf("APIBinding %s "+format, append([]any{binding.Name}, args...)...)},
			acceptance(binding, claim, verbs, at, later)
	}
	switch {
	case len(missingVerbs(verbs, claim.Verbs)) > 0:
		return &hidden{reason: v1alpha1.NotClaimedReason, why: fmt.Sprintf("the APIExport does not claim the verbs %s of %s", strings.Join(missingVerbs(verbs, claim.Verbs), ", "), resource),
			how: "The operator of the APIExport adds them to the permission claim"}, nil
	case at < 0 && slices.ContainsFunc(binding.Spec.PermissionClaims, func(c apisv1alpha2.AcceptablePermissionClaim) bool { return claimed(c.PermissionClaim) }):
		return notAccepted("accepts the permission claim on %s for another identityHash than the APIExport has by now", resource)
	case at < 0 || binding.Spec.PermissionClaims[at].State != apisv1alpha2.ClaimAccepted:
		return notAccepted("does not accept the permission claim on %s", resource)
	case len(missingVerbs(verbs, binding.Spec.PermissionClaims[at].Verbs)) > 0:
		return notAccepted("does not accept the verbs %s of the permission claim on %s", strings.Join(missingVerbs(verbs, binding.Spec.PermissionClaims[at].Verbs), ", "), resource)
	case applied < 0 || len(missingVerbs(verbs, binding.Status.AppliedPermissionClaims[applied].Verbs)) > 0:
		return &hidden{reason: v1alpha1.ClaimNotAppliedReason, why: fmt.Sprintf("APIBinding %s accepts the permission claim on %s, which kcp has not applied yet", binding.Name, resource),
			how: "If that lasts, see the conditions of the APIBinding"}, nil
	case !binding.Spec.PermissionClaims[at].Selector.MatchAll || !binding.Status.AppliedPermissionClaims[applied].Selector.MatchAll:
		return &hidden{reason: v1alpha1.ClaimLimitedReason, partly: true, why: fmt.Sprintf("APIBinding %s limits the permission claim on %s by a selector", binding.Name, resource)}, nil
	}
	return nil, nil
}

// missingVerbs returns the wanted verbs that the claim lacks.
func missingVerbs(wanted, claimed []string) []string {
	if slices.Contains(claimed, "*") {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(wanted), func(v string) bool { return slices.Contains(claimed, v) })
}

// patchOperation is one of a JSON patch.
type patchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// acceptance returns the operations that make a binding accept a claim. at is the claim's index in the binding, -1 if it has none.
func acceptance(binding *apisv1alpha2.APIBinding, claim apisv1alpha2.PermissionClaim, verbs []string, at, later int) []patchOperation {
	if at >= 0 {
		path := fmt.Sprintf("/spec/permissionClaims/%d", at)
		operations := []patchOperation{
			{"test", path + "/resource", claim.Resource}, // somebody may have changed the order
			{"replace", path + "/state", apisv1alpha2.ClaimAccepted},
		}
		if accepted := binding.Spec.PermissionClaims[at].Verbs; len(missingVerbs(verbs, accepted)) > 0 {
			operations = append(operations, patchOperation{"replace", path + "/verbs", claim.Verbs})
		}
		return operations
	}
	entry := apisv1alpha2.AcceptablePermissionClaim{State: apisv1alpha2.ClaimAccepted}
	entry.PermissionClaim, entry.Selector.MatchAll = claim, true
	if len(binding.Spec.PermissionClaims) == 0 && later == 0 {
		return []patchOperation{{"add", "/spec/permissionClaims", []any{entry}}}
	}
	return []patchOperation{{"add", "/spec/permissionClaims/-", entry}}
}

// maxCommand bounds a command in bytes, so that it fits into a condition.
const maxCommand = 1500

// acceptCommand returns the command that a team runs to accept claims.
func acceptCommand(binding string, operations []patchOperation) string {
	patch, err := json.Marshal(operations)
	if err != nil {
		panic(err) // strings and lists of them always encode
	}
	if len(patch) > maxCommand {
		return "kubectl edit apibinding " + binding
	}
	return fmt.Sprintf("kubectl patch apibinding %s --type=json -p '%s'", binding, patch)
}
