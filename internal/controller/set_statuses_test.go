package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/sharing"
)

// sharer has registrations, each with label "in", and sets and bindings as name: spec.
type sharer struct {
	clusters       string
	sets, bindings map[string]string
}

// sharers are workspaces by name.
type sharers map[string]sharer

func (all sharers) workspaces(t *testing.T) (map[string]*sharing.Workspace, sharing.Lookup) {
	t.Helper()
	made, list := map[string]*sharing.Workspace{}, []*sharing.Workspace(nil)
	for name, in := range all {
		registered := map[string]labels.Set{}
		for _, cluster := range strings.Fields(in.clusters) {
			registered[cluster] = labels.Set{"in": cluster}
		}
		var sets []*v1alpha1.ClusterSet
		for set, spec := range in.sets {
			s := &v1alpha1.ClusterSet{}
			read(t, spec, &s.Spec)
			s.Name, s.Generation = set, 1
			sets = append(sets, s)
		}
		var bindings []*v1alpha1.ClusterSetBinding
		for binding, spec := range in.bindings {
			b := &v1alpha1.ClusterSetBinding{}
			read(t, spec, &b.Spec)
			b.Name, b.Generation = binding, 1
			bindings = append(bindings, b)
		}
		made[name] = sharing.NewWorkspace(logicalcluster.Name(name), "root:"+name, registered, sets, bindings)
		list = append(list, made[name])
	}
	return made, sharing.Among(list)
}

