package engine_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// platform is the workspace whose clusters teams share.
const platform logicalcluster.Name = "platform"

// shared is an engine in which teams use the fleet of platform.
type shared struct {
	*testing.T
	*engine.Engine
	spec v1alpha1.WorkloadPlacementSpec
}

func newShared(t *testing.T, clusters ...*snapshot.Cluster) *shared {
	s := &shared{T: t, Engine: newEngine(t, engine.Options{}), spec: v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))}}
	for _, c := range clusters {
		s.set(c)
	}
	return s
}

func (s *shared) set(c *snapshot.Cluster) {
	s.Helper()
	if _, err := s.SetCluster(platform, c); err != nil {
		s.Fatal(err)
	}
}

func (s *shared) grant(team logicalcluster.Name, grants ...engine.Grant) {
	s.Helper()
	for i := range grants {
		grants[i].Weight = max(1, grants[i].Weight)
	}
	if err := s.Share(team, platform, grants); err != nil {
		s.Fatal(err)
	}
}

func (s *shared) request(team logicalcluster.Name, name string, cpu int64, current ...string) engine.Request {
	s.Helper()
	r := engine.Request{Workspace: team, Placement: compile(s, s.Engine, s.spec), Workload: workloadOf(name, cpu)}
	for _, on := range current {
		r.Current = append(r.Current, engine.Choice{Name: on, Replicas: 1})
	}
	return r
}

