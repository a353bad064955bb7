package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestWhereHowManyAndHowDivided: what docs/placement.md tells, on a server: as many clusters as there are and never fewer than a
// minimum, spread over regions, replicas that are divided and scaled, and a group to fall back to when a cluster goes.
func TestWhereHowManyAndHowDivided(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	in := func(location, name, cpu string) string {
		return strings.Replace(cluster(name, cpu), "location: here", "location: "+location, 1)
	}
	scaled := func(name, app string, replicas int, cpu string) string {
		return strings.Replace(deployment(name, app, cpu), "spec:\n", fmt.Sprintf("spec:\n  replicas: %d\n", replicas), 1)
	}
	// placed is where a workload is, for example "a x2, b x1, group own, 3 wait".
	placed := func(workload string) string {
		list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			for _, d := range as[v1alpha1.PlacementDecision](team, &list.Items[i]).Decisions {
				if d.Workload.Name != workload {
					continue
				}
				var parts []string
				for _, c := range d.Clusters {
					parts = append(parts, fmt.Sprintf("%s x%d", c.Name, c.Replicas))
				}
				slices.Sort(parts)
				if d.Group != "" {
					parts = append(parts, "group "+d.Group)
				}
				if d.WaitingReplicas > 0 {
					parts = append(parts, fmt.Sprintf("%d wait", d.WaitingReplicas))
				}
				return strings.Join(parts, ", ")
			}
		}
		return "nowhere"
	}
	expect := func(workload, want string) {
		t.Helper()
		team.eventually(workload, want, func() string { return placed(workload) })
	}
	scheduled := func(placement, want string) {
		t.Helper()
		team.eventually("Scheduled of "+placement, want, func() string {
			got := team.condition(placement, v1alpha1.ScheduledCondition)
			if strings.Contains(got, want) {
				return want
			}
			return got
		})
	}

	all := func(least int) string {
		return placement("all", "numberOfClusters: All", fmt.Sprintf("minClusters: %d", least))
	}
	team.apply(in("eu", "eu-1", "64"), in("eu", "eu-2", "8"), in("us", "us-1", "6"),
		all(4), deployment("agent", "all", "0.1"),
		placement("regions", "numberOfClusters: 2", "spreadConstraints: [{topologyKey: location}]"), deployment("web", "regions", "0.1"),
		placement("shares", "replicaScheduling: {type: Divided, maxPerCluster: 3, partial: true}"), scaled("batch", "shares", 4, "0.1"),
		placement("groups", "numberOfClusters: 1", "fallback: [{name: own, clusterSelector: {clusterNames: [us-1]}}, {name: any}]"), deployment("ledger", "groups", "0.1"))

	// The best two clusters are in one region.
	expect("web", "eu-1 x1, us-1 x1")
	expect("ledger", "us-1 x1, group own")

	// Fewer than four clusters are not worth it, until there are as many; one that joins later is used, too.
	scheduled("all", "at least 4 are asked for")
	expect("agent", "nowhere")
	team.apply(in("ap", "ap-1", "4"))
	expect("agent", "ap-1 x1, eu-1 x1, eu-2 x1, us-1 x1")
	scheduled("all", "True")

	// Growing takes nothing away, shrinking gives nothing, and what exceeds the maximum waits.
	expect("batch", "eu-1 x2, eu-2 x1, us-1 x1")
	team.apply(scaled("batch", "shares", 7, "0.1"))
	expect("batch", "eu-1 x3, eu-2 x2, us-1 x2")
	team.apply(scaled("batch", "shares", 11, "0.1"))
	expect("batch", "eu-1 x3, eu-2 x3, us-1 x3, 2 wait")
	scheduled("shares", "False ReplicasWaiting: 2 replicas wait, of 1 of 1 workloads.")
	team.apply(scaled("batch", "shares", 2, "0.1"))
	expect("batch", "eu-1 x1, eu-2 x1")
	scheduled("shares", "True")

	// A cluster goes: its workloads fall back, and find another region.
	team.delete(clusters, "", "us-1")
	expect("ledger", "eu-1 x1, group any")
	expect("web", "ap-1 x1, eu-1 x1")
	expect("agent", "ap-1 x1, eu-1 x1, eu-2 x1")
}

// TestAffinity: a workload waits for the one that it has to be with, two that wait for each other are told so, and one that repels
// others keeps them away, whatever their placements say, until it goes.
func TestAffinity(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	term := func(kind, app string) string {
		return fmt.Sprintf("workloadAffinity: [{type: %s, required: true, labelSelector: {matchLabels: {app: %s}}}]", kind, app)
	}
	team.apply(cluster("a", "40"), cluster("b", "4"),
		placement("web", "numberOfClusters: 1", term("Attract", "db")), deployment("web", "web", "0.1"),
		placement("hen", term("Attract", "egg")), deployment("hen", "hen", "0.1"),
		placement("egg", term("Attract", "hen")), deployment("egg", "egg", "0.1"))
	waits := func(name, why string) {
		t.Helper()
		team.eventually(name+" waits", "true", func() string {
			got := team.condition(name, v1alpha1.ScheduledCondition)
			return map[bool]string{true: "true", false: got}[strings.Contains(got, why)]
		})
	}
	waits("web", "workloadAffinity[0] asks for the same cluster as one of the workloads with app=db, and none is placed")
	waits("hen", "wait for each other")

	team.apply(placement("db", "clusterSelector: {clusterNames: [b]}"), deployment("db", "db", "0.1"))
	team.expect("Deployment db", "b")
	team.expect("Deployment web", "b")

	team.apply(placement("loner", "numberOfClusters: 1", term("Repel", "plain")), deployment("loner", "loner", "0.1"))
	team.expect("Deployment loner", "a")
	team.apply(placement("plain", "numberOfClusters: 2"), deployment("plain", "plain", "0.1"))
	team.expect("Deployment plain", "b")
	team.delete(deployments, "default", "loner")
	team.expect("Deployment plain", "a,b")
}

// TestPoliciesRelateAndKeep: what policies say of affinity and of the strategy counts as if placements said it, and what is placed
// before holds against what comes later.
func TestPoliciesRelateAndKeep(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "40"), cluster("b", "4"), policies("rules", `package placement.scheduling
strategy := {"type": "Affinity"} if input.workload.labels.app == "loner"
workloadAffinity contains {"type": "Repel", "required": true, "labelSelector": {"matchLabels": {"app": "plain"}}} if input.workload.labels.app == "loner"`))
	team.eventually("the policies", "true", func() string {
		c, err := team.client.Resource(configMaps).Namespace("default").Get(t.Context(), "rules", metav1.GetOptions{})
		return fmt.Sprint(err == nil && strings.Contains(c.GetAnnotations()[v1alpha1.AnnotationPolicyStatus], "ok"))
	})
	team.apply(placement("loner"), deployment("loner", "loner", "0.1"))
	team.expect("Deployment loner", "a")
	team.apply(placement("plain", "numberOfClusters: 2"), deployment("plain", "plain", "0.1"))
	team.expect("Deployment plain", "b")
	team.delete(deployments, "default", "loner")
	team.expect("Deployment plain", "a,b")

	team.apply(policies("rules", `package placement.scheduling
workloadAffinity contains {"type": "Shun", "labelSelector": {}}`))
	team.eventually("PoliciesReady", "true", func() string {
		got := team.condition("plain", v1alpha1.PoliciesReadyCondition)
		return map[bool]string{true: "true", false: got}[strings.Contains(got, `workloadAffinity[0].type: Unsupported value: "Shun"`)]
	})
}
