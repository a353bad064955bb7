package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// estate is a platform team with clusters, and teams that share them, decided by one controller.
type estate struct {
	rapid.TB
	now      time.Time
	platform *Local
	// away are workspaces that are not bound to the export: the controller does not see their objects.
	away map[string]*Local
}

// newEstate has clusters of four CPUs each, in a set that grants each team a quota of CPU.
func newEstate(t rapid.TB, clusters []string, teams map[string]string) *estate {
	e := &estate{TB: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	if e.platform, err = NewLocal("platform", DefaultPace(), workload.Kinds(), func() time.Time { return e.now }); err != nil {
		t.Fatal(err)
	}
	for _, name := range clusters {
		e.register(name, "shared")
	}
	e.share(teams)
	for team := range teams {
		e.put(team, `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: shared}, spec: {clusterSet: shared, workspace: {cluster: platform}}}`)
		e.put(team, `{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default}, spec: {workloadSelector: {}, numberOfClusters: 1}}`)
	}
	return e
}

func (e *estate) register(name, set string) {
	e.put("platform", fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: %s, labels: {set: %s}},
		spec: {location: eu}, status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`, name, set))
}

// share grants quotas of CPU to teams, and nothing to others.
func (e *estate) share(teams map[string]string) {
	var grants []string
	for _, team := range slices.Sorted(maps.Keys(teams)) {
		grants = append(grants, fmt.Sprintf(`{name: %s, workspace: {cluster: %s}, quota: {cpu: %q}}`, team, team, teams[team]))
	}
	e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: shared},
		spec: {clusterSelector: {labelSelector: {matchLabels: {set: shared}}}, grants: [`+strings.Join(grants, ", ")+`]}}`)
}

func (e *estate) in(workspace string) *Local {
	if l := e.away[workspace]; l != nil {
		return l
	}
	return e.platform.Workspace(logicalcluster.Name(workspace))
}

func (e *estate) put(workspace, text string) {
	e.Helper()
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		e.Fatal(err)
	}
	if err := e.in(workspace).Put(&u); err != nil {
		e.Fatal(err)
	}
}

