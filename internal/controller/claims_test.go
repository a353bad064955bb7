package controller

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
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

// kcpApplies makes the status of a binding say what kcp has applied: the claims that are accepted as the export makes them.
func kcpApplies(b *apisv1alpha2.APIBinding) {
	b.Status.AppliedPermissionClaims = nil
	for _, accepted := range b.Spec.PermissionClaims {
		for _, exported := range b.Status.ExportPermissionClaims {
			if accepted.State == apisv1alpha2.ClaimAccepted && accepted.GroupResource == exported.GroupResource && accepted.IdentityHash == exported.IdentityHash {
				b.Status.AppliedPermissionClaims = append(b.Status.AppliedPermissionClaims, accepted.ScopedPermissionClaim)
			}
		}
	}
}

var claimedByTest = []string{"configmaps", "leases.coordination.k8s.io", "deployments.apps", "jobs.batch"}

func hiddenIn(b *apisv1alpha2.APIBinding) map[schema.GroupResource]*hidden {
	var resources []schema.GroupVersionResource
	for _, resource := range claimedByTest {
		resources = append(resources, schema.ParseGroupResource(resource).WithVersion("v1"))
	}
	return hiddenBy(b, resources)
}

// TestHiddenBy says what is the matter with a claim on Jobs.
func TestHiddenBy(t *testing.T) {
	const at = 3
	for name, row := range map[string]struct {
		change func(*apisv1alpha2.APIBinding)
		want   string
	}{
		"accepted and applied": {func(*apisv1alpha2.APIBinding) {}, ""},
		"rejected": {
			func(b *apisv1alpha2.APIBinding) { b.Spec.PermissionClaims[at].State = apisv1alpha2.ClaimRejected },
			`ClaimNotAccepted: APIBinding tmc.kcp.io does not accept the permission claim on jobs.batch. To accept all that is missing: kubectl patch apibinding tmc.kcp.io --type=json -p ` +
				`'[{"op":"test","path":"/spec/permissionClaims/3/resource","value":"jobs"},{"op":"replace","path":"/spec/permissionClaims/3/state","value":"Accepted"}]'`,
		},
		"removed": {
			func(b *apisv1alpha2.APIBinding) { b.Spec.PermissionClaims = b.Spec.PermissionClaims[:at] },
			"ClaimNotAccepted: APIBinding tmc.kcp.io does not accept the permission claim on jobs.batch. To accept all that is missing: kubectl patch apibinding tmc.kcp.io --type=json -p " +
				`'[{"op":"add","path":"/spec/permissionClaims/-","value":{"group":"batch","resource":"jobs","verbs":["get","list","watch"],"identityHash":"identity-of-batch","selector":{"matchAll":true},"state":"Accepted"}}]'`,
		},
		"for another identity": {
			func(b *apisv1alpha2.APIBinding) { b.Status.ExportPermissionClaims[at].IdentityHash = "new" },
			"ClaimNotAccepted: APIBinding tmc.kcp.io accepts the permission claim on jobs.batch for another identityHash than the APIExport has by now. To accept all",
		},
		"without a verb": {
			func(b *apisv1alpha2.APIBinding) { b.Spec.PermissionClaims[at].Verbs = []string{"get"} },
			"ClaimNotAccepted: APIBinding tmc.kcp.io does not accept the verbs list, watch of the permission claim on jobs.batch. To accept all",
		},
		"with all verbs": {func(b *apisv1alpha2.APIBinding) { b.Spec.PermissionClaims[at].Verbs = []string{"*"} }, ""},
		"limited": {
			func(b *apisv1alpha2.APIBinding) {
				b.Spec.PermissionClaims[at].Selector = apisv1alpha2.PermissionClaimSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}
			},
			"ClaimLimited: APIBinding tmc.kcp.io limits the permission claim on jobs.batch by a selector. To lift the limit, remove the claim, and then accept it with `selector: {matchAll: true}`: kubectl edit apibinding tmc.kcp.io",
		},
		"not claimed": {
			func(b *apisv1alpha2.APIBinding) {
				b.Status.ExportPermissionClaims = b.Status.ExportPermissionClaims[:at]
			},
			"NotClaimed: the APIExport does not claim jobs.batch. The operator of the APIExport adds the permission claim",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := testBinding(claimedByTest...)
			row.change(b)
			kcpApplies(b)
			got := ""
			all := hiddenIn(b)
			if h := all[schema.ParseGroupResource("jobs.batch")]; h != nil {
				got = h.reason + ": " + h.Error()
			}
			if !strings.HasPrefix(got, row.want) || (row.want == "") != (got == "") || len(all) > 1 {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
	b := testBinding(claimedByTest...)
	b.Status.AppliedPermissionClaims = b.Status.AppliedPermissionClaims[:at]
	if h := hiddenIn(b)[schema.ParseGroupResource("jobs.batch")]; h == nil || h.reason != v1alpha1.ClaimNotAppliedReason {
		t.Errorf("not applied yet: %v", h)
	}
}

// TestTheCommandAcceptsWhatIsMissing, whatever a binding accepts: pasted once, nothing is hidden any more.
func TestTheCommandAcceptsWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := testBinding(claimedByTest...)
		var claims []apisv1alpha2.AcceptablePermissionClaim
		for _, claim := range rapid.Permutation(b.Spec.PermissionClaims).Draw(t, "order") {
			switch rapid.SampledFrom([]string{"accepted", "rejected", "missing", "verbs", "identity"}).Draw(t, "claim") {
			case "rejected":
				claim.State = apisv1alpha2.ClaimRejected
			case "missing":
				continue
			case "verbs":
				claim.Verbs = claim.Verbs[:rapid.IntRange(0, len(claim.Verbs)).Draw(t, "verbs")]
			case "identity":
				claim.IdentityHash = "old"
			}
			claims = append(claims, claim)
		}
		b.Spec.PermissionClaims = claims
		kcpApplies(b)
		for _, h := range hiddenIn(b) {
			if h.reason == v1alpha1.ClaimNotAcceptedReason {
				patchWith(t, b, h.how)
				kcpApplies(b)
				break
			}
		}
		for resource, h := range hiddenIn(b) {
			t.Fatalf("%s is still hidden: %v", resource, h)
		}
	})
}

