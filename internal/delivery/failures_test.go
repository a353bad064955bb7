package delivery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/panics"
)

// TestAPanicCostsWhatCausedIt, a workload, a Work or a cluster, and is told with its stack.
func TestAPanicCostsWhatCausedIt(t *testing.T) {
	for name, hurt := range map[string]func(*Deliverer){
		"a workload is made for its cluster": func(d *Deliverer) {
			render := d.Render
			d.Render = func(a *Assignment, shares []Share) []Rendered {
				if a.Targets[0].Cluster == "broken" {
					panic("a bug")
				}
				return render(a, shares)
			}
		},
		"a Work is written": func(d *Deliverer) {
			write := d.WriteWork
			d.WriteWork = func(ctx context.Context, w *v1alpha1.Work) (*v1alpha1.Work, error) {
				if w.Namespace == v1alpha1.WorkNamespace("broken") {
					panic("a bug")
				}
				return write(ctx, w)
			}
		},
		"a cluster has its turn": func(d *Deliverer) {
			turns := 0
			d.Superseded = func(*Round) bool {
				if turns++; turns == 1 {
					panic("a bug")
				}
				return false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			now, written := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), map[string]*v1alpha1.Work{}
			d := &Deliverer{Now: func() time.Time { return now }, Actions: Actions{
				ListWorks: func(context.Context) (all []*v1alpha1.Work, err error) {
					for _, w := range written {
						all = append(all, w)
					}
					return all, nil
				},
				WriteWork: func(_ context.Context, w *v1alpha1.Work) (*v1alpha1.Work, error) {
					w.ResourceVersion, w.UID, w.Generation = "1", types.UID(w.Namespace), 1
					written[w.Namespace] = w
					return w, nil
				},
				Render: func(a *Assignment, _ []Share) []Rendered {
					m := manifest(reference("Deployment", a.Name), a.UID)
					m.WorkloadUID = types.UID(a.UID)
					return []Rendered{{Workload: m}}
				},
			}}
			hurt(d)
			round := &Round{}
			for _, cluster := range []string{"broken", "dublin"} {
				round.Clusters = append(round.Clusters, Cluster{Name: cluster, Delivers: true})
				source := &Source{Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "on-" + cluster, UID: "on-" + cluster}}
				round.Assignments = append(round.Assignments, &Assignment{
					Source: source, State: Decided, Placement: &v1alpha1.WorkloadPlacement{}, Targets: []Target{{Cluster: cluster, Replicas: 1}},
				})
			}
			r := d.Deliver(t.Context(), round, nil)
			var panicked *panics.Error
			if len(r.Errors) != 1 || !errors.As(r.Errors[0], &panicked) || !strings.Contains(string(panicked.Stack), "TestAPanicCostsWhatCausedIt") {
				t.Fatalf("errors %v", r.Errors)
			}
			if told := fmt.Sprint(r.Clusters, r.Problems); !strings.Contains(told, "panic: a bug") {
				t.Error(told)
			}
			d.Deliver(t.Context(), round, nil) // once it is known what the write has done
			if written[v1alpha1.WorkNamespace("dublin")] == nil {
				t.Error("another cluster is not delivered to")
			}
		})
	}
}

// TestAStatusThatPanics is told with its stack.
func TestAStatusThatPanics(t *testing.T) {
	kind := schema.GroupKind{Group: "test", Kind: "Broken"}
	statuses[kind] = kindStatus{fill: func(*status) { panic("a bug") }}
	t.Cleanup(func() { delete(statuses, kind) })
	source := &Source{Reference: workload.Reference{APIVersion: "test/v1", Kind: "Broken", Namespace: "default", Name: "web", UID: "u"}}
	errs := NewReporter(time.Now).Report(&Round{
		Clusters:    []Cluster{{Name: "dublin", Delivers: true}},
		Assignments: []*Assignment{{Source: source, State: Decided, Targets: []Target{{Cluster: "dublin", Replicas: 1}}}},
	}, CopiesOf(nil, nil), nil)
	var panicked *panics.Error
	if len(errs) != 1 || !errors.As(errs[0], &panicked) || !strings.Contains(string(panicked.Stack), "TestAStatusThatPanics") {
		t.Errorf("%v", errs)
	}
}