// deploy makes Deployments that ask for so many millicores each.
func (e *estate) deploy(team string, from, to, millis int) {
	for i := from; i < to; i++ {
		e.put(team, fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web-%d, namespace: default},
			spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: %dm}}}]}}}}`, i, millis))
	}
}

// settle has passes be made until none is due.
func (e *estate) settle() {
	e.Helper()
	for range 1000 {
		due := e.platform.Due()
		if len(due) == 0 {
			return
		}
		for _, l := range due {
			again, _, err := l.Pass(context.Background())
			if err != nil {
				e.Fatalf("pass over %s: %v", l.name, err)
			}
			l.due = l.due || again
			e.checkPromises()
		}
	}
	e.Fatal("passes go on and on")
}

// later has some time pass.
func (e *estate) later(d time.Duration) {
	e.Helper()
	e.now = e.now.Add(d)
	for _, l := range e.platform.workspaces {
		l.due = true
	}
	e.settle()
}

// promised is what the slices that are kept by the platform promise, in millicores, by cluster and by workspace.
func (e *estate) promised() (on, to map[string]int64) {
	on, to = map[string]int64{}, map[string]int64{}
	for _, d := range as[*v1alpha1.PlacementDecision](e.platform.show(decisionResource), map[types.UID]decode.Problems{}) {
		of := "platform"
		if d.Source != nil {
			of = d.Source.Workspace
		}
		for _, w := range d.Decisions {
			for _, c := range w.Clusters {
				on[c.Name] += w.Reserved.Cpu().MilliValue()
				to[of] += w.Reserved.Cpu().MilliValue()
			}
		}
	}
	return on, to
}

// checkPromises fails where more is promised on a cluster than it has.
func (e *estate) checkPromises() {
	e.Helper()
	on, _ := e.promised()
	for cluster, millis := range on {
		if millis > 4000 {
			e.Fatalf("%dm are promised on %s", millis, cluster)
		}
	}
}

// where returns the clusters of the workloads of a team, as people there read them.
func (e *estate) where(team string) map[string]string {
	where := map[string]string{}
	for ref, d := range e.in(team).Decisions() {
		for _, c := range d.Clusters {
			where[ref.Name] += c.Name
		}
	}
	return where
}

func (e *estate) copies(team string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, u := range e.in(team).Objects() {
		if u.GetKind() == "PlacementDecision" {
			all = append(all, u)
		}
	}
	return all
}

func (e *estate) happened(team, reason string) bool {
	return slices.ContainsFunc(e.in(team).Events(), func(event LocalEvent) bool { return event.Reason == reason })
}

func threeTeams(t testing.TB) *estate {
	return newEstate(t, []string{"eu-1", "eu-2"}, map[string]string{"red": "4", "green": "4", "blue": "4"})
}

// TestTeamsFillASharedFleet: three teams ask for more than there is. All of it is promised, to the last millicore, nothing twice, and no
// team has more than its quota.
func TestTeamsFillASharedFleet(t *testing.T) {
	e := threeTeams(t)
	for _, team := range []string{"red", "green", "blue"} {
		e.deploy(team, 0, 20, 250)
	}
	e.settle()
	on, to := e.promised()
	if on["eu-1"] != 4000 || on["eu-2"] != 4000 {
		t.Errorf("promised: %v", on)
	}
	total := int64(0)
	for team, millis := range to {
		if total += millis; millis > 4000 {
			t.Errorf("%s has %dm", team, millis)
		}
		if got := int64(len(e.where(team))) * 250; got != millis {
			t.Errorf("%s reads of %dm, %dm are kept for it", team, got, millis)
		}
	}
	if total != 8000 {
		t.Errorf("promised: %v", to)
	}
	// Room that becomes free goes to those who wait.
	for i := range 20 {
		if e.where("red")[fmt.Sprintf("web-%d", i)] != "" {
			e.delete("red", fmt.Sprintf("web-%d", i))
		}
	}
	e.settle()
	if on, _ := e.promised(); on["eu-1"] != 4000 || on["eu-2"] != 4000 {
		t.Errorf("promised once red has made room: %v", on)
	}
}

func (e *estate) delete(team, deployment string) {
	e.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"namespace": "default", "name": deployment}}}
	if err := e.in(team).Delete(u); err != nil {
		e.Fatal(err)
	}
}

// TestCopiesAreForReading: what a team does to the PlacementDecisions in its workspace is undone, and changes nothing that is promised.
func TestCopiesAreForReading(t *testing.T) {
	for name, spoil := range map[string]func(e *estate, copied *unstructured.Unstructured){
		"edited": func(e *estate, c *unstructured.Unstructured) {
			decisions, _, _ := unstructured.NestedSlice(c.Object, "decisions")
			decisions[0].(map[string]any)["clusters"] = []any{map[string]any{"name": "eu-2", "replicas": int64(1)}}
			decisions[0].(map[string]any)["reserved"] = map[string]any{"cpu": "1m"}
			_ = unstructured.SetNestedSlice(c.Object, decisions, "decisions")
			if err := e.in("red").Put(c); err != nil {
				e.Fatal(err)
			}
		},
		"emptied": func(e *estate, c *unstructured.Unstructured) {
			delete(c.Object, "decisions")
			if err := e.in("red").Put(c); err != nil {
				e.Fatal(err)
			}
		},
		"deleted": func(e *estate, c *unstructured.Unstructured) {
			if err := e.in("red").Delete(c); err != nil {
				e.Fatal(err)
			}
		},
		"not marked any more": func(e *estate, c *unstructured.Unstructured) {
			c.SetAnnotations(nil)
			if err := e.in("red").Put(c); err != nil {
				e.Fatal(err)
			}
		},
		"said to be kept for another": func(e *estate, c *unstructured.Unstructured) {
			_ = unstructured.SetNestedStringMap(c.Object, map[string]string{"workspace": "green", "namespace": "default"}, "source")
			if err := e.in("red").Put(c); err != nil {
				e.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := threeTeams(t)
			e.deploy("red", 0, 3, 1000)
			e.settle()
			before, kept := e.where("red"), e.copies("platform")
			if len(before) != 3 {
				t.Fatalf("before: %v", before)
			}
			spoil(e, e.copies("red")[0].DeepCopy())
			e.later(time.Minute)
			if after := e.where("red"); !maps.Equal(before, after) {
				t.Errorf("before: %v, after: %v", before, after)
			}
			if !e.happened("red", decisionDiscarded) {
				t.Error("no event tells")
			}
			for i, u := range e.copies("platform") {
				if u.GetResourceVersion() != kept[i].GetResourceVersion() {
					t.Error("what is kept has been written")
				}
			}
			// What is promised to others rests on what is kept.
			e.deploy("green", 0, 10, 1000)
			e.settle()
			if _, to := e.promised(); to["red"] != 3000 || to["green"] != 4000 {
				t.Errorf("promised: %v", to)
			}
		})
	}
}

// TestForgedDecisionsCountForNothing: a team makes PlacementDecisions of its own, which hold nothing and take nothing from others.
func TestForgedDecisionsCountForNothing(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 2, 1000)
	e.settle()
	for i, source := range []string{"", "source: {workspace: green, namespace: default},"} {
		e.put("red", fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: mine-%d, namespace: default}, placementName: p, count: 1, %s
			decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: huge, uid: u}, clusters: [{name: eu-1, replicas: 1}], reserved: {cpu: "4"}, decidedAt: "2026-01-01T00:00:00Z"}]}`, i, source))
	}
	e.deploy("green", 0, 10, 1000)
	e.deploy("blue", 0, 10, 1000)
	e.later(time.Minute)
	if _, to := e.promised(); to["red"] != 2000 || to["green"]+to["blue"] != 6000 {
		t.Errorf("promised: %v", to)
	}
	for _, c := range e.copies("red") {
		if strings.HasPrefix(c.GetName(), "mine") {
			t.Errorf("%s is still there", c.GetName())
		}
	}
}

