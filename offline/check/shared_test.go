package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
)

// file of a workspace, by its path, with objects as specs of one line each: "Kind name {spec}".
func fileOf(path string, objects ...string) *manifest.File {
	var text strings.Builder
	for _, o := range objects {
		parts := strings.SplitN(o, " ", 3)
		labels, status := "", ""
		version := "tmc.kcp.io/v1alpha1"
		if parts[0] == "Deployment" {
			version = "apps/v1"
		}
		if parts[0] == "ClusterRegistration" {
			labels = ", labels: {tier: gold}"
			status = "\nstatus: {allocatable: {cpu: 10, memory: 64Gi, nvidia.com/gpu: 4}}"
		}
		fmt.Fprintf(&text, "apiVersion: %s\nkind: %s\nmetadata: {name: %s, annotations: {kcp.io/path: %q}%s}\nspec: %s%s\n---\n", version, parts[0], parts[1], path, labels, parts[2], status)
	}
	return &manifest.File{Name: strings.ReplaceAll(path, ":", "-") + ".yaml", Text: text.String()}
}

func deployment(name string, cpu int) string {
	return fmt.Sprintf("Deployment %s {template: {spec: {containers: [{name: c, resources: {requests: {cpu: %d}}}]}}}", name, cpu)
}

// TestSharing: what ClusterSets and ClusterSetBindings say in vain is told at its field. A workspace that is not among the files may be
// there all the same.
func TestSharing(t *testing.T) {
	const cluster, bind = "ClusterRegistration eu {location: eu}", `ClusterSetBinding gold {clusterSet: gold, workspace: {path: "root:platform"}}`
	grant := func(more string) string {
		return `ClusterSet gold {clusterSelector: {}, grants: [{name: a, workspace: {path: "root:teams:a"}` + more + `}]}`
	}
	const ownFleet = "this workspace has ClusterRegistrations or ClusterSets of its own and places on its own clusters only: delete these, or use another workspace for shared clusters [sharing]"
	many := ""
	for i := range 2000 {
		many += fmt.Sprintf(`{name: g%d, workspace: {path: "root:teams:t%d"}}, `, i, i)
	}
	platform := func(objects ...string) *manifest.File { return fileOf("root:platform", objects...) }
	team := func(objects ...string) *manifest.File { return fileOf("root:teams:a", objects...) }
	for _, test := range []struct {
		name  string
		files []*manifest.File
		want  []string
	}{
		{"both sides agree", []*manifest.File{platform(cluster, grant(`, quota: {cpu: 4, nvidia.com/gpu: 1}`)), team(bind)}, nil},
		{"a workload that is larger than any quota", []*manifest.File{platform(cluster, grant(`, quota: {cpu: 4}, clusterQuota: {cpu: 3}`)), team(bind, deployment("fits", 3), deployment("large", 4))}, []string{
			"root-teams-a.yaml:14:7: Deployment default/large: spec: asks for 4 cpu, and ClusterSet gold grants this workspace 3 at most: it waits for ever; ask for less, or its owners for a larger clusterQuota [sharing]",
		}},
		{"a workload that is larger than what may ever be borrowed", []*manifest.File{platform(cluster, grant(`, quota: {cpu: 4}, guaranteed: {cpu: 1, memory: 1Gi}, borrowingLimit: {cpu: 2}`)), team(bind, deployment("large", 4))}, []string{
			"root-teams-a.yaml:9:7: Deployment default/large: spec: asks for 4 cpu, and ClusterSet gold grants this workspace 3 at most: it waits for ever; ask for less, or its owners for a larger borrowingLimit [sharing]",
		}},
		{"one that is larger than one of two quotas", []*manifest.File{platform(cluster, "ClusterRegistration us {location: us}", `ClusterSet gold {clusterSelector: {clusterNames: [eu]}, grants: [{name: a, workspace: {path: "root:teams:a"}, quota: {cpu: 4}}]}`, `ClusterSet iron {clusterSelector: {clusterNames: [us]}, grants: [{name: a, workspace: {path: "root:teams:a"}}]}`),
			team(bind, `ClusterSetBinding iron {clusterSet: iron, workspace: {path: "root:platform"}}`, deployment("large", 8))}, nil},
		{"one side alone", []*manifest.File{platform(cluster, grant(""))}, nil},
		{"the other side alone", []*manifest.File{team(bind)}, nil},
		{"a set whose clusters are elsewhere", []*manifest.File{platform(`ClusterSet gold {clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}}`)}, nil},
		{"a misspelt workspace", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {}, grants: [{name: a, workspace: {path: "root:teasm:a"}}]}`), team(`ClusterSetBinding gold {clusterSet: gold, workspace: {path: "root:platfform"}}`)}, []string{
			"root-platform.yaml:10:66: ClusterSet gold: spec.grants[0].workspace.path: there is no workspace root:teasm:a in the files, did you mean root:teams:a? [sharing]",
			"root-teams-a.yaml:4:44: ClusterSetBinding gold: spec.workspace.path: there is no workspace root:platfform in the files, did you mean root:platform? [sharing]",
		}},
		{"a misspelt set", []*manifest.File{platform(cluster, grant("")), team(`ClusterSetBinding gold {clusterSet: glod, workspace: {path: "root:platform"}}`)}, []string{
			"root-teams-a.yaml:4:20: ClusterSetBinding gold: spec.clusterSet: no ClusterSet glod of workspace root:platform grants this workspace anything: check both names, and ask its owners for a grant to root:teams:a [sharing]",
		}},
		{"a misspelt resource", []*manifest.File{platform(cluster, grant(`, quota: {cpus: 4}, clusterQuota: {nvida.com/gpu: 1}, guaranteed: {gpu: 0}`))}, []string{
			"root-platform.yaml:10:97: ClusterSet gold: spec.grants[0].quota[cpus]: no cluster of the set has any, did you mean cpu? [sharing]",
			"root-platform.yaml:10:131: ClusterSet gold: spec.grants[0].clusterQuota[nvida.com/gpu]: no cluster of the set has any, did you mean nvidia.com/gpu? [sharing]",
		}},
		{"a selector that selects nothing", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {labelSelector: {matchLabels: {tier: glod}}}}`)}, []string{
			"root-platform.yaml:10:25: ClusterSet gold: spec.clusterSelector: selects none of the registered clusters [sharing]",
		}},
		{"a cluster that is not there", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {clusterNames: [eu, ue]}}`)}, []string{
			"root-platform.yaml:10:45: ClusterSet gold: spec.clusterSelector.clusterNames[1]: there is no ClusterRegistration ue [sharing]",
		}},
		{"a selector that cannot be read", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: Is}]}}}`)}, []string{
			`root-platform.yaml:10:41: ClusterSet gold: spec.clusterSelector.labelSelector: Invalid value: "Is" is not a valid label selector operator: nothing is granted [sharing]`,
		}},
		{"more guaranteed than the quota, or than there is", []*manifest.File{platform(cluster, grant(`, quota: {cpu: 12}, guaranteed: {cpu: 14}`))}, []string{
			"root-platform.yaml:10:37: ClusterSet gold: spec.grants: guaranteed of cpu of the grants comes to 12, and the clusters have 10 [sharing]",
			"root-platform.yaml:10:37: ClusterSet gold: spec.grants: quota of cpu of the grants comes to 12, and the clusters have 10 [sharing]",
			"root-platform.yaml:10:113: ClusterSet gold: spec.grants[0].guaranteed: no memory is guaranteed: a workload that asks for memory is never within what is guaranteed, as it has to be with all that it asks for: guarantee memory, too [sharing]",
			"root-platform.yaml:10:119: ClusterSet gold: spec.grants[0].guaranteed[cpu]: 14 is more than the quota of 12, which is all that can be used [sharing]",
		}},
		{"all that workloads ask for is guaranteed", []*manifest.File{platform(cluster, grant(`, guaranteed: {cpu: 4}`)), team(bind, deployment("web", 1))}, nil},
		{"not all that workloads ask for is guaranteed", []*manifest.File{platform(cluster, grant(`, guaranteed: {memory: 4Gi}`)), team(bind, deployment("web", 1))}, []string{
			"root-platform.yaml:10:95: ClusterSet gold: spec.grants[0].guaranteed: no cpu is guaranteed: a workload that asks for cpu is never within what is guaranteed, as it has to be with all that it asks for: guarantee cpu, too [sharing]",
		}},
		{"something is guaranteed, and neither cpu nor memory", []*manifest.File{platform(cluster, grant(`, guaranteed: {nvidia.com/gpu: 1}`))}, []string{
			"root-platform.yaml:10:95: ClusterSet gold: spec.grants[0].guaranteed: no cpu or memory is guaranteed: a workload that asks for cpu or memory is never within what is guaranteed, as it has to be with all that it asks for: guarantee cpu or memory, too [sharing]",
		}},
		{"a binding to an empty set", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {clusterNames: []}, grants: [{name: a, workspace: {path: "root:teams:a"}}]}`, `ClusterSet iron {grants: [{name: a, workspace: {path: "root:teams:a"}}]}`), team(bind, `ClusterSetBinding iron {clusterSet: iron, workspace: {path: "root:platform"}}`)}, []string{
			"root-platform.yaml:15:7: ClusterSet iron: spec.clusterSelector: is not given, and selects no cluster: {} selects all [sharing]",
			"root-teams-a.yaml:9:20: ClusterSetBinding iron: spec.clusterSet: ClusterSet iron has no clusters: ask its owners [sharing]",
		}},
		{"a binding to a set whose clusters are elsewhere", []*manifest.File{platform(grant("")), team(bind)}, nil},
		{"a limit to borrow beyond nothing", []*manifest.File{platform(cluster, grant(`, borrowingLimit: {cpu: 2}`))}, []string{
			"root-platform.yaml:10:105: ClusterSet gold: spec.grants[0].borrowingLimit[cpu]: nothing of this resource is guaranteed, so that all of it is borrowed: say what is guaranteed, or write the limit as quota [sharing]",
		}},
		{"a workspace that is named twice", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {}, grants: [{name: a, workspace: {path: "root:teams:a"}}, {name: b, workspace: {path: "root:teams:a"}}]}`), team(bind)}, []string{
			"root-platform.yaml:10:105: ClusterSet gold: spec.grants[1].workspace: grant a is for root:teams:a already, and the first counts: make them one [sharing]",
		}},
		{"a grant to itself", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {}, grants: [{name: a, workspace: {path: "root:platform"}}]}`)}, []string{
			"root-platform.yaml:10:59: ClusterSet gold: spec.grants[0].workspace: this workspace uses all of its clusters without a grant: remove it [sharing]",
		}},
		{"clusters of its own beside a binding", []*manifest.File{platform(cluster, grant("")), team(bind, "ClusterRegistration mine {location: eu}")}, []string{
			"root-teams-a.yaml:4:37: ClusterSetBinding gold: spec.workspace: this workspace has ClusterRegistrations or ClusterSets of its own and places on its own clusters only: delete these, or use another workspace for shared clusters [sharing]",
		}},
		{"a placement of a team is checked with the clusters that it sees", []*manifest.File{
			platform(cluster, grant("")),
			team(bind, `WorkloadPlacement web {workloadSelector: {}, locationSelector: {matchLabels: {location: ue}}}`),
		}, []string{
			"root-teams-a.yaml:9:73: WorkloadPlacement default/web: spec.locationSelector.matchLabels[location]: no cluster of the fleet has the location=ue [unknown_location]",
		}},
		{"more grants than a set may have", []*manifest.File{platform(cluster, `ClusterSet gold {clusterSelector: {}, grants: [`+many+`]}`)}, []string{
			"root-platform.yaml:10:37: ClusterSet gold: spec.grants: Too many: 2000: must have at most 500 items [manifest]",
		}},
		{"an amount out of proportion", []*manifest.File{platform(cluster, grant(`, quota: {cpu: 9E, memory: "9e99999"}`))}, []string{
			"root-platform.yaml:10:108: ClusterSet gold: spec.grants[0].quota.memory: 9e99999 is out of proportion [manifest]",
		}},
		{"an amount that is too large", []*manifest.File{platform(cluster, grant(`, quota: {cpu: 9E}`))}, []string{
			"root-platform.yaml:10:96: ClusterSet gold: spec.grants[0].quota[cpu]: 9E is too large [sharing]",
		}},
		{"two sets of one name", []*manifest.File{platform(cluster, grant(""), grant(""))}, []string{
			"root-platform.yaml:12:1: ClusterSet gold is defined twice, first at root-platform.yaml:7:1 [manifest]",
		}},
		{"one name in two workspaces", []*manifest.File{platform(cluster, grant("")), fileOf("root:other", cluster, grant(""))}, nil},
		{"a cycle", []*manifest.File{
			platform(`ClusterSet gold {clusterSelector: {}, grants: [{name: a, workspace: {path: "root:teams:a"}}]}`, `ClusterSetBinding gold {clusterSet: gold, workspace: {path: "root:teams:a"}}`),
			team(`ClusterSet gold {clusterSelector: {}, grants: [{name: a, workspace: {path: "root:platform"}}]}`, bind),
		}, []string{
			"root-platform.yaml:9:37: ClusterSetBinding gold: spec.workspace: " + ownFleet,
			"root-teams-a.yaml:9:37: ClusterSetBinding gold: spec.workspace: " + ownFleet,
		}},
		{"the schema speaks first", []*manifest.File{platform(cluster, grant(`, quota: {cpu: -1}`), `ClusterSet silver {clusterSelector: {}, grants: [{name: a, workspace: {}}, {name: a, workspace: {path: "root:x", cluster: z}}]}`)}, []string{
			`root-platform.yaml:10:90: ClusterSet gold: spec.grants[0].quota: Invalid value: amounts must not be negative [manifest]`,
			`root-platform.yaml:15:64: ClusterSet silver: spec.grants[1]: Duplicate value: {"name":"a"} [manifest]`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := found(t, test.files); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestFaults: what simulate and diff tell of sets and bindings are faults, of the workspaces that are asked about, and nothing that may
// be meant.
func TestFaults(t *testing.T) {
	grants := func(more string) string { return `{clusterSelector: {}, grants: [` + more + `]}` }
	team := fileOf("root:teams:a", `ClusterSetBinding gold {clusterSet: glod, workspace: {path: "root:platform"}}`)
	platform := fileOf("root:platform", "ClusterRegistration eu {location: eu}",
		"ClusterSet gold "+grants(`{name: a, workspace: {path: "root:teams:a"}, quota: {cpu: 99}, guaranteed: {cpu: 11}}, {name: b, workspace: {path: "root:teams:a"}}, {name: c, workspace: {path: "root:teasm:a"}}`),
		"ClusterSet iron {clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: Is}]}}}",
		"ClusterSet lead "+grants(`{name: a, workspace: {path: "root:teams:a"}, quota: {cpu: 9E}}`))
	workspaces, wrong := manifest.Reader{}.Read([]*manifest.File{platform, team})
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	for _, test := range []struct {
		of   []*manifest.Workspace
		want []string
	}{
		{workspaces, []string{
			"ClusterSet gold: spec.grants[1].workspace: grant a is for root:teams:a already, and the first counts: make them one",
			"ClusterSet gold: spec.grants[2].workspace.path: there is no workspace root:teasm:a in the files, did you mean root:teams:a?",
			`ClusterSet iron: spec.clusterSelector.labelSelector: Invalid value: "Is" is not a valid label selector operator: nothing is granted`,
			"ClusterSet lead: spec.grants[0].quota[cpu]: 9E is too large",
			"ClusterSetBinding gold: spec.clusterSet: no ClusterSet glod of workspace root:platform grants this workspace anything: check both names, and ask its owners for a grant to root:teams:a",
		}},
		{slices.DeleteFunc(slices.Clone(workspaces), func(w *manifest.Workspace) bool { return w.Path != "root:teams:a" }), []string{
			"ClusterSetBinding gold: spec.clusterSet: no ClusterSet glod of workspace root:platform grants this workspace anything: check both names, and ask its owners for a grant to root:teams:a",
		}},
	} {
		var got []string
		for _, f := range check.Sharing(workspaces, test.of) {
			got = append(got, f.Description())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}
