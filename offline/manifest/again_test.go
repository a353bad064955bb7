package manifest_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/manifest"
)

// documents are objects of all that is read, right and wrong, alone and in lists. Where they have a %d, it is how often they have changed.
var documents = []string{
	"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: %d, template: {spec: {containers: [{name: main, resources: {requests: {cpu: 1500m}}}]}}}}",
	"{apiVersion: apps/v1, kind: Deployment, metadata: {name: b, labels: {app: \"%d\"}, annotations: {kcp.io/cluster: shop, kcp.io/path: \"root:shop\"}}, spec: {}}",
	"{apiVersion: apps/v1, kind: Deployment, metadata: {name: wrong}, spec: {replica: %d}}",
	"{apiVersion: batch/v1, kind: Job, metadata: {generateName: run-}, spec: {parallelism: %d}}",
	"{apiVersion: batch/v1, kind: Job, metadata: {generateName: run-}, spec: {}}",
	"{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: of-a, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: a, uid: u, controller: true}]}, spec: {replicas: %d}}",
	"# %d\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}}\n- {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: b}}\n",
	"{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Container, defaultRequest: {memory: %dMi}}]}}",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: policies, labels: {openpolicyagent.org/policy: rego}}\ndata:\n  a.rego: |\n    # %d\n    package placement.scoring\n",
	"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: %d}]}}",
	"{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: a}, spec: {location: \"%d\"}}",
	"{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: a, annotations: {kcp.io/cluster: shop}}, spec: {location: x}}",
	"{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: a}, spec: {numberOfClusters: %d, workloadSelector: {workloadTypes: [{apiVersion: apps/v1, kind: Deployment}]}}}",
	"{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: wrong}, spec: {numberOfCluster: %d}}",
	"{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: a}, placementName: a, decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: a, uid: \"\"}, clusters: [{name: a, replicas: %d, score: 1, reason: x}], reserved: {cpu: 1}, decidedAt: \"2026-01-01T00:00:00Z\"}]}",
	"{apiVersion: core.kcp.io/v1alpha1, kind: LogicalCluster, metadata: {name: cluster, annotations: {kcp.io/path: \"root:default\"}}}",
	"no object: [%d",
}

// TestReadAgain: what is read again is what is read, however files have changed: the objects, where they stand, and what is wrong.
func TestReadAgain(t *testing.T) {
	kinds := workload.Kinds()
	rapid.Check(t, func(t *rapid.T) {
		drawn := func(label string) func() []*manifest.File {
			var texts [2]strings.Builder
			for range rapid.IntRange(0, 12).Draw(t, label) {
				text := rapid.SampledFrom(documents).Draw(t, "document")
				if strings.Contains(text, "%d") {
					text = fmt.Sprintf(text, rapid.IntRange(1, 2).Draw(t, "change"))
				}
				fmt.Fprintf(&texts[rapid.IntRange(0, 1).Draw(t, "file")], "%s%s\n---\n", rapid.SampledFrom([]string{"", "\n\n"}).Draw(t, "above"), text)
			}
			return func() []*manifest.File {
				return []*manifest.File{{Name: "a.yaml", Text: texts[0].String()}, {Name: "b.yaml", Text: texts[1].String()}}
			}
		}
		var before []*manifest.Workspace
		for i := range 3 {
			files := drawn(fmt.Sprintf("files %d", i))
			got, wrong := manifest.Reader{Kinds: kinds, Before: before}.Read(files())
			want, wantWrong := manifest.Reader{Kinds: kinds}.Read(files())
			if got, want := told(t, got, wrong), told(t, want, wantWrong); got != want {
				t.Fatalf("read again:\n%s\nread anew:\n%s", got, want)
			}
			before = got
		}
	})
}

// told is all that is known of workspaces.
func told(t *rapid.T, workspaces []*manifest.Workspace, wrong []*manifest.Error) string {
	var text strings.Builder
	tell := func(what any) {
		encoded, err := json.Marshal(what)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s\n", encoded)
	}
	for _, w := range workspaces {
		fmt.Fprintf(&text, "workspace %s %s %s\n", w.Name, w.Path, w.Held)
		for _, o := range w.Objects() {
			at := []manifest.Position{o.Position(""), o.Position("spec"), o.PositionOfKey("metadata.name"), o.Within("data[a.rego]", 2, 3)}
			fmt.Fprintf(&text, "%s %s %s %s %v\n", o, o.GroupVersionKind(), o.GetLabels(), o.GetAnnotations(), at)
			tell(o.Unstructured().Object)
		}
		for _, o := range w.Workloads {
			fmt.Fprintf(&text, "%s %v %v\n", o, o.End(), o.Err)
			tell(o.Workload)
		}
		for _, o := range w.LeftOut {
			fmt.Fprintf(&text, "%s %v\n", o, o.Err)
		}
		for _, o := range w.Others {
			fmt.Fprintf(&text, "%s\n", o)
		}
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range w.Modules {
				if !yield(name) {
					return
				}
			}
		}) {
			at := w.Modules[name].At(1, 1)
			fmt.Fprintf(&text, "%s %s %s %s %q\n", name, at, at.Object, at.Field, w.Modules[name].Text)
		}
		for _, all := range []any{w.Clusters, w.Placements, w.Decisions, w.ConfigMaps, w.LimitRanges} {
			tell(all)
		}
	}
	for _, e := range wrong {
		fmt.Fprintln(&text, e)
	}
	return text.String()
}

// TestReadAgainShares: of an object that has not changed nothing is made twice, wherever it stands now.
func TestReadAgainShares(t *testing.T) {
	same := strings.ReplaceAll(strings.Join([]string{documents[0], documents[10], documents[12], documents[14], documents[8]}, "\n---\n"), "%d", "1")
	read := func(before []*manifest.Workspace, text string) *manifest.Workspace {
		workspaces, wrong := manifest.Reader{Kinds: workload.Kinds(), Before: before}.Read([]*manifest.File{{Name: "a.yaml", Text: text}})
		if err := manifest.Join(wrong); err != nil {
			t.Fatal(err)
		}
		return workspaces[0]
	}
	before := read(nil, same)
	after := read([]*manifest.Workspace{before}, "# more\n---\n"+same)
	if after.Clusters[0].Typed != before.Clusters[0].Typed || after.Placements[0].Typed != before.Placements[0].Typed ||
		after.Decisions[0].Typed != before.Decisions[0].Typed || after.ConfigMaps[0].Typed != before.ConfigMaps[0].Typed {
		t.Error("an object is read twice from the same text")
	}
}

// TestObjectsAreSmall: a workload takes little more room than its text.
func TestObjectsAreSmall(t *testing.T) {
	const n = 500
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: w-%d, namespace: shop, labels: {app: w}}, spec: {replicas: 1, selector: {matchLabels: {app: a}}, "+
			"template: {metadata: {labels: {app: a}}, spec: {containers: [{name: main, image: main, resources: {requests: {cpu: 100m, memory: 256Mi}}}], restartPolicy: Always}}}}\n---\n", i)
	}
	files := []*manifest.File{{Name: "a.yaml", Text: text.String()}}
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	manifest.Read(files) // what is compiled once
	before := held()
	workspaces, _ := manifest.Read(files)
	each := int64(held()-before) / n
	t.Logf("%d bytes each", each)
	if each > 5500 {
		t.Errorf("a workload of %d bytes takes %d bytes", text.Len()/n, each)
	}
	runtime.KeepAlive(workspaces)
}
