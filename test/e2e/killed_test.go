package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/internal/process"
	"github.com/kcp-placement/placement/test/kcp"
)

// TestKilledTenTimes kills the controller in the middle of placing a thousand workloads, ten times over, as a crash does. No
// cluster is ever promised more than it has, and in the end every workload has exactly one decision: they fill the fleet to
// the last millicore, so nothing that was promised can have got lost either.
func TestKilledTenTimes(t *testing.T) {
	const clusters, each, kills = 10, 100, 10
	alone(t)
	team, binary, dir := newTeam(t), controllerProgram.build(t), t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := server.WriteKubeconfig(kcp.Provider, kubeconfig); err != nil {
		t.Fatal(err)
	}
	team.apply(placement("app", "numberOfClusters: 1"))
	for i := range clusters {
		team.apply(cluster(fmt.Sprintf("c%d", i), "10"))
	}

	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	start := func() *exec.Cmd {
		program := exec.Command(binary, "--kubeconfig", kubeconfig, "--metrics-bind-address", "")
		program.Stdout, program.Stderr = log, log
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		return program
	}
	program := start()
	defer func() {
		_ = program.Process.Kill()
		_ = program.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s", text[max(0, len(text)-8000):])
		}
	}()

	// The workloads come while the controller places those before them, and no more of them than there are to be before the next kill:
	// however slow this is and however fast the controller, it is killed each time.
	creating, next, killed := sync.WaitGroup{}, atomic.Int64{}, atomic.Int64{}
	for range 4 {
		creating.Go(func() {
			for i := next.Add(1); i <= clusters*each; i = next.Add(1) {
				for i > (killed.Load()+1)*clusters*each/(kills+1) && t.Context().Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				if err := team.create(deployment(fmt.Sprintf("w-%d", i), "app", "100m")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		placed := team.promised(10_000)
		if placed == clusters*each {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d placed", placed, clusters*each)
		}
		if done := int(killed.Load()); done < kills && placed >= done*clusters*each/(kills+1) && placed > 0 {
			if err := program.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = program.Wait()
			team.promised(10_000)
			program = start()
			killed.Add(1)
		}
	}
	creating.Wait()
	if n := killed.Load(); n != kills {
		t.Errorf("killed %d times", n)
	}
	time.Sleep(time.Second) // nothing moves any more
	if placed := team.promised(10_000); placed != clusters*each {
		t.Errorf("%d of %d placed", placed, clusters*each)
	}
	if n := team.decisions(); n != clusters*each {
		t.Errorf("%d decisions at rest for %d workloads: one stands twice", n, clusters*each)
	}
}

// TestPausedLeader stops a leader dead for longer than its lease lasts, and lets it go on when another leads and has filled the
// fleet: it writes nothing any more, and ends.
func TestPausedLeader(t *testing.T) {
	alone(t)
	team, binary, dir := newTeam(t), controllerProgram.build(t), t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := server.WriteKubeconfig(kcp.Provider, kubeconfig); err != nil {
		t.Fatal(err)
	}
	client, err := clientset.NewForConfig(server.Config(kcp.Provider))
	if err != nil {
		t.Fatal(err)
	}
	start := func(name string) *process.Process {
		p, err := process.Start(name, dir, binary, "--kubeconfig", kubeconfig, "--metrics-bind-address", "", "--leader-elect", "--leader-elect-name", "paused")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			p.Kill()
			if t.Failed() {
				t.Logf("%s:\n%s", name, p.Tail(30))
			}
		})
		return p
	}
	holder := func() string {
		lease, err := client.CoordinationV1().Leases("default").Get(t.Context(), "paused", metav1.GetOptions{})
		if err != nil {
			return ""
		}
		return ptr.Deref(lease.Spec.HolderIdentity, "")
	}

	team.apply(cluster("a", "4"), placement("app", "numberOfClusters: 1"), placement("other", "numberOfClusters: 1"))
	first := start("first")
	team.apply(deployment("before", "app", "1"))
	team.expect("Deployment before", "a")
	was := holder()
	first.Pause()
	start("second")
	for deadline := time.Now().Add(2 * time.Minute); holder() == was; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody else leads") // a lease lasts 25 s
		}
	}
	team.apply(deployment("meanwhile", "other", "3"))
	team.expect("Deployment meanwhile", "a")
	// For what comes now there is no room. The first, which does not know of what has happened, would find some.
	team.apply(deployment("late", "app", "2"))
	first.Resume()
	select {
	case <-first.Exited():
	case <-time.After(within):
		t.Error("it goes on without its lease")
	}
	if log := first.Tail(10); !strings.Contains(log, "the lease was lost") {
		t.Errorf("it does not say why it has ended:\n%s", log)
	}
	team.waits("late", "1 rejected by Capacity")
	if placed := team.promised(4000); placed != 2 {
		t.Errorf("%d are placed", placed)
	}
}

// promised counts the workloads that have a decision, and insists that each has one and that no cluster is promised more
// millicores than that.
func (t *team) promised(most int64) int {
	t.Helper()
	list, err := t.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A decision that moves between slices is in both for a moment: it is one promise, not two.
	placed, promised := map[string]v1alpha1.ClusterDecision{}, map[string]resource.Quantity{}
	for i := range list.Items {
		for _, d := range as[v1alpha1.PlacementDecision](t, &list.Items[i]).Decisions {
			if len(d.Clusters) != 1 {
				t.Fatalf("%s has more than one cluster: %v", d.Workload.Name, d.Clusters)
			}
			if other, found := placed[d.Workload.Name]; found {
				if other.Name != d.Clusters[0].Name {
					t.Fatalf("%s has two decisions: %v and %v", d.Workload.Name, other, d.Clusters[0])
				}
				continue
			}
			placed[d.Workload.Name] = d.Clusters[0]
			sum := promised[d.Clusters[0].Name]
			sum.Add(d.Reserved["cpu"])
			promised[d.Clusters[0].Name] = sum
		}
	}
	for name, sum := range promised {
		if sum.MilliValue() > most {
			t.Fatalf("%s is promised %s", name, sum.String())
		}
	}
	return len(placed)
}

// decisions counts the decisions in all slices.
func (t *team) decisions() (n int) {
	t.Helper()
	list, err := t.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		n += len(as[v1alpha1.PlacementDecision](t, &list.Items[i]).Decisions)
	}
	return n
}

// create is for what is not there yet, and many of it.
func (t *team) create(document string) error {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), object); err != nil {
		return err
	}
	_, err := t.client.Resource(deployments).Namespace("default").Create(t.Context(), object, metav1.CreateOptions{})
	return err
}
