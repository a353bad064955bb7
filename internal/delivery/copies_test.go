package delivery

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestWhatAnAgentMayHaveAppliedIsThere: a workload leaves its Work before the agent, which has fallen silent, has said anything of it. It
// counts as there, by its name, until the agent has carried out the Work without it, or the Work is gone.
func TestWhatAnAgentMayHaveAppliedIsThere(t *testing.T) {
	work := func(generation, observed int64, workloads ...string) *v1alpha1.Work {
		w := &v1alpha1.Work{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.WorkNamespace("a"), Name: "work-0", UID: "work", Generation: generation}}
		w.Status.ObservedGeneration = observed
		for _, name := range workloads {
			m := *manifest(reference("Deployment", name), name)
			m.WorkloadUID = types.UID("uid-" + name)
			w.Spec.Manifests = append(w.Spec.Manifests, m)
		}
		return w
	}
	for name, test := range map[string]struct {
		shown []*v1alpha1.Work
		want  string
	}{
		"it is in the Work":                   {[]*v1alpha1.Work{work(1, 0, "web")}, "there"},
		"it has left, and nothing is said":    {[]*v1alpha1.Work{work(1, 0, "web"), work(2, 0)}, "may be there"},
		"others change in the Work meanwhile": {[]*v1alpha1.Work{work(2, 1, "web"), work(3, 1), work(4, 1, "other")}, "may be there"},
		"it comes back":                       {[]*v1alpha1.Work{work(1, 0, "web"), work(2, 0), work(3, 0, "web")}, "there"},
		"the agent has carried that out":      {[]*v1alpha1.Work{work(1, 0, "web"), work(2, 0), work(2, 2)}, "gone"},
		"the agent had carried that out":      {[]*v1alpha1.Work{work(1, 1, "web"), work(2, 2)}, "gone"},
		"it leaves twice":                     {[]*v1alpha1.Work{work(1, 0, "web"), work(2, 0), work(3, 2, "web"), work(4, 3)}, "may be there"},
		"the Work is gone":                    {[]*v1alpha1.Work{work(1, 0, "web"), work(2, 0), nil}, "gone"},
	} {
		got, works := "gone", []*v1alpha1.Work(nil)
		var before *v1alpha1.Work
		for _, w := range test.shown {
			works = nil
			if w != nil {
				if before != nil { // it is written as it is to be, on what it was
					before.Status, before.Generation = w.Status, w.Generation-1
					s := &slot{name: nameOf(w), work: before}
					for i := range w.Spec.Manifests {
						s.manifests = append(s.manifests, &w.Spec.Manifests[i])
					}
					w.Spec.Departed = s.object(&Cluster{Name: "a"}).Spec.Departed
				}
				works = []*v1alpha1.Work{w}
			}
			before = w
		}
		copies := CopiesOf([]string{"a"}, works) // as a controller does that has been started only now
		if c := copies.Of("uid-web")["a"]; c != nil && c.Manifest != nil {
			got = "there"
		} else if c != nil {
			r, known := c.Reference()
			if got = "may be there"; !known || r.Name != "web" || r.Kind != "Deployment" || r.UID != "uid-web" {
				t.Errorf("%s: it is known as %v", name, r)
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