// TestWithdrawnGrant: what runs stays and stays reserved, nothing new comes, and it goes on once it is granted again.
func TestWithdrawnGrant(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 2, 1000)
	e.settle()
	before := e.where("red")
	e.share(map[string]string{"green": "8", "blue": "8"})
	e.settle()
	e.deploy("red", 2, 4, 1000)
	e.deploy("green", 0, 8, 1000)
	e.later(time.Hour)
	if after := e.where("red"); !maps.Equal(before, after) {
		t.Errorf("before: %v, after: %v", before, after)
	}
	if _, to := e.promised(); to["red"] != 2000 || to["green"] != 6000 {
		t.Errorf("promised: %v", to)
	}
	e.delete("red", "web-0")
	e.settle()
	if _, to := e.promised(); to["red"] != 1000 || to["green"] != 7000 {
		t.Errorf("promised once one is gone: %v", to)
	}
	e.delete("green", "web-0")
	e.share(map[string]string{"red": "2", "green": "0"})
	e.later(time.Minute)
	if _, to := e.promised(); to["red"] != 2000 {
		t.Errorf("promised once it is granted again: %v", to)
	}
}

// TestClusterLeavesTheSet: what runs on it moves to another cluster of the set, and stays where there is no room.
func TestClusterLeavesTheSet(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 4, 1000)
	e.settle()
	e.register("eu-1", "kept-back")
	e.later(time.Hour)
	for name, cluster := range e.where("red") {
		if cluster != "eu-2" {
			t.Errorf("%s is on %s", name, cluster)
		}
	}
	e.register("eu-2", "kept-back")
	e.later(time.Hour)
	if where := e.where("red"); len(where) != 4 {
		t.Errorf("without a cluster in the set: %v", where)
	}
	e.later(time.Hour)
	if g := e.granted("red"); g == nil || !g.Bound || g.Outside.Cpu().String() != "4" || !g.Used.Cpu().IsZero() {
		t.Errorf("what runs outside of the set is not told apart: %+v", g)
	}
}

// granted is what the set says of a team.
func (e *estate) granted(team string) *v1alpha1.ClusterSetGrantStatus {
	for _, u := range e.in("platform").Objects() {
		var set v1alpha1.ClusterSet
		if u.GetKind() != "ClusterSet" || runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &set) != nil {
			continue
		}
		for i := range set.Status.Grants {
			if g := &set.Status.Grants[i]; g.Cluster == team {
				return g
			}
		}
	}
	return nil
}

