package sharing_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/sharing"
)

// workspace of a test, of which the path is "root:" and the name. Clusters have their first letter as label tier, and 10 cpu.
type workspace struct {
	clusters string            // names
	sets     map[string]string // specs by name
	bindings []string          // names as workspace/set, in the order of their creation
	held     string            // a workspace
}

func read[T any](t *testing.T, text string) (object T) {
	if err := yaml.UnmarshalStrict([]byte(text), &object); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return object
}

func world(t *testing.T, workspaces map[string]workspace) map[string]*sharing.Workspace {
	all := map[string]*sharing.Workspace{}
	for name, w := range workspaces {
		registered := map[string]labels.Set{}
		for _, cluster := range strings.Fields(w.clusters) {
			registered[cluster] = labels.Set{"tier": cluster[:1]}
		}
		var sets []*v1alpha1.ClusterSet
		for name, spec := range w.sets {
			sets = append(sets, &v1alpha1.ClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: read[v1alpha1.ClusterSetSpec](t, spec)})
		}
		var bindings []*v1alpha1.ClusterSetBinding
		for i, text := range w.bindings {
			of, set, _ := strings.Cut(text, "/")
			b := &v1alpha1.ClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%c", 'z'-i)}}
			b.CreationTimestamp.Time = metav1.Unix(int64(i), 0).Time
			b.Spec.ClusterSet, b.Spec.Workspace.Path = set, "root:"+of
			bindings = append([]*v1alpha1.ClusterSetBinding{b}, bindings...)
		}
		all[name] = sharing.NewWorkspace(logicalcluster.Name(name), "root:"+name, registered, sets, bindings)
		all[name].Held = logicalcluster.Name(w.held)
	}
	return all
}

func among(all map[string]*sharing.Workspace) sharing.Lookup {
	var list []*sharing.Workspace
	for _, w := range all {
		list = append(list, w)
	}
	return sharing.Among(list)
}

