package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kcp-dev/logicalcluster/v3"
)

// TestPathsAreWhatTheParentSays: it is the parent that says which workspace is at a path, again and again. Until it has, and whenever it
// cannot be asked, nobody is taken for another.
func TestPathsAreWhatTheParentSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers sync.Map
		var changes, reads atomic.Int64
		p := unreadPaths(func(map[string]bool) { changes.Add(1) })
		p.read = func(_ context.Context, parent logicalcluster.Path, name string) (logicalcluster.Name, error) {
			reads.Add(1)
			answer, _ := answers.Load(parent.Join(name).String())
			switch answer := answer.(type) {
			case string:
				return logicalcluster.Name(answer), nil
			case error:
				return "", answer
			default:
				return "", apierrors.NewNotFound(workspaceResource.GroupResource(), name)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx) }()
		defer func() { stop(); <-done }()
		says := func(path string) string {
			_, _ = p.of("", path) // has it read
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			cluster, err := p.of("", path)
			if err != nil {
				return err.Error()
			}
			return cluster.String()
		}
		for _, step := range []struct {
			why     string
			answer  any
			after   time.Duration
			changed bool
			want    string
		}{
			{"there is none", nil, 0, true, "there is no workspace shop in root:teams: check the path"},
			{"it is made, and nobody tells", "one", pathsRetried, true, "one"},
			{"the server is down", errors.New("no route"), pathsEvery, false, "one"},
			{"it is deleted, and made anew", "two", 2 * pathsRetried, true, "two"},
			{"it is being made", "", pathsEvery, true, "workspace root:teams:shop is not ready yet"},
			{"the right to read it is taken away", apierrors.NewForbidden(workspaceResource.GroupResource(), "shop", nil), pathsRetried, true,
				"the controller may not read the workspaces of root:teams, or there is no such workspace: check the path; name the workspace by its logical cluster, which is spec.cluster of the Workspace; or let the controller get workspaces there"},
		} {
			answers.Store("root:teams:shop", step.answer)
			before := changes.Load()
			time.Sleep(step.after)
			if got := says("root:teams:shop"); got != step.want {
				t.Errorf("%s: %q, want %q", step.why, got, step.want)
			}
			if got := changes.Load() > before; got != step.changed {
				t.Errorf("%s: told is %t", step.why, got)
			}
		}

		for path, want := range map[string]string{"root": "root", "2hv4xb9ywkdm3c1q": "2hv4xb9ywkdm3c1q"} {
			if got, err := p.of("", path); err != nil || got.String() != want {
				t.Errorf("%s is %s, %v: a name is that of a logical cluster", path, got, err)
			}
		}

		if got := says("root:teams:new"); !strings.HasPrefix(got, "there is no workspace") {
			t.Error(got)
		}
		answers.Store("root:teams:new", "three")
		p.retry()
		if got := says("root:teams:new"); got != "three" {
			t.Errorf("%q: a workspace that has come is found at once", got)
		}

		time.Sleep(pathsKept + 2*pathsEvery)
		synctest.Wait()
		before := reads.Load()
		time.Sleep(3 * pathsEvery)
		synctest.Wait()
		if more := reads.Load() - before; more != 0 || len(p.found) > 0 {
			t.Errorf("%d reads, %d paths: nobody asks for them", more, len(p.found))
		}
	})
}

// TestPathsTakeTurns: a workspace that names thousands of paths delays no other, not even at a path that it names as well, and does not have
// all be looked at anew for each.
func TestPathsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes atomic.Int64
		p := unreadPaths(func(map[string]bool) { changes.Add(1) })
		p.read = func(_ context.Context, _ logicalcluster.Path, name string) (logicalcluster.Name, error) {
			time.Sleep(concurrentPaths * time.Second / pathsPerSecond)
			return logicalcluster.Name(name), nil
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx) }()
		defer func() { stop(); <-done }()
		const many = 5000
		for i := range many {
			_, _ = p.of("hostile", fmt.Sprint("root:teams:x", i))
		}
		_, _ = p.of("hostile", "root:teams:shop")
		time.Sleep(time.Second)
		_, _ = p.of("team", "root:teams:shop")
		time.Sleep(time.Second)
		synctest.Wait()
		if name, err := p.of("team", "root:teams:shop"); name != "shop" || err != nil {
			t.Errorf("%q, %v after a second", name, err)
		}
		time.Sleep(many/pathsPerSecond*time.Second - time.Second)
		synctest.Wait()
		if name, err := p.of("hostile", fmt.Sprint("root:teams:x", many-1)); name == "" || err != nil {
			t.Errorf("%q, %v: what others ask is read, too", name, err)
		}
		if n := changes.Load(); n < 2 || n > many/pathsPerSecond+5 {
			t.Errorf("told %d times", n)
		}
	})
}

// TestNamingAPathTellsNothing: who names a path is told the same, by the same events, whether others have named it before or not.
func TestNamingAPathTellsNothing(t *testing.T) {
	told := map[string]string{}
	for _, path := range []string{"root:secret", "root:nobody"} {
		e := newEstate(t, []string{"a"}, map[string]string{"red": "4"})
		p := unreadPaths(func(map[string]bool) {})
		p.now = func() time.Time { return e.now }
		p.read = func(_ context.Context, _ logicalcluster.Path, name string) (logicalcluster.Name, error) {
			return "", apierrors.NewNotFound(workspaceResource.GroupResource(), name)
		}
		e.platform.fleets.at = p.of
		read := func(by logicalcluster.Name, path string) {
			e.settle()
			p.follow(t.Context(), pathAsked{by, path})
			e.later(time.Minute)
			e.later(time.Minute)
		}
		e.put("other", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: s}, spec: {clusterSelector: {}, grants: [{name: x, workspace: {path: "root:secret"}}]}}`)
		read("other", "root:secret")
		e.put("red", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: probe}, spec: {clusterSet: shared, workspace: {path: "`+path+`"}}}`)
		read("red", path)
		for _, event := range e.in("red").Events() {
			if event.About == "ClusterSetBinding probe" {
				told[path] += fmt.Sprintln(event.Type, event.Reason, strings.ReplaceAll(event.Message, path, "PATH"))
			}
		}
	}
	if secret, nobody := told["root:secret"], told["root:nobody"]; secret != nobody || !strings.Contains(secret, "NotGranted") {
		t.Errorf("of a path that others have named:\n%s\nof another:\n%s", secret, nobody)
	}
}

// TestPathsConcernWhoNamesThem: what is found at a path concerns the workspaces that name it, and those that name these, whose grants it may
// change. Nobody else is woken, however many paths a workspace names.
func TestPathsConcernWhoNamesThem(t *testing.T) {
	e := newEstate(t, []string{"a"}, map[string]string{"red": "4", "blue": "4"})
	e.platform.fleets.at = func(_ logicalcluster.Name, path string) (logicalcluster.Name, error) {
		return "", fmt.Errorf("there is no workspace %s", path)
	}
	for workspace, path := range map[string]string{"other": "root:nobody", "red": "root:moved"} {
		e.put(workspace, `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: by-path}, spec: {clusterSet: shared, workspace: {path: "`+path+`"}}}`)
	}
	e.settle()
	for path, want := range map[string][]string{"root:nobody": {"other"}, "root:moved": {"platform", "red"}, "root:unnamed": nil} {
		e.platform.fleets.moved(map[string]bool{path: true})
		if over := e.passes(); !slices.Equal(over, want) {
			t.Errorf("%s: passes over %v, want %v", path, over, want)
		}
	}
}