// TestATeamThatNobodyKnows: red has deleted its binding and its copies while no controller ran. What is kept for it stays as long as the server
// says that its placement is there; the platform team reads what helps, and that does.
func TestATeamThatNobodyKnows(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 4, 1000)
	e.settle()
	for _, u := range append(e.copies("red"), &unstructured.Unstructured{Object: map[string]any{"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ClusterSetBinding", "metadata": map[string]any{"name": "shared"}}}) {
		if err := e.in("red").Delete(u); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.platform.Restart(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		e.later(2 * orphanedFor)
	}
	if _, to := e.promised(); to["red"] != 4000 {
		t.Errorf("promised: %v", to)
	}
	g := e.granted("red")
	if g == nil || g.Bound || g.Outside.Cpu().String() != "4" || g.Message != orphanMessage("red") {
		t.Fatalf("the platform team reads %+v", g)
	}
	for _, u := range e.in("platform").Objects() {
		if u.GetKind() == "PlacementDecision" && u.GetLabels()[v1alpha1.LabelWorkspace] == "red" {
			if err := e.in("platform").Delete(u); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		e.later(2 * orphanedFor)
	}
	if _, to := e.promised(); to["red"] != 0 {
		t.Errorf("promised once what is kept has been deleted: %v", to)
	}
	if g := e.granted("red"); g != nil {
		t.Errorf("the platform team still reads %+v", g)
	}
}

// TestRestartOnASharedFleet: another controller finds everything as it was, writes nothing, and promises nothing twice.
func TestRestartOnASharedFleet(t *testing.T) {
	e := threeTeams(t)
	for _, team := range []string{"red", "green", "blue"} {
		e.deploy(team, 0, 20, 250)
	}
	// In the middle: the platform has made its pass, and one team.
	for _, l := range e.platform.Due() {
		if l.name != "red" {
			if _, _, err := l.Pass(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if err := e.platform.Restart(); err != nil {
			t.Fatal(err)
		}
		e.later(time.Second)
	}
	if on, _ := e.promised(); on["eu-1"] != 4000 || on["eu-2"] != 4000 {
		t.Errorf("promised: %v", on)
	}
	versions := func() (all []string) {
		for _, l := range e.platform.workspaces {
			for _, u := range l.Objects() {
				if u.GetKind() == "PlacementDecision" {
					all = append(all, l.name.String()+u.GetName()+u.GetResourceVersion())
				}
			}
		}
		slices.Sort(all)
		return all
	}
	before := versions()
	if err := e.platform.Restart(); err != nil {
		t.Fatal(err)
	}
	e.later(time.Second)
	if after := versions(); !slices.Equal(before, after) {
		t.Errorf("written: %v\nbefore: %v", after, before)
	}
}

// TestNothingIsDecidedBeforeAllIsKnown: after a restart, teams whose passes come first find no room that is promised to others.
func TestNothingIsDecidedBeforeAllIsKnown(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 8, 500)
	e.settle()
	e.deploy("green", 0, 20, 500)
	if err := e.platform.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]string{{"green"}, {"platform", "green"}} {
		for _, name := range order {
			if _, _, err := e.in(name).Pass(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		on, to := e.promised()
		if to["red"] != 4000 || on["eu-1"]+on["eu-2"] > 8000 {
			t.Fatalf("promised: %v %v", on, to)
		}
	}
	if _, to := e.promised(); to["green"] != 4000 {
		t.Errorf("promised: %v", to)
	}
}

// TestHostilePolicyOfOneTeam: the others are decided as if it was not there.
func TestHostilePolicyOfOneTeam(t *testing.T) {
	e := threeTeams(t)
	e.put("red", `{apiVersion: v1, kind: ConfigMap, metadata: {name: hostile, namespace: default, labels: {openpolicyagent.org/policy: rego}}, data: {"a.rego": "package placement.scoring\nweights := {\"capacity\": count([x | some x in numbers.range(1, 100000000); x > 3])}\n"}}`)
	for _, team := range []string{"red", "green"} {
		e.deploy(team, 0, 4, 1000)
	}
	e.settle()
	if _, to := e.promised(); to["green"] != 4000 || to["red"] != 0 {
		t.Errorf("promised: %v", to)
	}
}

// TestWorkspaceThatIsGone: what it had stays promised until the server says that its placements are gone, and then goes to others.
func TestWorkspaceThatIsGone(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 4, 1000)
	e.settle()
	e.deploy("green", 0, 4, 1000)
	e.deploy("blue", 0, 4, 1000)
	e.settle()
	red := e.in("red")
	delete(e.platform.workspaces, "red")
	e.platform.fleets.forget(red.workspace)
	e.platform.engine.Forget("red")
	e.settle()
	if _, to := e.promised(); to["red"] != 4000 {
		t.Errorf("promised at once: %v", to)
	}
	e.later(2 * orphanedFor)
	e.later(2 * orphanedFor)
	if _, to := e.promised(); to["red"] != 0 || to["green"]+to["blue"] != 8000 {
		t.Errorf("promised later: %v", to)
	}
}

// TestATeamThatLeavesWaitsForNothing: a workload has waited so long that a cluster gathers room for it. Once its team has left, others get
// that room.
func TestATeamThatLeavesWaitsForNothing(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "4", "green": "4", "blue": "4"})
	e.deploy("red", 0, 7, 500)
	e.settle()
	e.deploy("blue", 0, 1, 1000)
	e.later(time.Hour)
	e.later(time.Hour)
	e.deploy("green", 0, 1, 500)
	e.settle()
	if where := e.where("green"); len(where) > 0 {
		t.Fatalf("green has %v, and the room is gathered for blue", where)
	}
	binding := &unstructured.Unstructured{Object: map[string]any{"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ClusterSetBinding", "metadata": map[string]any{"name": "shared"}}}
	if err := e.in("blue").Delete(binding); err != nil {
		t.Fatal(err)
	}
	e.later(time.Minute)
	if where := e.where("green"); where["web-0"] != "eu-1" {
		t.Errorf("green has %v", where)
	}
}

