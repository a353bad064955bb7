package engine

import (
	"testing"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestQueriesMakeNoWorkspace: reading an unknown workspace leaves nothing behind. Otherwise every name that anybody asks
// for would stay in memory forever.
func TestQueriesMakeNoWorkspace(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.CompilePlacement(&v1alpha1.WorkloadPlacement{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, request := t.Context(), Request{Workspace: "unknown", Placement: p, Workload: &workload.Workload{}}
	decision, err := e.Decide(ctx, request)
	if err != nil || len(decision.Clusters) > 0 {
		t.Errorf("decided %v, %v", decision, err)
	}
	for name, ask := range map[string]func() error{
		"explain":    func() error { _, err := e.Explain(ctx, request); return err },
		"feasible":   func() error { _, err := e.Feasible(ctx, request); return err },
		"review":     func() error { _, err := e.Review(ctx, request); return err },
		"batch":      func() error { return e.DecideBatch(ctx, []Request{request, request})[1].Err },
		"prefetch":   func() error { return e.Prefetch(ctx, request.Workspace) },
		"quarantine": func() error { return e.Quarantine(request.Workspace) },
	} {
		if err := ask(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.InputsDigest(request)
	e.PolicyDigest(request.Workspace)
	e.Snapshot(request.Workspace)
	e.RemoveCluster(request.Workspace, "a")
	e.Release(request.Workspace, workload.Reference{})
	e.Uncounted(request.Workspace, workload.Reference{})
	count := func() (n int) {
		e.workspaces.Range(func(any, any) bool { n++; return true })
		return n
	}
	if n := count(); n != 0 {
		t.Errorf("%d workspaces are kept", n)
	}
	e.SetCluster(logicalcluster.Name("known"), &snapshot.Cluster{Name: "a"})
	if n := count(); n != 1 {
		t.Errorf("%d workspaces are kept of one that has a cluster", n)
	}
	if e.Forget("known"); count() != 0 {
		t.Error("a workspace that is forgotten is kept")
	}
}