// TestViews: which fleet a workspace team looks at, through which grants, and what its bindings say, the oldest first.
func TestViews(t *testing.T) {
	const all = `{clusterSelector: {}, grants: [{name: team, workspace: {path: "root:team"}, quota: {cpu: "4"}}]}`
	platform := func(bindings ...string) map[string]workspace {
		return map[string]workspace{"platform": {clusters: "a1 a2 b1", sets: map[string]string{"all": all}}, "team": {bindings: bindings}}
	}
	with := func(worlds map[string]workspace, name string, w workspace) map[string]workspace {
		worlds[name] = w
		return worlds
	}
	for _, test := range []struct {
		name string
		in   map[string]workspace
		want string
	}{
		{"both sides agree", platform("platform/all"), "platform: all [a1 a2 b1] cpu<=4000; Bound"},
		{"no binding", platform(), "team: "},
		{"a binding without a grant", with(platform("platform/all"), "platform", workspace{clusters: "a1", sets: map[string]string{"all": `{clusterSelector: {}, grants: [{name: other, workspace: {path: "root:other"}}]}`}}), "team: ; NotGranted"},
		{"a set that is not there", platform("platform/gold"), "team: ; NotGranted"},
		{"a workspace that is not there", platform("nowhere/all"), "team: ; NotGranted"},
		{"a grant by logical cluster", with(platform("platform/all"), "platform", workspace{clusters: "a1", sets: map[string]string{"all": `{clusterSelector: {}, grants: [{name: team, workspace: {cluster: team}}]}`}}), "platform: all [a1]; Bound"},
		{"a set without a selector selects nothing", with(platform("platform/all"), "platform", workspace{clusters: "a1", sets: map[string]string{"all": `{grants: [{name: team, workspace: {path: "root:team"}}]}`}}), "platform: all []; Bound"},
		{"a selector that cannot be read", with(platform("platform/all"), "platform", workspace{clusters: "a1", sets: map[string]string{"all": `{clusterSelector: {labelSelector: {matchExpressions: [{key: a, operator: Is}]}}, grants: [{name: team, workspace: {path: "root:team"}}]}`}}), "team: ; InvalidGrant"},
		{"an amount that cannot be", with(platform("platform/all"), "platform", workspace{clusters: "a1", sets: map[string]string{"all": `{clusterSelector: {}, grants: [{name: team, workspace: {path: "root:team"}, quota: {cpu: "-1"}}]}`}}), "team: ; InvalidGrant"},
		{"the first of two grants counts", with(platform("platform/all"), "platform", workspace{clusters: "a1", sets: map[string]string{"all": `{clusterSelector: {}, grants: [{name: a, workspace: {path: "root:team"}, quota: {cpu: "1"}}, {name: b, workspace: {cluster: team}, quota: {cpu: "9"}}]}`}}), "platform: all [a1] cpu<=1000; Bound"},
		{"a cluster in two sets is in both", with(platform("platform/late", "platform/early"), "platform", workspace{clusters: "a1 a2 b1", sets: map[string]string{
			"early": `{clusterSelector: {clusterNames: [a1]}, grants: [{name: team, workspace: {path: "root:team"}, quota: {cpu: "1"}}]}`,
			"late":  `{clusterSelector: {labelSelector: {matchLabels: {tier: a}}}, grants: [{name: team, workspace: {path: "root:team"}, quota: {cpu: "2"}}]}`,
		}}), "platform: early [a1] cpu<=1000, late [a1 a2] cpu<=2000; Bound; Bound"},
		{"two bindings to one set are as one", platform("platform/all", "platform/all"), "platform: all [a1 a2 b1] cpu<=4000; Bound; Bound"},
		{"clusters of its own", with(platform(), "team", workspace{clusters: "c1", bindings: []string{"platform/all"}}), "team: ; OwnFleet"},
		{"a workspace without a cluster that shares them", with(platform(), "team", workspace{sets: map[string]string{"none": `{}`}, bindings: []string{"platform/all"}}), "team: ; OwnFleet"},
		{"a binding to its own set", with(platform(), "team", workspace{clusters: "c1", sets: map[string]string{"mine": `{clusterSelector: {}, grants: [{name: me, workspace: {path: "root:team"}}]}`}, bindings: []string{"team/mine"}}), "team: ; OwnFleet"},
		{"a cycle", map[string]workspace{
			"team":  {sets: map[string]string{"x": `{clusterSelector: {}, grants: [{name: other, workspace: {path: "root:other"}}]}`}, bindings: []string{"other/x"}},
			"other": {sets: map[string]string{"x": `{clusterSelector: {}, grants: [{name: team, workspace: {path: "root:team"}}]}`}, bindings: []string{"team/x"}},
		}, "team: ; OwnFleet"},
		{"the fleet of the oldest binding", with(platform("platform/all", "others/all"), "others", workspace{clusters: "o1", sets: map[string]string{"all": all}}), "platform: all [a1 a2 b1] cpu<=4000; Bound; OtherFleet"},
		{"a binding that nobody answers keeps no fleet out", with(platform("others/none", "platform/all"), "others", workspace{clusters: "o1", sets: map[string]string{"all": all}}), "platform: all [a1 a2 b1] cpu<=4000; NotGranted; Bound"},
		{"what is placed keeps the fleet when the binding goes", with(platform(), "team", workspace{held: "platform"}), "platform: "},
		{"and when the grant goes", with(platform(), "team", workspace{held: "platform", bindings: []string{"platform/gold"}}), "platform: ; NotGranted"},
		{"and from an older binding", with(with(platform(), "others", workspace{clusters: "o1", sets: map[string]string{"all": all}}), "team", workspace{held: "platform", bindings: []string{"others/all", "platform/all"}}), "platform: all [a1 a2 b1] cpu<=4000; OtherFleet; Bound"},
		{"and from clusters of its own", with(platform(), "team", workspace{held: "platform", clusters: "c1", bindings: []string{"platform/all"}}), "platform: all [a1 a2 b1] cpu<=4000; Bound"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := world(t, test.in)
			v := sharing.ViewOf(all["team"], among(all))
			var grants []string
			for _, g := range v.Grants {
				text := fmt.Sprintf("%s %v", g.Set, g.Clusters)
				if most, bounded := g.Quota["cpu"]; bounded {
					text += fmt.Sprintf(" cpu<=%d", most)
				}
				grants = append(grants, text)
			}
			got := v.Fleet.String() + ": " + strings.Join(grants, ", ")
			for _, b := range v.Bindings {
				got += "; " + b.Reason
				if b.Reason != sharing.Bound && (b.Message == "" || b.Field == "") {
					t.Errorf("binding %s: nothing is said: %+v", b.Name, b)
				}
			}
			if got != test.want {
				t.Errorf("%s, not %s", got, test.want)
			}
		})
	}
}