// TestPlatformIsAwayForAWhile: nothing is decided meanwhile, nothing is lost, and it goes on afterwards.
func TestPlatformIsAwayForAWhile(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 2, 1000)
	e.settle()
	before, kept := e.where("red"), len(e.copies("platform"))
	e.platform.fleets.forget(e.platform.workspace)
	e.platform.engine.Forget("platform")
	e.deploy("red", 2, 3, 1000)
	for range 3 {
		e.now = e.now.Add(time.Hour)
		for _, team := range []string{"red", "green"} {
			if _, _, err := e.in(team).Pass(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after := e.where("red"); !maps.Equal(before, after) || len(e.copies("platform")) != kept {
		t.Errorf("before: %v, meanwhile: %v", before, after)
	}
	e.platform.begin(nil)
	e.later(time.Second)
	after := e.where("red")
	if len(after) != 3 || after["web-0"] != before["web-0"] || after["web-1"] != before["web-1"] {
		t.Errorf("before: %v, after: %v", before, after)
	}
}

// TestNothingIsKeptOfFleetsThatAreGone: the workspace with the clusters goes before those that look at them, each of which others look at
// in turn.
func TestNothingIsKeptOfFleetsThatAreGone(t *testing.T) {
	teams := map[string]string{}
	for i := range 100 {
		teams[fmt.Sprint("team-", i)] = "1"
	}
	e := newEstate(t, []string{"eu-1"}, teams)
	for team := range teams {
		e.deploy(team, 0, 1, 10)
	}
	e.settle()
	forget := func(name string) {
		l := e.in(name)
		l.fleets.forget(l.workspace)
		l.engine.Forget(l.name)
		delete(e.platform.workspaces, l.name)
	}
	for team := range teams {
		e.put("of-"+team, fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: p-0, namespace: default, annotations: {%s: %s}}}`, v1alpha1.AnnotationCopyOf, team))
	}
	e.settle()
	for team := range teams {
		if guests := e.in(team).workspace.fleet.guestNames(); len(guests) != 1 {
			t.Fatalf("%v look at the clusters of %s", guests, team)
		}
		forget("of-" + team)
		if left := e.in(team).workspace.fleet.haveLeft(); len(left) > 0 {
			t.Fatalf("%s keeps that others have left, and never looks: %v", team, left)
		}
	}
	forget("platform")
	for team := range teams {
		if _, _, err := e.in(team).Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f := e.platform.fleets
	if guests := f.absent["platform"].guestNames(); len(guests) != len(teams) {
		t.Fatalf("%d look at the clusters that are gone", len(guests))
	}
	for team := range teams {
		forget(team)
	}
	if n := len(f.fleets) + len(f.absent) + len(f.states) + len(f.naming) + len(f.waiting); n > 0 {
		t.Errorf("kept: %v %v %v %v %v", f.fleets, f.absent, f.states, f.naming, f.waiting)
	}
}

// TestTeamsOnAnotherShard: what is promised, and what is to run, is kept on the shard of the clusters, and promises are copied to that of
// the team; edits of either wake whom they concern.
func TestTeamsOnAnotherShard(t *testing.T) {
	i := newInstallation(t, func(c *Config) { c.Deliver = true })
	platform, teams := newAPIServer(t), newAPIServer(t)
	object := func(s *apiServer, resource, workspace, text string) {
		t.Helper()
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		s.put(resource, workspace, &u)
	}
	platform.put("apibindings", "platform", testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps", "jobs.batch"))
	object(platform, "clusterregistrations", "platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: a},
		status: {agentDelivery: {namespaceTemplate: "{workspace}-{namespace}"}, allocatable: {cpu: "3"}, conditions: [{type: Ready, status: "True"}]}}`)
	object(platform, "clustersets", "platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: all}, spec: {clusterSelector: {}, grants: [
		{name: red, workspace: {cluster: red}, quota: {cpu: "2"}}, {name: green, workspace: {cluster: green}, quota: {cpu: "2"}}]}}`)
	for _, team := range []string{"red", "green"} {
		teams.put("apibindings", team, testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps", "jobs.batch"))
		object(teams, "clustersetbindings", team, `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: all}, spec: {clusterSet: all, workspace: {cluster: platform}}}`)
		placement := testPlacement(one)
		placement.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement"}
		teams.put("workloadplacements", team, placement)
		for _, name := range []string{"x", "y", "z"} { // equal names in both, each with a UID of its own
			teams.put("deployments", team, oneCPU(name))
		}
	}
	i.shows(platform, teams)
	count := func(s *apiServer) (n int) {
		for _, u := range s.stored("placementdecisions") {
			decisions, _, _ := unstructured.NestedSlice(u.Object, "decisions")
			n += len(decisions)
		}
		return n
	}
	eventually(t, "the cluster is full, and the copies say so", func() bool { return count(platform) == 3 && count(teams) == 3 })
	for _, u := range platform.stored("placementdecisions") {
		if source, _, _ := unstructured.NestedString(u.Object, "source", "workspace"); u.GetNamespace() != v1alpha1.DecisionNamespace || source == "" || len(u.GetOwnerReferences()) > 0 {
			t.Errorf("kept as %s/%s of %q with owners %v", u.GetNamespace(), u.GetName(), source, u.GetOwnerReferences())
		}
	}

	// Deployments of equal names are in different Works.
	delivered := func() string {
		all := map[string]int{}
		for _, u := range platform.stored("works") {
			of, _, _ := unstructured.NestedString(u.Object, "spec", "workspace")
			manifests, _, _ := unstructured.NestedSlice(u.Object, "spec", "manifests")
			if all[of] += len(manifests); !strings.HasPrefix(u.GetName(), of+".") || u.GetNamespace() != v1alpha1.WorkNamespace("a") {
				t.Errorf("work %s/%s is of %s", u.GetNamespace(), u.GetName(), of)
			}
		}
		return fmt.Sprint(all["red"]+all["green"], len(all), len(teams.stored("works")))
	}
	eventually(t, "what both have is delivered", func() bool { return delivered() == "3 2 0" })

	i.mu.Lock()
	works := i.workspaces["red"].deliverer.works
	i.mu.Unlock()
	if shown := works.shown(); len(shown) > 0 && !slices.Equal(shown, works.shown()) {
		t.Error("each pass would find other Works, and read them anew")
	}

	copied := teams.stored("placementdecisions")[0]
	team := copied.GetAnnotations()["kcp.io/cluster"]
	edited := copied.DeepCopy()
	delete(edited.Object, "decisions")
	teams.put("placementdecisions", team, edited)
	eventually(t, "the edited copy is put right", func() bool { return count(teams) == 3 })

	eventually(t, "all is quiet", func() bool { return i.queue.Len() == 0 })
	for _, u := range teams.stored("deployments") {
		if u.GetAnnotations()["kcp.io/cluster"] == team && count(platform) == 3 {
			teams.set(func(s *apiServer) {
				s.drop(target{cluster: team, namespace: u.GetNamespace(), resource: "deployments", name: u.GetName()})
			})
		}
	}
	eventually(t, "others get the room, as far as their quota goes", func() bool { return count(platform) == 2 && count(teams) == 2 })
	eventually(t, "what is gone is not to run any more", func() bool { return delivered() == "2 1 0" })
}

// passes has passes be made until none is due, and returns over which workspaces.
func (e *estate) passes() (over []string) {
	e.Helper()
	for len(e.platform.Due()) > 0 {
		for _, l := range e.platform.Due() {
			over = append(over, l.name.String())
			again, _, err := l.Pass(context.Background())
			if err != nil {
				e.Fatal(err)
			}
			l.due = l.due || again
		}
	}
	slices.Sort(over)
	return slices.Compact(over)
}

// TestWhoLooksAtWhatHasChanged: the report of a cluster costs passes over those alone that wait for room, what a cluster is concerns
// all, and room that a team gives back those that wait.
func TestWhoLooksAtWhatHasChanged(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 2, 1000)
	e.deploy("green", 0, 5, 1000) // one more than its quota
	e.settle()
	for _, tc := range []struct {
		name   string
		change func()
		want   string
	}{
		{"a report", func() {
			e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: eu-1, labels: {set: shared}}, spec: {location: eu},
				status: {allocatable: {cpu: "4"}, allocated: {cpu: 100m}, conditions: [{type: Ready, status: "True"}]}}`)
		}, "green platform"},
		{"another location", func() {
			e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: eu-1, labels: {set: shared}}, spec: {location: us},
				status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`)
		}, "blue green platform red"},
		{"a workload more", func() { e.deploy("red", 2, 3, 100) }, "red"},
		{"a workload less", func() { e.delete("red", "web-2") }, "green platform red"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.change()
			if got := strings.Join(e.passes(), " "); got != tc.want {
				t.Errorf("passes over %s, not %s", got, tc.want)
			}
		})
	}
}

// TestDrainOfASharedCluster: it is drained once nobody has anything there, and its owners read whose workloads remain.
func TestDrainOfASharedCluster(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 4, 1000)
	e.deploy("green", 0, 4, 1000)
	e.settle()
	e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: eu-1, labels: {set: shared}}, spec: {location: eu, drain: {}},
		status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`)
	drain := func() (status v1alpha1.ClusterDrainStatus, drained string) {
		e.later(time.Minute)
		for _, r := range as[*v1alpha1.ClusterRegistration](e.platform.show(clusterResource), map[types.UID]decode.Problems{}) {
			if r.Name == "eu-1" && r.Status.Drain != nil {
				status = *r.Status.Drain
				drained = string(conditions.Get(r, v1alpha1.DrainedCondition).Status)
			}
		}
		return status, drained
	}
	status, drained := drain()
	if status.Remaining != 4 || drained != "False" {
		t.Fatalf("%d remain, drained: %s", status.Remaining, drained)
	}
	teams := map[string]int{}
	for _, w := range status.Workloads {
		teams[w.Workspace]++
	}
	if teams["red"]+teams["green"] != 4 {
		t.Errorf("remaining, by workspace: %v", teams)
	}
	e.register("eu-3", "shared")
	for range 10 {
		if status, drained = drain(); drained == "True" {
			break
		}
	}
	if status.Remaining != 0 || drained != "True" {
		t.Errorf("%d remain, drained: %s", status.Remaining, drained)
	}
	if on, to := e.promised(); on["eu-1"] != 0 || to["red"] != 4000 || to["green"] != 4000 {
		t.Errorf("promised: %v %v", on, to)
	}
}

