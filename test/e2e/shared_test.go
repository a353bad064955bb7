package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// asOwner is the team as its owner, who has all rights in the workspace and none outside, uses it.
func (t *team) asOwner() *team {
	t.Helper()
	t.apply(admin)
	client, err := dynamic.NewForConfig(withToken(t.T, server.Config(t.workspace), "owner"))
	if err != nil {
		t.Fatal(err)
	}
	owner := &team{t.T, t.workspace, client}
	t.eventually("the owner reads placements", "<nil>", func() string { // it takes a moment until rights are in effect
		_, err := client.Resource(placements).List(t.Context(), metav1.ListOptions{})
		return fmt.Sprint(err)
	})
	return owner
}

// make creates an object of our API as whoever the team is.
func (t *team) make(resource, document string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), u); err != nil {
		t.Fatal(err)
	}
	in := t.client.Resource(v1alpha1.SchemeGroupVersion.WithResource(resource))
	var err error
	if u.GetNamespace() == "" {
		_, err = in.Create(t.Context(), u, metav1.CreateOptions{})
	} else {
		_, err = in.Namespace(u.GetNamespace()).Create(t.Context(), u, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sharedWith is a set of all clusters of a platform team, with a quota of CPU for each team by the path of its workspace.
func sharedWith(quotas map[*team]string) string {
	var grants []string
	for team, cpu := range quotas {
		name := team.workspace[strings.LastIndex(team.workspace, "-")+1:]
		grants = append(grants, fmt.Sprintf(`{name: %s, workspace: {path: "%s"}, quota: {cpu: "%s"}}`, name, team.workspace, cpu))
	}
	slices.Sort(grants)
	return `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterSet
metadata: {name: shared}
spec: {clusterSelector: {}, grants: [` + strings.Join(grants, ", ") + `]}
`
}

// kept sums up what is promised on the clusters of a platform team, in millicores: "a 4000, b 4000" by cluster, and by team.
func (t *team) kept(teams map[string]*team) (on, to string) {
	t.Helper()
	list, err := t.client.Resource(decisions).Namespace(v1alpha1.DecisionNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for name, team := range teams {
		names[string(team.logicalCluster())] = name
	}
	byCluster, byTeam, seen := map[string]int64{}, map[string]int64{}, map[string]bool{}
	for i := range list.Items {
		slice := as[v1alpha1.PlacementDecision](t, &list.Items[i])
		for _, d := range slice.Decisions {
			key := slice.Source.Workspace + " " + d.Workload.Name
			if seen[key] { // on its way from one slice to another
				continue
			}
			seen[key] = true
			for _, c := range d.Clusters {
				byCluster[c.Name] += d.Reserved.Cpu().MilliValue()
				byTeam[names[slice.Source.Workspace]] += d.Reserved.Cpu().MilliValue()
			}
		}
	}
	for cluster, millis := range byCluster {
		if millis > 4000 {
			t.Fatalf("%dm are promised on %s", millis, cluster)
		}
	}
	return listed(byCluster), listed(byTeam)
}

func listed(millis map[string]int64) string {
	var all []string
	for name, n := range millis {
		if n > 0 {
			all = append(all, fmt.Sprintf("%s %d", name, n))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestSharedFleet: three teams share the clusters of a platform team, as ordinary users of workspaces that see nothing of each other.
// A burst fills the clusters to the last millicore and no quota is exceeded; a policy that never ends holds up its own team alone; what
// a team has stays when its grant is withdrawn, and what it gives up then goes to others.
func TestSharedFleet(t *testing.T) {
	platform := newTeam(t, "platform")
	teams := map[string]*team{}
	for _, name := range []string{"red", "green", "blue"} {
		teams[name] = newTeam(t, name)
	}
	red, green, blue := teams["red"].asOwner(), teams["green"].asOwner(), teams["blue"].asOwner()
	platform.apply(cluster("eu", "4"), cluster("us", "4"), sharedWith(map[*team]string{red: "4", green: "3", blue: "3"}))
	teams["blue"].apply(policies("endless", `package placement.scoring
weights := {"capacity": count([x | some x in numbers.range(1, 100000000); x > 3])}`))
	for _, owner := range []*team{red, green, blue} {
		owner.make("clustersetbindings", fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: shared},
			spec: {clusterSet: shared, workspace: {path: "%s"}}}`, platform.workspace))
		owner.make("workloadplacements", placement("app", "numberOfClusters: 1"))
	}
	var bursts sync.WaitGroup
	for _, owner := range []*team{red, green, blue} {
		bursts.Go(func() {
			for i := range 20 {
				if err := owner.create(deployment(fmt.Sprintf("w%02d", i), "app", "250m")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	bursts.Wait()
	promised := func() string {
		on, to := platform.kept(teams)
		return on + "; " + to
	}
	byTeam := func() string {
		_, to := platform.kept(teams)
		return to
	}
	platform.eventually("promised while blue has no policies in force", "green 3000, red 4000", byTeam)

	// Its owners mend the policy: there is 1 CPU left.
	teams["blue"].delete(configMaps, "default", "endless")
	platform.eventually("promised", "eu 4000, us 4000; blue 1000, green 3000, red 4000", promised)
	for name, most := range map[string]int{"red": 16, "green": 12, "blue": 4} {
		teams[name].eventually(name+" reads where its workloads are", fmt.Sprint(most), func() string { return fmt.Sprint(len(teams[name].placed())) })
	}

	// Nobody writes what teams read but the controller.
	list, err := red.client.Resource(decisions).Namespace("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("%v, %v", list, err)
	}
	edit := []byte(`{"decisions": []}`)
	if _, err := red.client.Resource(decisions).Namespace("default").Patch(t.Context(), list.Items[0].GetName(), types.MergePatchType, edit, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an owner edits a copy: %v", err)
	}
	// Nothing of the platform's can be seen from a team.
	for _, resource := range []string{"clusterregistrations", "clustersets"} {
		if list, err := red.client.Resource(v1alpha1.SchemeGroupVersion.WithResource(resource)).List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
			t.Errorf("%s that red sees: %v, %v", resource, list, err)
		}
	}

	// The grant of red is withdrawn: what it has stays, and what it gives up goes to green and blue, as far as their quotas go.
	platform.apply(sharedWith(map[*team]string{green: "4", blue: "4"}))
	if err := red.create(deployment("late", "app", "250m")); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		on := ""
		for workload := range red.placed() {
			on = max(on, workload)
		}
		red.delete(deployments, "default", strings.TrimPrefix(on, "Deployment "))
		left := fmt.Sprint(15 - i)
		red.eventually("workloads of red", left, func() string { return fmt.Sprint(len(red.placed())) })
	}
	platform.eventually("promised without red's grant", "eu 4000, us 4000; red 3000", func() string {
		on, to := platform.kept(teams)
		return on + "; " + to[strings.Index(to, "red"):]
	})

	// Another controller promises the same.
	before := promised()
	current.stop()
	if current, err = startController(context.Background()); err != nil {
		t.Fatal(err)
	}
	platform.eventually("promised after a restart", before, promised)
}

// TestSharedClustersRunWhatTeamsPlace: agents of a platform team run what two teams place there. Equal names are two applications in
// namespaces of their own, each team reads how its own fares, and nothing is left of what a team deletes.
func TestSharedClustersRunWhatTeamsPlace(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newTeam(t, "platform"))
	one, two := newTeam(t, "one"), newTeam(t, "two")
	f.apply(sharedWith(map[*team]string{one: "4", two: "4"}))
	for i, team := range []*team{one, two} {
		team.apply(fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: shared}, spec: {clusterSet: shared, workspace: {path: "%s"}}}`, f.workspace),
			pinnedTo("web", "east", "west"), app("web", i+1, fmt.Sprintf("nginx:%d", i+1)))
	}
	f.eventually("both run", "east web 1/1, east web 2/2, west web 1/1, west web 2/2", f.running)
	for i, team := range []*team{one, two} {
		team.eventually("replicas that are ready, of each copy", fmt.Sprint(2*(i+1)), func() string { return team.field(deployments, "web", "status", "readyReplicas") })
		team.eventually("Delivered", "True", func() string { return team.condition("web", v1alpha1.DeliveredCondition) })
	}
	one.delete(deployments, "default", "web")
	f.eventually("that of one is gone", "east web 2/2, west web 2/2", f.running)
	one.eventually("Deployments in its workspace", "0", func() string {
		list, err := one.client.Resource(deployments).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(list.Items))
	})
	two.delete(deployments, "default", "web")
	f.eventually("nothing is left", "", f.left)
}
