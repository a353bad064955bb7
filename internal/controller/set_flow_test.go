package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// tells is what the ClusterSets and ClusterSetBindings of a workspace say.
func (e *estate) tells(workspace string) string {
	text, unreadable := "", map[types.UID]decode.Problems{}
	for _, s := range as[*v1alpha1.ClusterSet](e.in(workspace).show(setResource), unreadable) {
		text += strings.ReplaceAll(told(s), "\n", "\nset "+s.Name+" ")
		text += fmt.Sprintf("\nset %s has %d clusters, %d of %d grants are bound", s.Name, s.Status.Clusters, s.Status.Bound, s.Status.Granted)
		for _, g := range s.Status.Grants {
			text += fmt.Sprintf("\n  %s: %s of %s cpu, %d thousandths, %d waiting", g.Name, g.Used.Cpu(), g.Quota.Cpu(), g.DominantShare, g.Waiting)
			if g.Message != "" {
				text += ": " + g.Message
			}
		}
	}
	for _, b := range as[*v1alpha1.ClusterSetBinding](e.in(workspace).show(setBindingResource), unreadable) {
		text += strings.ReplaceAll(told(b), "\n", "\nbinding "+b.Name+" ")
		text += fmt.Sprintf("\nbinding %s sees %s, %s of %s cpu:", b.Name, b.Status.Summary, b.Status.Used.Cpu(), b.Status.Quota.Cpu())
		for _, c := range b.Status.Clusters {
			text += fmt.Sprintf(" %s has %s free", c.Name, c.Free.Cpu())
		}
	}
	return strings.TrimPrefix(text, "\n")
}

func (e *estate) expect(workspace, want string) {
	e.Helper()
	if got := e.tells(workspace); got != strings.TrimPrefix(want, "\n") {
		e.Errorf("%s tells\n%s\nwant%s", workspace, got, want)
	}
}

// TestBothSidesAreTold: from the grant to its end, platform and team read in their own objects how things stand, and nothing of others.
func TestBothSidesAreTold(t *testing.T) {
	e := newEstate(t, []string{"eu-1", "eu-2"}, map[string]string{"red": "3", "green": "7"})
	e.deploy("red", 0, 5, 1000)
	e.settle()
	e.later(time.Minute)
	e.later(time.Minute) // what teams have come to is told to the platform
	e.expect("platform", `
set shared Ready True
set shared Bound True
set shared Overcommitted True QuotaOvercommitted: reservations are exact all the same, and who comes first has the room: spec.grants: quota of cpu of the grants comes to 10, and the clusters have 8
set shared has 2 clusters, 2 of 2 grants are bound
  green: 0 of 7 cpu, 0 thousandths, 0 waiting
  red: 3 of 3 cpu, 375 thousandths, 2 waiting`)
	e.expect("red", `
binding shared Bound True
binding shared Usable True
binding shared sees 2/2, 3 of 3 cpu: eu-1 has 0 free eu-2 has 0 free`)
	e.expect("green", `
binding shared Bound True
binding shared Usable True
binding shared sees 2/2, 0 of 7 cpu: eu-1 has 2 free eu-2 has 3 free`)

	e.happen("red", "ClusterSetBinding shared Normal Bound")
	e.happen("platform", "ClusterSet shared Warning QuotaOvercommitted", "ClusterSet shared Normal Bound")

	e.share(map[string]string{"green": "7"})
	e.settle()
	e.later(time.Minute)
	e.later(time.Minute) // what teams have come to is told to the platform
	e.expect("red", `
binding shared Bound False NotGranted: spec.clusterSet: no ClusterSet shared of workspace platform grants this workspace anything: check both names, and ask its owners for a grant to red
binding shared Usable False NotBound: see condition Bound
binding shared sees 0/0, 0 of 0 cpu:`)
	e.expect("platform", `
set shared Ready True
set shared Bound True
set shared Overcommitted False WithinCapacity
set shared has 2 clusters, 1 of 1 grants are bound
  green: 0 of 7 cpu, 0 thousandths, 0 waiting
  red: 3 of 0 cpu, 375 thousandths, 2 waiting: the grant was taken away: what runs stays until it has another place, and nothing new comes`)
	e.happen("red", "ClusterSetBinding shared Warning NotGranted")
}