// TestWorksOfAWorkspaceThatIsGone: what runs for a workspace that is not bound any more is removed, and only once the server says so.
func TestWorksOfAWorkspaceThatIsGone(t *testing.T) {
	server := newAPIServer(t)
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEndpoint(Config{Provider: server.config(), Kinds: []schema.GroupVersionResource{deployments}, Deliver: true}, server.URL, m, func(logicalcluster.Name) {}, func(logicalcluster.Name) {})
	if err != nil {
		t.Fatal(err)
	}
	local, err := NewLocal("platform", DefaultPace(), workload.Kinds(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0)
	w := local.workspace
	w.now, w.fleet.works = func() time.Time { return now }, e.keptWorks("platform", nil)
	server.put("works", "platform", &v1alpha1.Work{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Work"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "cluster-eu", Name: "red.w-0", Labels: map[string]string{v1alpha1.LabelWorkspace: "red"}},
		Spec:       v1alpha1.WorkSpec{Workspace: "red"},
	})
	for _, tc := range []struct {
		name    string
		visits  bool
		unbound bool
		err     error
		left    int
	}{
		{"its workspace looks at the clusters", true, true, nil, 1},
		{"it is not followed yet", false, false, nil, 1},
		{"it is not known whether it is bound", false, true, errors.New("no answer"), 1},
		{"it is not bound any more", false, true, nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if w.fleet.removeGuest("red"); tc.visits {
				w.fleet.addGuest("red")
			}
			w.fleet.gone = func(context.Context, logicalcluster.Name, types.NamespacedName) (bool, error) {
				return tc.unbound, tc.err
			}
			var r result
			for range 3 {
				now = now.Add(2 * orphanedFor)
				var works []*v1alpha1.Work
				for _, u := range server.stored("works") {
					works = append(works, written[v1alpha1.Work](u))
				}
				w.tendKept(context.Background(), &cacheView{keptWorks: works}, &r)
			}
			if left := len(server.stored("works")); left != tc.left {
				t.Errorf("%d Works are left, errors: %v", left, r.errs)
			}
		})
	}
}