func patchWith(t *rapid.T, b *apisv1alpha2.APIBinding, how string) {
	command := strings.SplitN(how, "'", 3)
	if len(command) != 3 {
		t.Fatalf("no command in %q", how)
	}
	patch, err := jsonpatch.DecodePatch([]byte(command[1]))
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(before)
	if err != nil {
		t.Fatalf("%v: %s", err, command[1])
	}
	*b = apisv1alpha2.APIBinding{}
	if err := json.Unmarshal(after, b); err != nil {
		t.Fatal(err)
	}
}

// TestVerbsOfDelivery: a claim that is good enough for placing may not be so for delivery, which writes to workloads.
func TestVerbsOfDelivery(t *testing.T) {
	for name, test := range map[string]struct {
		claimed, accepted []string
		want              string
	}{
		"all":          {deliveryVerbs, deliveryVerbs, ""},
		"any":          {[]string{"*"}, []string{"*"}, ""},
		"not accepted": {deliveryVerbs, claimVerbs, "ClaimNotAccepted: APIBinding tmc does not accept the verbs patch of the permission claim on deployments.apps"},
		"not claimed":  {claimVerbs, claimVerbs, "NotClaimed: the APIExport does not claim the verbs patch of deployments.apps"},
	} {
		claim := apisv1alpha2.PermissionClaim{GroupResource: apisv1alpha2.GroupResource{Group: "apps", Resource: "deployments"}, Verbs: test.claimed}
		binding := &apisv1alpha2.APIBinding{ObjectMeta: metav1.ObjectMeta{Name: "tmc"}}
		binding.Status.ExportPermissionClaims = []apisv1alpha2.PermissionClaim{claim}
		claim.Verbs = test.accepted
		accepted := apisv1alpha2.AcceptablePermissionClaim{State: apisv1alpha2.ClaimAccepted}
		accepted.PermissionClaim, accepted.Selector.MatchAll = claim, true
		binding.Spec.PermissionClaims = []apisv1alpha2.AcceptablePermissionClaim{accepted}
		binding.Status.AppliedPermissionClaims = []apisv1alpha2.ScopedPermissionClaim{accepted.ScopedPermissionClaim}
		got := ""
		if h := deniedBy(binding, []schema.GroupVersionResource{deployments}, deliveryVerbs)[deployments.GroupResource()]; h != nil {
			got = h.reason + ": " + h.why
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if len(hiddenBy(binding, []schema.GroupVersionResource{deployments})) > 0 {
			t.Errorf("%s: it cannot be read", name)
		}
	}
}