// happen fails where other events have been recorded about sets and bindings since it was called last, messages apart.
func (e *estate) happen(workspace string, want ...string) {
	e.Helper()
	var got []string
	for _, event := range e.in(workspace).Events() {
		if strings.HasPrefix(event.About, "ClusterSet") {
			got = append(got, fmt.Sprintf("%s %s %s", event.About, event.Type, event.Reason))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		e.Errorf("%s: %q, want %q", workspace, got, want)
	}
}

// TestATeamHearsAtOnceThatItsClustersAreRead: a team may bind a set before it is known what is promised on its clusters. It is told when
// that is known, and not half a minute later.
func TestATeamHearsAtOnceThatItsClustersAreRead(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "4"})
	list, unread := e.platform.workspace.listDecisions, errors.New("etcdserver: no leader")
	e.platform.workspace.listDecisions = func(context.Context) ([]*v1alpha1.PlacementDecision, error) { return nil, unread }
	for _, l := range []*Local{e.platform, e.in("red"), e.platform, e.in("red")} {
		if _, _, err := l.Pass(t.Context()); l == e.platform && !errors.Is(err, unread) {
			t.Fatalf("the decisions of the platform's workspace are read: %v", err)
		}
	}
	e.expect("red", `
binding shared Bound True
binding shared Usable False FleetNotRead: what is promised on the clusters of workspace platform is not known yet: everything stays as it is until it is
binding shared sees 0/1, 0 of 4 cpu:`)
	e.platform.workspace.listDecisions, e.platform.due = list, true
	e.settle()
	e.expect("red", `
binding shared Bound True
binding shared Usable True
binding shared sees 1/1, 0 of 4 cpu: eu-1 has 4 free`)
}

// TestWhatCannotBeReadGrantsNothing: a quota that cannot be read would bound nothing if it were left out.
func TestWhatCannotBeReadGrantsNothing(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "1e99999999"})
	e.deploy("red", 0, 3, 1000)
	e.settle()
	e.expect("platform", `
set shared Ready False InvalidSpec: spec.grants[0].quota.cpu: 1e99999999 is out of proportion
set shared Bound True
set shared Overcommitted False WithinCapacity
set shared has 0 clusters, 1 of 1 grants are bound
  red: 0 of 0 cpu, 0 thousandths, 3 waiting`)
	e.expect("red", `
binding shared Bound True
binding shared Usable False NoClusters: spec.clusterSet: ClusterSet shared has no clusters: ask its owners
binding shared sees 0/0, 0 of 0 cpu:`)
	if where := e.where("red"); len(where) > 0 {
		t.Errorf("placed: %v", where)
	}
}

// TestPlatformsThatBindEachOther: a circle of bindings gives nobody anything, and both sides read what to do.
func TestPlatformsThatBindEachOther(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"other": "4"})
	e.put("other", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: us-1}, spec: {location: us}, status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`)
	e.put("other", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: theirs}, spec: {clusterSelector: {}, grants: [{name: platform, workspace: {cluster: platform}}]}}`)
	e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: theirs}, spec: {clusterSet: theirs, workspace: {cluster: other}}}`)
	e.deploy("other", 0, 1, 1000)
	e.settle()
	e.later(time.Minute)
	const ownFleet = "Usable False OwnFleet: spec.workspace: this workspace has ClusterRegistrations or ClusterSets of its own and places on its own clusters only: delete these, or use another workspace for shared clusters"
	for _, workspace := range []string{"platform", "other"} {
		if got := e.tells(workspace); !strings.Contains(got, ownFleet) || !strings.Contains(got, "Bound False GrantsNotBound") {
			t.Errorf("%s tells\n%s", workspace, got)
		}
	}
	if where := e.where("other"); where["web-0"] != "us-1" {
		t.Errorf("placed: %v", where)
	}
}

// TestClusterLeavesASet: what runs on a cluster that leaves its set goes to another one of the set, or stays for want of one, and both
// sides are told what there is.
func TestClusterLeavesASet(t *testing.T) {
	e := newEstate(t, []string{"eu-1", "eu-2"}, map[string]string{"red": "8"})
	e.deploy("red", 0, 4, 1000)
	e.settle()
	before := e.where("red")
	e.register("eu-1", "none")
	for range 10 {
		e.later(time.Minute)
	}
	for name, cluster := range e.where("red") {
		if cluster != "eu-2" {
			t.Errorf("%s was on %s and is on %s", name, before[name], cluster)
		}
	}
	e.expect("red", `
binding shared Bound True
binding shared Usable True
binding shared sees 1/1, 4 of 8 cpu: eu-2 has 0 free`)

	e.register("eu-2", "none")
	for range 5 {
		e.later(time.Minute)
	}
	for name, cluster := range e.where("red") {
		if cluster != "eu-2" {
			t.Errorf("%s is on %s", name, cluster)
		}
	}
	e.expect("red", `
binding shared Bound True
binding shared Usable False NoClusters: spec.clusterSet: ClusterSet shared has no clusters: ask its owners
binding shared sees 0/0, 0 of 8 cpu:`)
	e.expect("platform", `
set shared Ready False NoClusters: spec.clusterSelector: selects none of the registered clusters
set shared Bound True
set shared Overcommitted False WithinCapacity
set shared has 0 clusters, 1 of 1 grants are bound
  red: 0 of 8 cpu, 0 thousandths, 0 waiting`)
}
