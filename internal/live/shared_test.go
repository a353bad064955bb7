package live

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
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
	r.standIn(own, []*v1alpha1.ClusterSetBinding{binding})
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

// server has objects by the path of their workspace; others may not be read.
type server map[string][]*unstructured.Unstructured

func (s server) list(_ context.Context, path string, resource schema.GroupVersionResource, _ string) (found []*unstructured.Unstructured, err error) {
	objects, readable := s[path]
	if !readable {
		return nil, apierrors.NewForbidden(resource.GroupResource(), "", nil)
	}
	for _, o := range objects {
		if plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind()); plural == resource {
			found = append(found, o)
		}
	}
	return found, nil
}

// TestATeamReadsWhatItHas: what a team has on clusters that it may not read, while its set is bound and after it was withdrawn, is where the
// copies in its own workspace say, and its quota leaves no more than these have not used, whatever the status still says.
func TestATeamReadsWhatItHas(t *testing.T) {
	text := `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterSetBinding
metadata: {name: shared, annotations: {kcp.io/cluster: team}}
spec: {clusterSet: shared, workspace: {path: "root:platform"}}
status: {quota: {cpu: "5"}, clusters: [{name: a, location: eu, ready: true, free: {cpu: "1"}}, {name: c, location: eu, ready: true, free: {cpu: "4"}}]}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: all-1, namespace: default, annotations: {kcp.io/cluster: team, tmc.kcp.io/copy-of: platform}}
placementName: all
decisions:
- {workload: {apiVersion: apps/v1, kind: Deployment, name: web, uid: u}, reserved: {cpu: "2"}, clusters: [{name: a}], decidedAt: "2026-01-01T00:00:00Z"}
- {workload: {apiVersion: apps/v1, kind: Deployment, name: old, uid: v}, reserved: {cpu: "3"}, clusters: [{name: b}], decidedAt: "2026-01-01T00:00:00Z"}
`
	var objects []*unstructured.Unstructured
	for part := range strings.SplitSeq(text, "---") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(part), &u.Object); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, u)
	}
	platform := &unstructured.Unstructured{}
	platform.SetUnstructuredContent(map[string]any{"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ClusterRegistration", "spec": map[string]any{"location": "eu"}})
	platform.SetName("a")
	platform.SetAnnotations(map[string]string{"kcp.io/cluster": "platform"})
	for why, test := range map[string]struct {
		server server
		want   string
		notes  int
	}{
		"bound":                    {server{"root:team": objects}, "team: 2 decisions held by \"\", clusters a:3 c:3 b:3", 2},
		"withdrawn":                {server{"root:team": objects[1:]}, "team: 2 decisions held by \"\", clusters a:2 b:3", 2},
		"the platform may be read": {server{"root:team": objects, "root:platform": {platform}}, "team: 2 decisions held by \"platform\", clusters", 0},
	} {
		reading, err := (&Reader{Path: "root:team", Kinds: workload.Kinds()}).read(t.Context(), test.server)
		if err != nil {
			t.Fatal(why, err)
		}
		for _, w := range reading.Workspaces {
			if w.Name != "team" {
				continue
			}
			decisions := 0
			for _, d := range w.Decisions {
				decisions += len(d.Typed.Decisions)
			}
			got := fmt.Sprintf("team: %d decisions held by %q, clusters", decisions, w.Held)
			for _, c := range w.Clusters {
				got += fmt.Sprintf(" %s:%s", c.GetName(), c.Typed.Status.Allocatable.Cpu())
			}
			if got != test.want {
				t.Errorf("%s:\n got %s\nwant %s", why, got, test.want)
			}
		}
		if len(reading.Notes) != test.notes {
			t.Errorf("%s: notes %v", why, reading.Notes)
		}
	}
}