func read(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// TestStatusOfClusterSets: whatever a platform team has got wrong, its set says with the field and what to do; it says no more of another
// workspace than that uses what it is granted.
func TestStatusOfClusterSets(t *testing.T) {
	const gold = `{clusterSelector: {}, grants: [{name: shop, workspace: {path: "root:shop"}, quota: {cpu: "4"}}]}`
	const binding = `{clusterSet: gold, workspace: {path: "root:platform"}}`
	const unbound = "no ClusterSetBinding of workspace root:shop names this set: check spec.grants[0].workspace, and have its team create one"
	bound := map[string]string{"gold": binding}
	for _, test := range []struct {
		why        string
		set        string
		other      string // a set beside it
		shop       map[string]string
		shops      string // the clusters that the team has itself
		unresolved error
		outside    int64 // what the team has on clusters that have left the set
		orphan     bool
		homeless   bool
		want       string
	}{
		{why: "both sides agree", set: gold, shop: bound, want: `
Ready True
Bound True
Overcommitted False WithinCapacity
shop: bound shop, 3 of 4 cpu, 300 thousandths, 7 waiting`},
		{why: "a limit on borrowing bounds more than the quota does", shop: bound,
			set: `{clusterSelector: {}, grants: [{name: shop, workspace: {path: "root:shop"}, quota: {cpu: "8"}, guaranteed: {cpu: "3"}, borrowingLimit: {cpu: "2"}}]}`, want: `
Ready True
Bound True
Overcommitted False WithinCapacity
shop: bound shop, 3 of 5 cpu, 300 thousandths, 7 waiting`},
		{why: "a cluster has left the set, with work on it", set: gold, shop: bound, outside: 2000, want: `
Ready True
Bound True
Overcommitted False WithinCapacity
shop: bound shop, 3 of 4 cpu, 300 thousandths, 7 waiting, 2 outside`},
		{why: "a binding is deleted, and work goes on", set: gold, shop: map[string]string{}, outside: 2000, want: `
Ready True
Bound False GrantsNotBound: grant shop: the workspace has no ClusterSetBinding for the set
Overcommitted False WithinCapacity
shop: the workspace has no ClusterSetBinding for the set, 2 outside`},
		{why: "the team does not look at the clusters, and its placements are there", set: gold, shop: map[string]string{}, outside: 2000, orphan: true, want: `
Ready True
Bound False GrantsNotBound: grant shop: ` + orphanMessage("shop") + `
Overcommitted False WithinCapacity
shop: ` + orphanMessage("shop") + `, 2 outside`},
		{why: "there is no namespace for what teams are promised", set: gold, shop: bound, homeless: true, want: `
Ready False NamespaceMissing: namespace placement-decisions: is missing in this workspace, and the controller cannot make it: nothing new is placed for other workspaces until you run kubectl create namespace placement-decisions
Bound True
Overcommitted False WithinCapacity
shop: bound shop, 3 of 4 cpu, 300 thousandths, 7 waiting`},
		{why: "a grant without a binding", set: gold, shop: map[string]string{}, want: `
Ready True
Bound False GrantsNotBound: grant shop: ` + unbound + `
Overcommitted False WithinCapacity
shop: ` + unbound},
		{why: "a grant to a workspace that does not exist", set: gold, want: `
Ready True
Bound False GrantsNotBound: grant shop: ` + unbound + `
Overcommitted False WithinCapacity
shop: ` + unbound},
		{why: "a workspace whose parent cannot be read", set: gold, unresolved: errors.New("the controller may not read the workspaces of root"), want: `
Ready False WorkspaceUnknown: spec.grants[0].workspace: the controller may not read the workspaces of root
Bound False GrantsNotBound: grant shop: the controller may not read the workspaces of root
Overcommitted False WithinCapacity
shop: the controller may not read the workspaces of root`},
		{why: "the team has clusters of its own", set: gold, shop: bound, shops: "mine", want: `
Ready True
Bound False GrantsNotBound: grant shop: the workspace uses clusters of its own
Overcommitted False WithinCapacity
shop: the workspace uses clusters of its own`},
		{why: "an empty set", set: `{clusterSelector: {clusterNames: [c]}}`, want: `
Ready False NoClusters: spec.clusterSelector: selects none of the registered clusters
Bound True
Overcommitted False WithinCapacity`},
		{why: "no selector", set: `{}`, want: `
Ready False NoClusters: spec.clusterSelector: is not given, and selects no cluster: {} selects all
Bound True
Overcommitted False WithinCapacity`},
		{why: "a selector that cannot be read", set: `{clusterSelector: {labelSelector: {matchExpressions: [{key: a, operator: Is}]}}}`, want: `
Ready False InvalidSelector: spec.clusterSelector.labelSelector: Invalid value: "Is" is not a valid label selector operator: nothing is granted
Bound True
Overcommitted False WithinCapacity`},
		{why: "two grants to one workspace, by path and by logical cluster", shop: bound,
			set: `{clusterSelector: {}, grants: [{name: one, workspace: {path: "root:shop"}}, {name: two, workspace: {cluster: shop}}]}`, want: `
Ready False GrantedTwice: spec.grants[1].workspace: grant one is for root:shop already, and the first counts: make them one
Bound False GrantsNotBound: grant two: grant one is for root:shop already, and the first counts: make them one
Overcommitted False WithinCapacity
one: bound shop, 3 of 0 cpu, 300 thousandths, 7 waiting
two: grant one is for root:shop already, and the first counts: make them one`},
		{why: "a grant to the workspace itself", set: `{clusterSelector: {}, grants: [{name: me, workspace: {path: "root:platform"}}]}`, want: `
Ready False OwnWorkspace: spec.grants[0].workspace: this workspace uses all of its clusters without a grant: remove it
Bound False GrantsNotBound: grant me: this workspace uses all of its clusters without a grant: remove it
Overcommitted False WithinCapacity
me: this workspace uses all of its clusters without a grant: remove it`},
		{why: "two sets that share a cluster promise more than it has", shop: bound, set: gold, other: `{clusterSelector: {clusterNames: [a]}, grants: [{name: ml, workspace: {cluster: ml}, quota: {cpu: "7"}}]}`, want: `
Ready True
Bound True
Overcommitted True QuotaOvercommitted: reservations are exact all the same, and who comes first has the room: spec.grants: quota of cpu of the grants of ClusterSets gold, silver, which share clusters, comes to 11, and the clusters have 10
shop: bound shop, 3 of 4 cpu, 300 thousandths, 7 waiting`},
	} {
		t.Run(test.why, func(t *testing.T) {
			all := sharers{"platform": {clusters: "a b", sets: map[string]string{"gold": test.set}}}
			if test.other != "" {
				all["platform"].sets["silver"] = test.other
			}
			if test.shop != nil {
				all["shop"] = sharer{clusters: test.shops, bindings: test.shop}
			}
			workspaces, lookup := all.workspaces(t)
			has := func(string) capacity.Resources { return capacity.Resources{CPU: 5000} }
			report := setReport{
				Set: sharing.SetsOf(workspaces["platform"], lookup, has)[0], has: capacity.Resources{CPU: 10000},
				accounts:   []engine.Account{{Workspace: "shop", Promised: capacity.Resources{CPU: test.outside}}},
				first:      func(logicalcluster.Name) bool { return true },
				orphaned:   func(logicalcluster.Name) bool { return test.orphan },
				homeless:   test.homeless,
				waiting:    func(of logicalcluster.Name) int { return map[logicalcluster.Name]int{"shop": 7}[of] },
				unresolved: func(v1alpha1.WorkspaceReference) error { return test.unresolved },
			}
			if len(test.shop) > 0 {
				report.accounts = append(report.accounts, engine.Account{Workspace: "shop", Set: "gold", Promised: capacity.Resources{CPU: 3000}})
			}
			set := report.DeepCopy()
			report.fill(set)
			got := told(set)
			for _, g := range set.Status.Grants {
				if g.Bound {
					got += fmt.Sprintf("\n%s: bound %s, %s of %s cpu, %d thousandths, %d waiting", g.Name, g.Cluster, g.Used.Cpu(), g.Quota.Cpu(), g.DominantShare, g.Waiting)
				} else {
					got += fmt.Sprintf("\n%s: %s", g.Name, g.Message)
				}
				if len(g.Outside) > 0 {
					got += fmt.Sprintf(", %s outside", g.Outside.Cpu())
				}
			}
			if got != test.want {
				t.Errorf("%s\nwant%s", got, test.want)
			}
			again := set.DeepCopy()
			if report.fill(again); fmt.Sprint(again.Status) != fmt.Sprint(set.Status) {
				t.Error("it says something else the second time")
			}
		})
	}
}

// told are the conditions of an object, Ready first.
func told(object conditions.Getter) (text string) {
	for _, c := range object.GetConditions() {
		text += strings.TrimSuffix(fmt.Sprintf("\n%s %s %s: %s", c.Type, c.Status, c.Reason, c.Message), ": ")
		text = strings.TrimSuffix(text, " ")
	}
	return text
}

// TestGrantTakenAway: what runs by a grant that was taken away is charged until it has gone.
func TestGrantTakenAway(t *testing.T) {
	workspaces, lookup := sharers{"platform": {clusters: "a", sets: map[string]string{"gold": `{clusterSelector: {}}`}}}.workspaces(t)
	has := capacity.Resources{CPU: 10000}
	report := setReport{
		Set: sharing.SetsOf(workspaces["platform"], lookup, func(string) capacity.Resources { return has })[0], has: has,
		waiting:    func(logicalcluster.Name) int { return 0 },
		first:      func(logicalcluster.Name) bool { return true },
		orphaned:   func(logicalcluster.Name) bool { return false },
		unresolved: func(v1alpha1.WorkspaceReference) error { return nil },
	}
	set := report.DeepCopy()
	set.Status.Grants = []v1alpha1.ClusterSetGrantStatus{{Name: "shop", Cluster: "shop", Bound: true}, {Name: "never-bound"}}
	report.accounts = []engine.Account{{Workspace: "shop", Promised: capacity.Resources{CPU: 2000}}}
	report.fill(set)
	if g := set.Status.Grants; len(g) != 1 || g[0].Bound || g[0].Used.Cpu().String() != "2" || !strings.Contains(g[0].Message, "taken away") {
		t.Errorf("%+v", g)
	}
	report.accounts = nil
	report.fill(set)
	if len(set.Status.Grants) > 0 {
		t.Errorf("%+v: it has nothing any more", set.Status.Grants)
	}
}

// TestGrantOfAnotherWorkspace: a grant that is changed to be for another workspace is taken away from the one that had it, which is charged
// beside it until all has gone. What a workspace has is told once, whatever grants name it.
func TestGrantOfAnotherWorkspace(t *testing.T) {
	const taken = "the grant was taken away: what runs stays until it has another place, and nothing new comes"
	shop := v1alpha1.ClusterSetGrantStatus{Name: "team", Cluster: "shop", Path: "root:shop", Bound: true}
	for _, test := range []struct {
		why, grants string
		before      []v1alpha1.ClusterSetGrantStatus
		unresolved  error
		gone        bool // the workspace shop
		want        string
	}{
		{why: "the grant is for another workspace", grants: `[{name: team, workspace: {path: "root:ml"}}]`, before: []v1alpha1.ClusterSetGrantStatus{shop},
			want: "team ml 3, former-1 shop 2 " + taken},
		{why: "and once more", grants: `[{name: team, workspace: {cluster: web}}, {name: former-1, workspace: {path: "root:ml"}}]`,
			before: []v1alpha1.ClusterSetGrantStatus{{Name: "team", Cluster: "ml"}, {Name: "former-1", Cluster: "shop"}},
			want:   "team web 0, former-1 ml 3, former-2 shop 2 " + taken},
		{why: "the grant has another name", grants: `[{name: shop, workspace: {path: "root:shop"}}]`, before: []v1alpha1.ClusterSetGrantStatus{shop}, want: "shop shop 0+2"},
		{why: "two grants are taken away", grants: `[]`, before: []v1alpha1.ClusterSetGrantStatus{shop, {Name: "other", Cluster: "shop"}}, want: "team shop 2 " + taken},
		{why: "it is written by logical cluster", grants: `[{name: team, workspace: {cluster: shop}}]`, before: []v1alpha1.ClusterSetGrantStatus{shop}, want: "team shop 0+2"},
		{why: "it is for a workspace that does not exist", grants: `[{name: team, workspace: {path: "root:nowhere"}}]`, before: []v1alpha1.ClusterSetGrantStatus{shop},
			want: "team  0, former-1 shop 2 " + taken},
		{why: "nobody knows whom it is for", grants: `[{name: team, workspace: {path: "root:elsewhere"}}]`, before: []v1alpha1.ClusterSetGrantStatus{shop}, unresolved: errors.New("it cannot be read"),
			want: "team  0"},
		{why: "the workspace is not seen at the moment", grants: `[{name: team, workspace: {path: "root:shop"}}]`, before: []v1alpha1.ClusterSetGrantStatus{shop}, gone: true,
			want: "team  0"},
		{why: "two grants are for one workspace", grants: `[{name: team, workspace: {path: "root:ml"}, quota: {cpu: "4"}}, {name: again, workspace: {cluster: ml}, quota: {cpu: "9"}}]`,
			want: "team ml 3 of 4, again ml 0"},
	} {
		t.Run(test.why, func(t *testing.T) {
			binds := sharer{bindings: map[string]string{"gold": `{clusterSet: gold, workspace: {path: "root:platform"}}`}}
			all := sharers{"platform": {clusters: "a", sets: map[string]string{"gold": `{clusterSelector: {}, grants: ` + test.grants + `}`}}, "ml": binds, "web": binds, "shop": binds}
			if test.gone {
				delete(all, "shop")
			}
			workspaces, lookup := all.workspaces(t)
			has := capacity.Resources{CPU: 10000}
			report := setReport{
				Set: sharing.SetsOf(workspaces["platform"], lookup, func(string) capacity.Resources { return has })[0], has: has,
				waiting:    func(logicalcluster.Name) int { return 0 },
				first:      func(logicalcluster.Name) bool { return true },
				orphaned:   func(logicalcluster.Name) bool { return false },
				unresolved: func(v1alpha1.WorkspaceReference) error { return test.unresolved },
				accounts: []engine.Account{
					{Workspace: "ml", Set: "gold", Promised: capacity.Resources{CPU: 3000}},
					{Workspace: "shop", Promised: capacity.Resources{CPU: 2000}},
				},
			}
			set := report.DeepCopy()
			set.Status.Grants = test.before
			for range 2 {
				report.fill(set)
				var got []string
				for _, g := range set.Status.Grants {
					text := fmt.Sprintf("%s %s %s", g.Name, g.Cluster, g.Used.Cpu())
					if len(g.Outside) > 0 {
						text += "+" + g.Outside.Cpu().String()
					}
					if len(g.Quota) > 0 {
						text += " of " + g.Quota.Cpu().String()
					}
					if g.Message == taken {
						text += " " + taken
					}
					got = append(got, text)
				}
				if strings.Join(got, ", ") != test.want {
					t.Errorf("%s\nwant %s", strings.Join(got, ", "), test.want)
				}
			}
		})
	}
}

// TestStatusOfClusterSetBindings: a binding says whether its clusters are used, and if not, what its team does about it.
func TestStatusOfClusterSetBindings(t *testing.T) {
	const gold, silver = `{clusterSelector: {clusterNames: [a, b]}, grants: [{name: shop, workspace: {path: "root:shop"}, quota: {cpu: "4"}}]}`, `{clusterSelector: {clusterNames: [b]}, grants: [{name: shop, workspace: {path: "root:shop"}}]}`
	const notGranted = "no ClusterSet gold of workspace root:platform grants this workspace anything: check both names, and ask its owners for a grant to root:shop"
	of := func(set, workspace string) string {
		return fmt.Sprintf(`{clusterSet: %s, workspace: {path: "root:%s"}}`, set, workspace)
	}
	platform := map[string]string{"gold": gold, "silver": silver}
	for _, test := range []struct {
		why                string
		platform, other    map[string]string
		shop               map[string]string
		shops              string
		unreadable         decode.Problems
		unread, unresolved error
		want               string
	}{
		{why: "both sides agree", platform: platform, shop: map[string]string{"gold": of("gold", "platform")}, want: `
gold Bound True
gold Usable True
gold 1/2, 3 of 4: a eu true 1, b eu false 0`},
		{why: "a limit on borrowing and no quota", platform: map[string]string{"gold": `{clusterSelector: {clusterNames: [a]}, grants: [{name: shop, workspace: {path: "root:shop"}, guaranteed: {cpu: "3"}, borrowingLimit: {cpu: "2"}}]}`}, shop: map[string]string{"gold": of("gold", "platform")}, want: `
gold Bound True
gold Usable True
gold 1/1, 3 of 5: a eu true 1`},
		{why: "no grant", platform: map[string]string{"gold": `{clusterSelector: {}}`}, shop: map[string]string{"gold": of("gold", "platform")}, want: `
gold Bound False NotGranted: spec.clusterSet: ` + notGranted + `
gold Usable False NotBound: see condition Bound
gold 0/0, 0 of 0:`},
		{why: "no such workspace, which says the same", shop: map[string]string{"gold": of("gold", "platform")}, want: `
gold Bound False NotGranted: spec.clusterSet: ` + notGranted + `
gold Usable False NotBound: see condition Bound
gold 0/0, 0 of 0:`},
		{why: "a workspace whose parent cannot be read", shop: map[string]string{"gold": of("gold", "platform")}, unresolved: errors.New("the controller may not read the workspaces of root"), want: `
gold Bound False WorkspaceUnknown: spec.workspace.path: the controller may not read the workspaces of root
gold Usable False NotBound: see condition Bound
gold 0/0, 0 of 0:`},
		{why: "a cycle of one", shop: map[string]string{"gold": of("gold", "shop")}, want: `
gold Bound False OwnFleet: spec.workspace: a workspace needs no binding to its own clusters: name the workspace of the platform team, or delete the binding
gold Usable False NotBound: see condition Bound
gold 0/0, 0 of 0:`},
		{why: "registrations beside a binding", platform: platform, shops: "mine", shop: map[string]string{"gold": of("gold", "platform")}, want: `
gold Bound True
gold Usable False OwnFleet: spec.workspace: this workspace has ClusterRegistrations or ClusterSets of its own and places on its own clusters only: delete these, or use another workspace for shared clusters
gold 0/0, 0 of 0:`},
		{why: "a cluster in two bound sets is in both", platform: platform, shop: map[string]string{"gold": of("gold", "platform"), "silver": of("silver", "platform")}, want: `
gold Bound True
gold Usable True
gold 1/2, 3 of 4: a eu true 1, b eu false 0
silver Bound True
silver Usable True
silver 0/1, 3 of 0: b eu false 0`},
		{why: "two platform teams", platform: platform, other: map[string]string{"gold": gold}, shop: map[string]string{"gold": of("gold", "other"), "silver": of("silver", "platform")}, want: `
gold Bound True
gold Usable True
gold 0/1, 3 of 4:
silver Bound True
silver Usable False OtherFleet: spec.workspace: this workspace uses the clusters of root:other already, and a workspace uses those of one other at a time: delete the bindings to its sets and what is placed there, or this binding
silver 0/0, 0 of 0:`},
		{why: "nothing is known of the fleet yet", platform: platform, shop: map[string]string{"gold": of("gold", "platform")}, unread: errors.New("what is promised there is not known yet"), want: `
gold Bound True
gold Usable False FleetNotRead: what is promised there is not known yet
gold 1/2, 3 of 4: a eu true 1, b eu false 0`},
		{why: "an object that cannot be read", platform: platform, shop: map[string]string{"gold": of("gold", "platform")}, unreadable: decode.Problems{{Field: "spec.workspace", Message: "must be an object"}}, want: `
gold Bound False InvalidSpec: spec.workspace: must be an object
gold Usable False NotBound: see condition Bound
gold 1/2, 3 of 4: a eu true 1, b eu false 0`},
	} {
		t.Run(test.why, func(t *testing.T) {
			all := sharers{"shop": {clusters: test.shops, bindings: test.shop}}
			for name, sets := range map[string]map[string]string{"platform": test.platform, "other": test.other} {
				if sets != nil {
					all[name] = sharer{clusters: map[string]string{"platform": "a b", "other": "a"}[name], sets: sets}
				}
			}
			workspaces, lookup := all.workspaces(t)
			view := sharing.ViewOf(workspaces["shop"], lookup)
			rows := []*snapshot.Row{row("b", "False", 0), row("a", "True", 1000), row("c", "True", 1000)}
			got := ""
			for _, b := range view.Bindings {
				report := bindingReport{Binding: b, unreadable: test.unreadable, unread: test.unread, unresolved: test.unresolved, rows: rows, room: map[string]capacity.Resources{"a": {CPU: 1000}, "b": {CPU: -5}}, account: engine.Account{Promised: capacity.Resources{CPU: 3000}}}
				if view.Fleet == "other" {
					report.rows = nil
				}
				report.grant = grantOf(view.Grants, b.Spec.ClusterSet)
				if b.Reason != sharing.Bound {
					report.grant = nil
				}
				binding := b.DeepCopy()
				report.fill(binding)
				got += strings.ReplaceAll(told(binding), "\n", "\n"+b.Name+" ")
				got += fmt.Sprintf("\n%s %s, %s of %s:", b.Name, binding.Status.Summary, binding.Status.Used.Cpu(), binding.Status.Quota.Cpu())
				for i, c := range binding.Status.Clusters {
					got += strings.Repeat(",", min(i, 1)) + fmt.Sprintf(" %s %s %t %s", c.Name, c.Location, c.Ready, c.Free.Cpu())
				}
			}
			if got != test.want {
				t.Errorf("%s\nwant%s", got, test.want)
			}
		})
	}
}

func row(name, ready string, free int64) *snapshot.Row {
	c := &snapshot.Cluster{Name: name, Location: "eu", Allocatable: capacity.Resources{CPU: 2000}, Allocated: capacity.Resources{CPU: 2000 - free}}
	c.Conditions = []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: ready}}
	return snapshot.NewRow(c, capacity.Resources{})
}