// TestHidden: a team is told the same of a set that is not there, of one that grants it nothing and of a workspace that is not there.
func TestHidden(t *testing.T) {
	told := map[string]bool{}
	for _, sets := range []map[string]workspace{
		{},
		{"platform": {clusters: "a1"}},
		{"platform": {clusters: "a1", sets: map[string]string{"gold": `{clusterSelector: {}, grants: [{name: other, workspace: {path: "root:other"}}]}`}}},
		{"platform": {clusters: "a1", sets: map[string]string{"gold": `{clusterSelector: {labelSelector: {matchExpressions: [{key: a, operator: Is}]}}}`}}},
	} {
		sets["team"] = workspace{bindings: []string{"platform/gold"}}
		all := world(t, sets)
		b := sharing.ViewOf(all["team"], among(all)).Bindings[0]
		told[fmt.Sprintln(b.Reason, b.Field, b.Message, b.Fleet, b.Clusters)] = true
	}
	if len(told) != 1 {
		t.Errorf("the answers tell more than that nothing is granted: %v", told)
	}
}

// TestAGrantWithErrors: where a team has bound a set by a grant with errors, its owners are told of these, and not to have it bound.
func TestAGrantWithErrors(t *testing.T) {
	all := world(t, map[string]workspace{
		"platform": {clusters: "a1", sets: map[string]string{"gold": `{clusterSelector: {}, grants: [{name: team, workspace: {path: "root:team"}, quota: {cpu: "-1"}}]}`}},
		"team":     {bindings: []string{"platform/gold"}},
	})
	for _, s := range sharing.SetsOf(all["platform"], among(all), func(string) capacity.Resources { return capacity.Resources{} }) {
		if g := s.Grants[0]; g.Bound || g.Unanswered || !strings.Contains(g.Message, "has errors") {
			t.Errorf("%+v", g)
		}
	}
}