// TestWorkspaceComesAndGoes: a workspace with clusters of its own stays with these, whatever it binds; without them it comes to those that
// it has bound, and stays there as long as it has anything there.
func TestWorkspaceComesAndGoes(t *testing.T) {
	e := threeTeams(t)
	registration := `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: own}, spec: {}, status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`
	remove := func(text string) {
		t.Helper()
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		if err := e.in("red").Delete(&u); err != nil {
			t.Fatal(err)
		}
	}
	on := func(what, want string) {
		t.Helper()
		e.later(time.Hour)
		var all []string
		for name, cluster := range e.where("red") {
			all = append(all, name+" "+cluster[:2])
		}
		slices.Sort(all)
		if got := strings.Join(all, ", "); got != want {
			t.Fatalf("%s: %s, not %s", what, got, want)
		}
	}
	e.put("red", registration)
	e.deploy("red", 0, 1, 1000)
	on("with a cluster of its own", "web-0 ow")
	if kept, to := e.copies("platform"), e.copies("red"); len(kept) != 0 || len(to) != 1 || isCopy(as[*v1alpha1.PlacementDecision](e.in("red").show(decisionResource), map[types.UID]decode.Problems{})[0]) {
		t.Fatalf("kept: %v, own: %v", kept, to)
	}
	remove(registration)
	on("without it", "web-0 eu")
	if kept := e.copies("platform"); len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	e.put("red", registration)
	e.deploy("red", 1, 2, 1000)
	on("with one again, while it has something on the others", "web-0 eu, web-1 eu")
	if err := e.platform.Restart(); err != nil {
		t.Fatal(err)
	}
	on("after a restart", "web-0 eu, web-1 eu")
	e.delete("red", "web-0")
	e.delete("red", "web-1")
	on("with nothing there any more", "")
	e.deploy("red", 2, 3, 1000)
	on("then it has its own", "web-2 ow")
	if kept := e.copies("platform"); len(kept) != 0 {
		t.Fatalf("kept: %v", kept)
	}
}