func (s *shared) decide(team logicalcluster.Name, name string, cpu int64, current ...string) *engine.Decision {
	s.Helper()
	d, err := s.Decide(s.Context(), s.request(team, name, cpu, current...))
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// sees returns what a workspace sees: each cluster with the cpu that is free there, and in brackets what is in use and what is reserved.
func (s *shared) sees(team logicalcluster.Name) string {
	var all []string
	for _, row := range s.Snapshot(team).Rows() {
		all = append(all, fmt.Sprintf("%s %d [%d+%d]", row.Name, row.Free.CPU, row.Allocated.CPU, row.Reserved.CPU))
	}
	return strings.Join(all, ", ")
}

func (s *shared) wantSees(team logicalcluster.Name, want string) {
	s.Helper()
	if got := s.sees(team); got != want {
		s.Errorf("%s sees %s, want %s", team, got, want)
	}
}

// TestShare: what one workspace is promised on a shared fleet is gone for all. A team sees the clusters that are granted to it, and of
// what others have there only that it is in use; the platform team sees everything as it is.
func TestShare(t *testing.T) {
	s := newShared(t, cluster("a", 10), cluster("b", 4), cluster("c", 100))
	s.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a", "b"}})
	s.grant("blue", engine.Grant{Set: "gold", Clusters: []string{"a", "b"}})
	if got := names(s.decide("red", "web", 7)); got != "a" {
		t.Errorf("red is on %s", got)
	}
	s.wantSees("blue", "a 3 [7+0], b 4 [0+0]")
	s.wantSees("red", "a 3 [7+0], b 4 [0+0]")
	s.wantSees(platform, "a 3 [0+7], b 4 [0+0], c 100 [0+0]")
	if got := names(s.decide("blue", "web", 4)); got != "b" {
		t.Errorf("blue is on %s", got)
	}
	if d := s.decide("blue", "more", 4); len(d.Clusters) > 0 || d.Summary() != "0 of 2 clusters are feasible: 2 rejected by Capacity" {
		t.Errorf("blue is on %s: %s", names(d), d.Summary())
	}
	if got := names(s.decide("red", "web", 8, "a")); got != "a" {
		t.Errorf("what red has on a is not free for itself: on %q", got)
	}
	if got := names(s.decide(platform, "own", 100)); got != "c" {
		t.Errorf("platform is on %s", got)
	}
	s.ReleaseAll("red", platform)
	s.wantSees("blue", "a 10 [0+0], b 0 [4+0]")
}

// TestReportOfASharedCluster: what a cluster reports of what a team is promised is in use, and not promised a second time.
func TestReportOfASharedCluster(t *testing.T) {
	s := newShared(t, cluster("a", 10))
	s.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a"}})
	w := workloadOf("web", 6)
	w.UID = "u1"
	r := s.request("red", "web", 6)
	r.Workload = w
	if _, err := s.Decide(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	s.set(cluster("a", 10, func(c *snapshot.Cluster) {
		c.Allocated.CPU, c.Counted = 5, map[string]capacity.Resources{"u1": {CPU: 5}}
	}))
	s.wantSees("red", "a 4 [6+0]")
	s.wantSees(platform, "a 4 [5+1]")
	more := *w
	more.Requests.CPU = 10
	r.Workload, r.Current = &more, []engine.Choice{{Name: "a", Replicas: 1}}
	if d, err := s.Decide(t.Context(), r); err != nil || d.Clusters[0].Reserved.CPU != 10 {
		t.Errorf("it cannot grow into all that is free beside it: %+v, %v", d.Clusters, err)
	}
}

// TestWithdrawal: what a team has on a cluster that is no longer granted stays until there is another place, and nothing new is placed
// there.
func TestWithdrawal(t *testing.T) {
	s := newShared(t, cluster("a", 10), cluster("b", 5))
	gold := engine.Grant{Set: "gold", Clusters: []string{"a", "b"}}
	s.grant("red", gold)
	s.decide("red", "small", 2)
	s.decide("red", "web", 7)
	gold.Clusters = []string{"b"}
	s.grant("red", gold)
	s.wantSees("red", "a 1 [9+0], b 5 [0+0]")
	if d := s.decide("red", "web", 7, "a"); names(d) != "a" || len(d.Retained) != 1 ||
		d.Retained[0].Rejection.String() != "Unschedulable: the cluster is not granted to this workspace any more (ClusterSet)" {
		t.Errorf("web is on %s, and stands on %+v", names(d), d.Retained)
	}
	if got := names(s.decide("red", "small", 2, "a")); got != "b" {
		t.Errorf("small is on %s, and could have left", got)
	}
	if got := names(s.decide("red", "new", 1)); got != "b" {
		t.Errorf("new is on %s", got)
	}
	s.grant("red")
	s.wantSees("red", "a 3 [7+0], b 2 [3+0]")
	if d := s.decide("red", "none", 0); len(d.Clusters) > 0 {
		t.Errorf("without a grant, something new is on %s", names(d))
	}
	if d := s.decide("red", "new", 1, "b"); names(d) != "b" {
		t.Errorf("new has been given up for want of a grant: on %q", names(d))
	}
	s.Release("red", workloadOf("web", 0).Reference)
	s.wantSees("red", "b 2 [3+0]")
	s.Unshare("red")
	s.wantSees("red", "")
	s.wantSees(platform, "a 10 [0+0], b 2 [0+3]")
}

// TestLeavingAndReturning: a workspace that uses another fleet and returns finds its own again, and nothing kept for one fleet is
// mistaken for the other's.
func TestLeavingAndReturning(t *testing.T) {
	s := newShared(t, cluster("a", 10))
	for range 3 {
		if _, err := s.SetCluster("red", cluster("own", 6)); err != nil {
			t.Fatal(err)
		}
		if got := names(s.decide("red", "web", 5)); got != "own" {
			t.Errorf("on its own fleet, web is on %q", got)
		}
		s.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a"}})
		if got := names(s.decide("red", "web", 5)); got != "a" {
			t.Errorf("on the shared one, web is on %q", got)
		}
		s.Unshare("red")
		s.wantSees("red", "own 1 [0+5]")
		s.Forget("red")
		s.wantSees(platform, "a 5 [0+5]")
	}
}

// TestTeamsAtOnce: teams that decide concurrently fill a fleet completely, and not beyond.
func TestTeamsAtOnce(t *testing.T) {
	const teams, each = 8, 60
	s := newShared(t, cluster("a", 100), cluster("b", 100), cluster("c", 40))
	s.spec.Constraints = []v1alpha1.Constraint{{Name: "c", Expression: `cluster.location == "eu" && capacity.free.cpu > 0`}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	placed := 0
	for i := range teams {
		team := logicalcluster.Name(fmt.Sprintf("team-%d", i))
		s.grant(team, engine.Grant{Set: "gold", Clusters: []string{"a", "b", "c"}})
		wg.Go(func() {
			requests := make([]engine.Request, each)
			for k := range requests {
				requests[k] = s.request(team, fmt.Sprint(k), 1)
			}
			for _, r := range append(s.DecideBatch(t.Context(), requests[:each/2]), s.DecideBatch(t.Context(), requests[each/2:])...) {
				if r.Err != nil {
					t.Error(r.Err)
				} else {
					mu.Lock()
					placed += len(r.Decision.Clusters)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if placed != 240 {
		t.Errorf("%d of 240 are placed", placed)
	}
	for _, row := range s.Snapshot(platform).Rows() {
		if row.Free.CPU != 0 {
			t.Errorf("%s has %d free", row.Name, row.Free.CPU)
		}
	}
	for i := range teams {
		for k := range each {
			s.Release(logicalcluster.Name(fmt.Sprintf("team-%d", i)), workloadOf(fmt.Sprint(k), 0).Reference)
		}
	}
	s.wantSees(platform, "a 100 [0+0], b 100 [0+0], c 40 [0+0]")
}

// TestReplaceOfOne: reading the decisions of one workspace again does not affect any other.
func TestReplaceOfOne(t *testing.T) {
	s := newShared(t, cluster("a", 10))
	s.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a"}})
	s.grant("blue", engine.Grant{Set: "gold", Clusters: []string{"a"}})
	s.decide("red", "web", 4)
	s.decide("blue", "web", 3)
	web := engine.Reservation{Workload: workload.Reference{Kind: "Deployment", Namespace: "default", Name: "web"}, Shares: []capacity.Share{{Cluster: "a", Amount: capacity.Resources{CPU: 8}}}}
	if _, refused, err := s.Replace("red", nil, nil, []engine.Reservation{web}); err != nil || refused[0] == nil {
		t.Errorf("8 beside 3 of 10 are not refused: %v, %v", refused, err)
	}
	s.wantSees(platform, "a 7 [0+3]")
	web.Shares[0].Amount.CPU = 7
	if _, refused, err := s.Replace("red", nil, nil, []engine.Reservation{web}); err != nil || refused[0] != nil {
		t.Errorf("7 beside 3 of 10 are refused: %v, %v", refused, err)
	}
	s.wantSees("blue", "a 0 [10+0]")
}
