package live

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/offline/manifest"
)

// TestAStandInHasWhatIsFreeAndWhatIsReserved: a team may not read the registrations that it shares, and is told what is left for it. A
// simulation places its workloads anew, so each cluster has what they hold there as well.
func TestAStandInHasWhatIsFreeAndWhatIsReserved(t *testing.T) {
	cpu := func(amount string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(amount)}
	}
	now := metav1.Now()
	decisions := &v1alpha1.PlacementDecision{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "PlacementDecision"},
		Decisions: []v1alpha1.WorkloadDecision{{
			Workload: v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "web"},
			Reserved: cpu("2"),
			Clusters: []v1alpha1.ClusterDecision{{Name: "a"}, {Name: "b", Reserved: cpu("500m")}, {Name: "c", ReservationExpiredAt: &now}},
		}},
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(decisions)
	if err != nil {
		t.Fatal(err)
	}
	own := manifest.Live{Name: "team", Objects: []*unstructured.Unstructured{{Object: content}}}
	r := &reading{answer: &Reading{}, all: []manifest.Live{own}}
	binding := &v1alpha1.ClusterSetBinding{}
	for _, name := range []string{"a", "b", "c"} {
		binding.Status.Clusters = append(binding.Status.Clusters, v1alpha1.SharedCluster{Name: name, Ready: true, Free: cpu("1")})
	}
	r.standIn(own, binding)
	want := map[string]string{"a": "3", "b": "1500m", "c": "1"}
	for _, o := range r.all[0].Objects[1:] {
		registration, problems := decode.To[v1alpha1.ClusterRegistration](o.Object)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if has := registration.Status.Allocatable[corev1.ResourceCPU]; has.Cmp(resource.MustParse(want[o.GetName()])) != 0 {
			t.Errorf("%s has %s, want %s", o.GetName(), has.String(), want[o.GetName()])
		}
		delete(want, o.GetName())
	}
	if len(want) > 0 || len(r.answer.Notes) != 1 {
		t.Errorf("no stand-in for %v; notes %v", want, r.answer.Notes)
	}
}