// TestWorkspaceOfTwoPlatforms: what is kept for a workspace where it does not look any more stays promised there, and has it look nowhere
// else than where it does.
func TestWorkspaceOfTwoPlatforms(t *testing.T) {
	e := threeTeams(t)
	e.deploy("red", 0, 2, 1000)
	e.settle()
	// The workspace is made anew, and binds a set of another platform team.
	red := e.in("red")
	delete(e.platform.workspaces, "red")
	e.platform.fleets.forget(red.workspace)
	e.platform.engine.Forget("red")
	e.put("other", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: asia}, spec: {}, status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`)
	e.put("other", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: all}, spec: {clusterSelector: {}, grants: [{name: red, workspace: {cluster: red}, quota: {cpu: "4"}}]}}`)
	e.put("red", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: all}, spec: {clusterSet: all, workspace: {cluster: other}}}`)
	e.put("red", `{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default}, spec: {workloadSelector: {}, numberOfClusters: 1}}`)
	e.deploy("red", 10, 12, 1000)
	e.later(time.Second)
	check := func(when string, where int) {
		t.Helper()
		if placed := e.where("red"); len(placed) != where || slices.ContainsFunc(slices.Collect(maps.Values(placed)), func(on string) bool { return on != "asia" }) {
			t.Errorf("%s: %v", when, placed)
		}
		if _, to := e.promised(); to["red"] != 2000 {
			t.Errorf("%s, promised at the first: %v", when, to)
		}
	}
	check("at first", 2)
	if err := e.platform.Restart(); err != nil {
		t.Fatal(err)
	}
	e.later(time.Second)
	check("after a restart", 2)
	e.platform.fleets.forget(e.platform.workspace)
	e.platform.engine.Forget("platform")
	e.platform.begin(nil)
	e.later(time.Second)
	check("once the first platform was away", 2)
	e.deploy("red", 12, 14, 1000)
	e.deploy("green", 0, 10, 1000)
	e.deploy("blue", 0, 10, 1000)
	e.later(2 * orphanedFor) // its placement is there
	check("later", 4)
	if on, _ := e.promised(); on["eu-1"]+on["eu-2"] != 8000 {
		t.Errorf("promised: %v", on)
	}
}

// TestNamespaceOfKeptDecisions: it is made where it is missing, and where the controller may not make it, the error says what to do.
func TestNamespaceOfKeptDecisions(t *testing.T) {
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, v1alpha1.DecisionNamespace)
	for name, tc := range map[string]struct {
		refused error
		want    string
	}{
		"made":           {nil, ""},
		"made by others": {apierrors.NewAlreadyExists(schema.GroupResource{Resource: "namespaces"}, v1alpha1.DecisionNamespace), ""},
		"refused":        {errors.New("no claim"), "its owners run kubectl create namespace placement-decisions: no claim"},
	} {
		t.Run(name, func(t *testing.T) {
			there := false
			f := newFleet("platform", actions{
				writeDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
					if !there {
						return nil, missing
					}
					return d, nil
				},
				makeNamespace: func(context.Context, string) error {
					there = tc.want == ""
					return tc.refused
				},
			})
			slice := &v1alpha1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p-0"}, PlacementName: "p"}
			written, err := actions{}.keptIn(f, "red").writeDecision(context.Background(), slice)
			if tc.want == "" && (err != nil || written.Name != "p-0" || written.Namespace != "default") {
				t.Errorf("%v, %v", written, err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v", err)
			}
			if f.homeless.Load() != (tc.want != "") {
				t.Error("its owners are told otherwise")
			}
			there = true // once they have made it
			if _, err := (actions{}).keptIn(f, "red").writeDecision(context.Background(), slice); err != nil || f.homeless.Load() {
				t.Errorf("%v, and its owners are told that it is missing: %t", err, f.homeless.Load())
			}
		})
	}
}

// TestKeptNames: a slice that is kept is found again by its own name, and no two have the same, however long their names are.
func TestKeptNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := func(i string) (logicalcluster.Name, *v1alpha1.PlacementDecision) {
			name := func(what, pattern string) string { return rapid.StringMatching(pattern).Draw(t, what+" "+i) }
			label := "[a-z]([-a-z]{0,60}[a-z])?"
			return logicalcluster.Name(name("workspace", label)), &v1alpha1.PlacementDecision{
				ObjectMeta: metav1.ObjectMeta{Namespace: name("namespace", label), Name: name("slice", label+"([.]"+label+"){0,3}")}, PlacementName: "p",
			}
		}
		of, slice := one("a")
		kept := keep(of, slice)
		back, again, ok := fromKept(kept)
		if !ok || back != of || namespacedName(again) != namespacedName(slice) || len(validation.IsDNS1123Subdomain(kept.Name)) > 0 {
			t.Fatalf("%s of %s is kept as %s, and read as %v of %s: %t", namespacedName(slice), of, kept.Name, again, back, ok)
		}
		other, another := one("b")
		if (other != of || namespacedName(another) != namespacedName(slice)) && keep(other, another).Name == kept.Name {
			t.Fatalf("%s of %s and %s of %s are both kept as %s", namespacedName(slice), of, namespacedName(another), other, kept.Name)
		}
	})
}

// TestWhatIsGivenUpIsHeldAtOnce: workspaces are decided at the same time. What one of them gives up by a decision is free for nobody, not even
// between the decision and what the pass does about it next, until it is written that it is given up.
func TestWhatIsGivenUpIsHeldAtOnce(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "4", "green": "4"})
	e.deploy("red", 0, 1, 4000)
	e.settle()
	e.deploy("green", 0, 1, 3000)
	e.settle()
	e.deploy("red", 0, 1, 1000)
	red, meanwhile := e.in("red").workspace, 0
	ask := red.ask
	red.ask = func(ctx context.Context, r engine.Request) (*engine.Decision, error) {
		d, err := ask(ctx, r)
		if _, _, passErr := e.in("green").Pass(ctx); passErr != nil {
			t.Error(passErr)
		}
		e.checkPromises()
		meanwhile++
		return d, err
	}
	e.settle()
	if e.where("green")["web-0"] != "eu-1" || meanwhile == 0 {
		t.Errorf("green: %v, after %d passes in the middle of one over red", e.where("green"), meanwhile)
	}
}

// TestWhatWasNotWrittenIsGivenBack: a workspace goes away whose last decisions could not be written. What they have reserved is free again.
func TestWhatWasNotWrittenIsGivenBack(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "4"})
	e.settle()
	e.deploy("red", 0, 1, 3000)
	red := e.in("red")
	red.workspace.writeDecision = func(context.Context, *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
		return nil, apierrors.NewForbidden(schema.GroupResource{}, "p-0", errors.New("not now"))
	}
	if _, _, err := red.Pass(context.Background()); err == nil {
		t.Fatal("the write has not failed")
	}
	red.fleets.forget(red.workspace)
	red.engine.Forget(red.name)
	delete(e.platform.workspaces, red.name)
	e.settle()
	if row := e.platform.workspace.engine.Snapshot("platform").Row("eu-1"); row.Free.CPU != 4000 {
		t.Errorf("%dm are free of 4000m", row.Free.CPU)
	}
}
