package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/manifest"
	stories "github.com/kcp-placement/placement/offline/scenario"
	"github.com/kcp-placement/placement/test/internal/objects"
)

// hurry is how many times as fast stories go on a real server. So those are played here that need no clock to be exact.
const hurry = 600

// TestStories: what stories tell of a controller in memory is so of one beside a real kcp, by the same files.
func TestStories(t *testing.T) {
	const folder = "../policies/stories"
	for _, name := range []string{"waiting", "drain", "policies", "preemption", "shadow"} {
		t.Run(name, func(t *testing.T) {
			read := func(name string) ([]*manifest.File, error) {
				text, err := os.ReadFile(name)
				return []*manifest.File{{Name: name, Text: string(text)}}, err
			}
			file, err := read(filepath.Join(folder, name+stories.Ending))
			if err != nil {
				t.Fatal(err)
			}
			story, err := stories.Parse(file[0], read)
			if err != nil {
				t.Fatal(err)
			}
			failures, err := story.Play(t.Context(), &realWorld{team: newTeam(t), begun: time.Now(), told: map[types.UID]int32{}})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range failures {
				t.Errorf("%s\n%s: %s: expected %s, actual %s", f.Step, f.Workload, f.What, f.Expected, f.Actual)
			}
		})
	}
}

// realWorld is a team's workspace, with the controller that all tests share.
type realWorld struct {
	*team
	begun time.Time
	// told are the events that have been returned, by how often each has happened.
	told map[types.UID]int32
}

// Put implements stories.World. Stories about several workspaces are played in memory only.
func (w *realWorld) Put(ctx context.Context, o *unstructured.Unstructured) error {
	if other := logicalcluster.From(o); other != "" {
		return fmt.Errorf("the story has another workspace, %s: it is not for a real server", other)
	}
	applied := o.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"} {
		unstructured.RemoveNestedField(applied.Object, "metadata", field)
	}
	if o.GetKind() != "ClusterRegistration" {
		delete(applied.Object, "status") // that of others is the controller's
	}
	return objects.Apply(ctx, w.client.Resource(resourceOf(o)).Namespace(o.GetNamespace()), applied)
}

// Delete implements stories.World.
func (w *realWorld) Delete(ctx context.Context, o *unstructured.Unstructured) error {
	return w.client.Resource(resourceOf(o)).Namespace(o.GetNamespace()).Delete(ctx, o.GetName(), metav1.DeleteOptions{})
}

func resourceOf(o *unstructured.Unstructured) schema.GroupVersionResource {
	return o.GroupVersionKind().GroupVersion().WithResource(strings.ToLower(o.GetKind()) + "s")
}

// Objects implements stories.World.
func (w *realWorld) Objects(ctx context.Context) (all []*unstructured.Unstructured, err error) {
	for _, resource := range []schema.GroupVersionResource{clusters, placements, decisions, deployments, configMaps, v1alpha1.SchemeGroupVersion.WithResource("placementconfigs")} {
		list, err := w.client.Resource(resource).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			unstructured.RemoveNestedField(list.Items[i].Object, "metadata", "annotations", logicalcluster.AnnotationKey) // the story's own
			all = append(all, &list.Items[i])
		}
	}
	return all, nil
}

// Restart implements stories.World.
func (w *realWorld) Restart(context.Context) error {
	return errors.New("the controller is shared and cannot be restarted")
}

// Advance implements stories.World.
func (w *realWorld) Advance(ctx context.Context, until time.Time, _, seen func() error) error {
	for {
		if err := seen(); err != nil {
			return err
		}
		if !w.Now().Before(until) {
			time.Sleep(50 * time.Millisecond) // whoever asks again soon
			return seen()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Now implements stories.World.
func (w *realWorld) Now() time.Time {
	return w.begun.Add(time.Since(w.begun) * hurry)
}

// Events implements stories.World.
func (w *realWorld) Events() (since []controller.LocalEvent) {
	list, err := w.client.Resource(events).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	for i := range list.Items {
		var e corev1.Event
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &e); err != nil {
			w.Fatal(err)
		}
		if w.told[e.UID] >= max(1, e.Count) {
			continue
		}
		w.told[e.UID] = max(1, e.Count)
		about := e.InvolvedObject.Kind + " " + strings.TrimPrefix(e.InvolvedObject.Namespace+"/"+e.InvolvedObject.Name, "/")
		since = append(since, controller.LocalEvent{At: e.LastTimestamp.Time, About: about, Type: e.Type, Reason: e.Reason, Message: e.Message})
	}
	return since
}

// Patience implements stories.World.
func (w *realWorld) Patience() time.Duration { return within }