// TestSets: what a platform team is told of its sets.
func TestSets(t *testing.T) {
	for _, test := range []struct {
		name string
		sets map[string]string
		want []string
	}{
		{"nothing to say", map[string]string{"gold": `{clusterSelector: {}, grants: [{name: a, workspace: {path: "root:team"}, quota: {cpu: "30"}, guaranteed: {cpu: "10"}, borrowingLimit: {cpu: "5"}}]}`}, nil},
		{"no selector", map[string]string{"gold": `{}`}, []string{"gold NoClusters spec.clusterSelector: is not given, and selects no cluster: {} selects all"}},
		{"an empty set", map[string]string{"gold": `{clusterSelector: {labelSelector: {matchLabels: {tier: z}}}}`}, []string{"gold NoClusters spec.clusterSelector: selects none of the registered clusters"}},
		{"a selector that cannot be read", map[string]string{"gold": `{clusterSelector: {labelSelector: {matchExpressions: [{key: a, operator: Is}]}}}`},
			[]string{`gold InvalidSelector spec.clusterSelector.labelSelector: Invalid value: "Is" is not a valid label selector operator: nothing is granted`}},
		{"workspaces that cannot be meant", map[string]string{"gold": `{clusterSelector: {}, grants: [{name: a, workspace: {path: "root:tema"}}, {name: b, workspace: {cluster: platform}}, {name: c, workspace: {cluster: team}}, {name: d, workspace: {path: "root:team"}}]}`},
			[]string{
				"gold WorkspaceNotFound spec.grants[0].workspace: there is no workspace root:tema that binds the APIExport of placement: check the name",
				"gold OwnWorkspace spec.grants[1].workspace: this workspace uses all of its clusters without a grant: remove it",
				"gold GrantedTwice spec.grants[3].workspace: grant c is for root:team already, and the first counts: make them one",
			}},
		{"amounts that cannot be meant", map[string]string{"gold": `{clusterSelector: {}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "4", memory: "-1"}, clusterQuota: {cpus: "4", nothing: "0"}, guaranteed: {cpu: "5"}, borrowingLimit: {memory: 1Gi}}]}`},
			[]string{
				"gold InvalidQuantity spec.grants[0].quota[memory]: -1 is negative",
				"gold GuaranteedAboveQuota spec.grants[0].guaranteed[cpu]: 5 is more than the quota of 4, which is all that can be used",
				"gold NothingGuaranteed spec.grants[0].borrowingLimit[memory]: nothing of this resource is guaranteed, so that all of it is borrowed: say what is guaranteed, or write the limit as quota",
				"gold UnknownResource spec.grants[0].clusterQuota[cpus]: no cluster of the set has any, did you mean cpu?",
			}},
		{"more than there is", map[string]string{"gold": `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "6"}, guaranteed: {cpu: "6"}}, {name: b, workspace: {cluster: more}, quota: {cpu: "6"}, guaranteed: {cpu: "5"}}]}`},
			[]string{
				"gold WorkspaceNotFound spec.grants[1].workspace: there is no workspace more that binds the APIExport of placement: check the name",
				"gold QuotaOvercommitted spec.grants: quota of cpu of the grants comes to 12, and the clusters have 10",
				"gold GuaranteeOvercommitted spec.grants: guaranteed of cpu of the grants comes to 11, and the clusters have 10",
			}},
		{"sets that share a cluster are counted together", map[string]string{
			"gold":   `{clusterSelector: {clusterNames: [a1, a2]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "15"}}]}`,
			"silver": `{clusterSelector: {clusterNames: [a2, b1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "16"}}]}`,
		}, []string{
			"gold QuotaOvercommitted spec.grants: quota of cpu of the grants of ClusterSets gold, silver, which share clusters, comes to 31, and the clusters have 30",
			"silver QuotaOvercommitted spec.grants: quota of cpu of the grants of ClusterSets gold, silver, which share clusters, comes to 31, and the clusters have 30",
		}},
		{"a set that is a part of another is counted alone, too", map[string]string{
			"gold":   `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "15"}}]}`,
			"silver": `{clusterSelector: {clusterNames: [a1, a2]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "4"}}]}`,
		}, []string{"gold QuotaOvercommitted spec.grants: quota of cpu of the grants comes to 15, and the clusters have 10"}},
		{"and so are those of some sets that have more together than their clusters, whatever others have", map[string]string{
			"gold":   `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "9"}, guaranteed: {cpu: "9"}}]}`,
			"iron":   `{clusterSelector: {}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "1"}, guaranteed: {cpu: "1"}}]}`,
			"silver": `{clusterSelector: {clusterNames: [a1, a2]}, grants: [{name: a, workspace: {cluster: beside}, quota: {cpu: "12"}, guaranteed: {cpu: "11"}}]}`,
		}, []string{
			"gold QuotaOvercommitted spec.grants: quota of cpu of the grants of ClusterSets gold, silver, which share clusters, comes to 21, and the clusters have 20",
			"silver QuotaOvercommitted spec.grants: quota of cpu of the grants of ClusterSets gold, silver, which share clusters, comes to 21, and the clusters have 20",
		}},
		{"what finds room elsewhere is not", map[string]string{
			"gold":   `{clusterSelector: {clusterNames: [a1, a2]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "10"}}]}`,
			"iron":   `{clusterSelector: {clusterNames: [a2, b1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "10"}}]}`,
			"silver": `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "10"}}]}`,
		}, nil},
		{"what a workspace has of a set within another one counts in both", map[string]string{
			"all":    `{clusterSelector: {}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "30"}}]}`,
			"gold":   `{clusterSelector: {labelSelector: {matchLabels: {tier: a}}}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "20"}}]}`,
			"silver": `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "10"}}]}`,
		}, nil},
		{"and is told by its sum, with what is beyond", map[string]string{
			"all":  `{clusterSelector: {}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "40"}}]}`,
			"gold": `{clusterSelector: {labelSelector: {matchLabels: {tier: a}}}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "20"}}]}`,
		}, []string{
			"all QuotaOvercommitted spec.grants: quota of cpu of the grants of ClusterSets all, gold, which share clusters, comes to 40, and the clusters have 30",
			"gold QuotaOvercommitted spec.grants: quota of cpu of the grants of ClusterSets all, gold, which share clusters, comes to 40, and the clusters have 30",
		}},
		{"what may be borrowed bounds as a quota does", map[string]string{
			"gold": `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, guaranteed: {cpu: "4"}, borrowingLimit: {cpu: "4"}}, {name: b, workspace: {path: "root:other"}, quota: {cpu: "9"}, guaranteed: {cpu: "2"}, borrowingLimit: {cpu: "2"}}]}`,
		}, []string{
			"gold WorkspaceNotFound spec.grants[1].workspace: there is no workspace root:other that binds the APIExport of placement: check the name",
			"gold QuotaOvercommitted spec.grants: quota, or guaranteed with borrowingLimit, of cpu of the grants comes to 12, and the clusters have 10",
		}},
		{"grants that do not count are not counted", map[string]string{
			"gold": `{clusterSelector: {clusterNames: [a1]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "6"}}, {name: b, workspace: {path: "root:team"}, quota: {cpu: "6"}, clusterQuota: {cpu: "11"}}, {name: c, workspace: {cluster: platform}, quota: {cpu: "6"}}]}`,
		}, []string{
			"gold GrantedTwice spec.grants[1].workspace: grant a is for root:team already, and the first counts: make them one",
			"gold OwnWorkspace spec.grants[2].workspace: this workspace uses all of its clusters without a grant: remove it",
		}},
		{"quotas on each cluster", map[string]string{
			"gold":   `{clusterSelector: {}, grants: [{name: a, workspace: {cluster: team}, clusterQuota: {cpu: "6"}}]}`,
			"silver": `{clusterSelector: {labelSelector: {matchLabels: {tier: a}}}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "5"}, clusterQuota: {cpu: "9", memory: "100"}}]}`,
		}, []string{
			"gold QuotaOvercommitted spec.grants: clusterQuota of cpu of the grants comes to 11 on cluster a1, which has 10; the same is so of 1 more",
			"silver QuotaOvercommitted spec.grants: clusterQuota of cpu of the grants comes to 11 on cluster a1, which has 10; the same is so of 1 more",
		}},
		{"sets that share none are not", map[string]string{
			"gold":   `{clusterSelector: {labelSelector: {matchLabels: {tier: a}}}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "20"}}]}`,
			"silver": `{clusterSelector: {labelSelector: {matchLabels: {tier: b}}}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "10"}}]}`,
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := world(t, map[string]workspace{"platform": {clusters: "a1 a2 b1", sets: test.sets}, "team": {}, "beside": {}})
			var got []string
			for _, s := range sharing.SetsOf(all["platform"], among(all), func(string) capacity.Resources { return capacity.Resources{CPU: 10000, Memory: 1 << 30} }) {
				if len(s.Grants) != len(s.Spec.Grants) {
					t.Errorf("%s: %d grants of %d", s.Name, len(s.Grants), len(s.Spec.Grants))
				}
				for _, g := range s.Grants {
					if g.Bound == (g.Message != "") {
						t.Errorf("%s: it does not say why, or why not: %+v", s.Name, g)
					}
				}
				for _, p := range s.Problems {
					got = append(got, fmt.Sprintf("%s %s %s: %s", s.Name, p.Reason, p.Field, p.Message))
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestOvercommitted: sets are told to be overcommitted exactly where not all of their quotas can be had at once, and with sums of sets that show it.
func TestOvercommitted(t *testing.T) {
	clusters := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(r *rapid.T) {
		sets, asks, of := map[string]string{}, map[string]int64{}, map[string][]string{}
		for i := range rapid.IntRange(1, 4).Draw(r, "sets") {
			name := fmt.Sprintf("s%d", i)
			of[name] = slices.DeleteFunc(slices.Clone(clusters), func(string) bool { return rapid.Bool().Draw(r, "left out") })
			asks[name] = rapid.Int64Range(0, 25).Draw(r, "quota")
			sets[name] = fmt.Sprintf(`{clusterSelector: {clusterNames: [%s]}, grants: [{name: a, workspace: {cluster: of-%s}, quota: {cpu: "%d"}}]}`, strings.Join(append(of[name], "none"), ", "), name, asks[name])
		}
		has := map[string]int64{}
		for _, name := range clusters {
			has[name] = rapid.Int64Range(1, 15).Draw(r, "has")
		}
		names := slices.Sorted(maps.Keys(sets))
		// By Hall's theorem, any sets that ask for more than their clusters have.
		short := false
		for family := range 1 << len(names) {
			var sum, all int64
			counted := map[string]bool{}
			for i, name := range names {
				if family>>i&1 == 0 || len(of[name]) == 0 {
					continue
				}
				sum += asks[name]
				for _, c := range of[name] {
					if !counted[c] {
						counted[c], all = true, all+has[c]
					}
				}
			}
			short = short || sum > all
		}
		world := world(t, map[string]workspace{"platform": {clusters: strings.Join(clusters, " "), sets: sets}, "team": {}})
		told := false
		for _, s := range sharing.SetsOf(world["platform"], among(world), func(name string) capacity.Resources { return capacity.Resources{CPU: 1000 * has[name]} }) {
			for _, p := range s.Problems {
				var sum, all int64
				if p.Reason != sharing.QuotaOvercommitted {
					continue
				}
				told = true
				if _, err := fmt.Sscanf(p.Message[strings.Index(p.Message, "comes to"):], "comes to %d, and the clusters have %d", &sum, &all); err != nil || sum <= all {
					r.Errorf("%s: %v", p.Message, err)
				}
			}
		}
		if told != short {
			r.Errorf("%v on %v, clusters %v: told to be overcommitted is %t, want %t", asks, of, has, told, short)
		}
	})
}

// TestHostileSets: however many sets overlap, and in whatever way, what is told of each is short, and the search for it ends.
func TestHostileSets(t *testing.T) {
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("c%03d", i))
	}
	sets := map[string]string{}
	for i := range 300 {
		some := slices.Clone(names[max(0, i-20):])
		sets[fmt.Sprintf("s%03d", i)] = fmt.Sprintf(`{clusterSelector: {clusterNames: [%s]}, grants: [{name: a, workspace: {cluster: team}, quota: {cpu: "%d", memory: 1Gi}, guaranteed: {cpu: "9"}}]}`, strings.Join(some, ", "), 9+i%3)
	}
	all := world(t, map[string]workspace{"platform": {clusters: strings.Join(names, " "), sets: sets}, "team": {}})
	for _, s := range sharing.SetsOf(all["platform"], among(all), func(string) capacity.Resources { return capacity.Resources{CPU: 10000, Memory: 1 << 30} }) {
		for _, p := range s.Problems {
			if len(p.Message) > 400 {
				t.Fatalf("%d characters: %s", len(p.Message), p.Message)
			}
		}
	}
}

func write(t *testing.T, object any) string {
	text, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
