package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
)

func gold(clusters string, quota, clusterQuota int64) engine.Grant {
	g := engine.Grant{Set: "gold", Clusters: strings.Split(clusters, ",")}
	if quota > 0 {
		g.Quota = map[string]int64{capacity.CPU: quota}
	}
	if clusterQuota > 0 {
		g.ClusterQuota = map[string]int64{capacity.CPU: clusterQuota}
	}
	return g
}

// borrowing returns a grant that guarantees 4000 millicores of CPU, and allows that much more to be borrowed.
func borrowing(g engine.Grant, limit int64) engine.Grant {
	g.Guaranteed, g.BorrowingLimit = map[string]int64{capacity.CPU: 4000}, map[string]int64{capacity.CPU: limit}
	return g
}

// TestQuota: a workspace is promised no more than its quota, over the whole set and on each cluster. An exhausted quota is the reason
// why a cluster is rejected, with what would help.
func TestQuota(t *testing.T) {
	for name, c := range map[string]struct {
		grant                      engine.Grant
		has                        map[string]int64
		asks                       int64
		on, summary, why, remedies string
	}{
		"enough": {grant: gold("a,b", 8, 0), has: map[string]int64{"x": 4}, asks: 4, on: "b", summary: "2 of 2 clusters are feasible"},
		"whole set": {
			grant: gold("a,b", 8000, 0), has: map[string]int64{"x": 6000}, asks: 4000,
			summary:  "0 of 2 clusters are feasible: 2 rejected by Quota",
			why:      "Quota: quota of ClusterSet gold: 2 cpu left, 4 asked for",
			remedies: "2 more cpu in the quota of ClusterSet gold",
		},
		"what may be borrowed": {
			grant: borrowing(gold("a,b", 0, 0), 4000), has: map[string]int64{"x": 6000}, asks: 4000,
			summary:  "0 of 2 clusters are feasible: 2 rejected by Quota",
			why:      "Quota: borrowingLimit of ClusterSet gold: 2 cpu left, 4 asked for",
			remedies: "2 more cpu in the borrowingLimit of ClusterSet gold",
		},
		"what may be borrowed, and a quota above it": {
			grant: borrowing(gold("a,b", 8500, 0), 3000), has: map[string]int64{"x": 6000}, asks: 3000,
			summary:  "0 of 2 clusters are feasible: 2 rejected by Quota",
			why:      "Quota: borrowingLimit of ClusterSet gold: 1 cpu left, 3 asked for",
			remedies: "2 more cpu in the borrowingLimit and 500m more cpu in the quota of ClusterSet gold",
		},
		"a quota below what may be borrowed": {
			grant: borrowing(gold("a,b", 8000, 0), 8000), has: map[string]int64{"x": 6000}, asks: 4000,
			summary:  "0 of 2 clusters are feasible: 2 rejected by Quota",
			why:      "Quota: quota of ClusterSet gold: 2 cpu left, 4 asked for",
			remedies: "2 more cpu in the quota of ClusterSet gold",
		},
		"one cluster": {
			grant: gold("a,b", 0, 5000), has: map[string]int64{"x": 4000, "y": 4000}, asks: 2000,
			summary:  "0 of 2 clusters are feasible: 2 rejected by Quota",
			why:      "Quota: clusterQuota: 1 cpu left on this cluster, 2 asked for",
			remedies: "1 more cpu of the clusterQuota",
		},
		"another cluster": {grant: gold("a,b", 0, 5000), has: map[string]int64{"x": 4000}, asks: 2000, on: "b", summary: "1 of 2 clusters are feasible: 1 rejected by Quota"},
		"neither room nor quota": {
			grant: gold("a,b", 8000, 5000), has: map[string]int64{"x": 5000}, asks: 20000,
			summary:  "0 of 2 clusters are feasible: 2 rejected by Capacity",
			why:      "Capacity: asks for 20 cpu, 10 free",
			remedies: "10 more cpu free and 15 more cpu of the clusterQuota and 17 more cpu in the quota of ClusterSet gold",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShared(t, cluster("a", 10000), cluster("b", 10000))
			s.grant("red", c.grant)
			for _, x := range []string{"x", "y"} {
				if cpu := c.has[x]; cpu > 0 {
					s.decide("red", x, cpu)
				}
			}
			d := s.decide("red", "new", c.asks)
			if got := names(d); got != c.on || d.Summary() != c.summary {
				t.Errorf("on %q, %s; want %q, %s", got, d.Summary(), c.on, c.summary)
			}
			feasible, err := s.Feasible(t.Context(), s.request("red", "other", c.asks))
			if c.on == "" && (err != nil || feasible) {
				t.Errorf("feasible: %t, %v", feasible, err)
			}
			if c.why == "" {
				return
			}
			nearest, obstacles := d.Nearest()
			if got := strings.Join(filter.Remedies(obstacles), " and "); got != c.remedies {
				t.Errorf("what would help on %s: %s; want %s", nearest, got, c.remedies)
			}
			for _, v := range d.Verdicts() {
				if v.Cluster == nearest && v.Rejection.String() != c.why {
					t.Errorf("%s is rejected: %s; want %s", v.Cluster, v.Rejection, c.why)
				}
			}
		})
	}
}

// TestQuotaThatShrinks: what runs is never given up because a quota has shrunk. It may move and shrink, but nothing grows.
func TestQuotaThatShrinks(t *testing.T) {
	s := newShared(t, cluster("a", 10), cluster("b", 20))
	s.grant("red", gold("a,b", 12, 0))
	s.decide("red", "web", 6)
	s.decide("red", "db", 6)
	s.grant("red", gold("a,b", 4, 3))
	on := func(name string, cpu int64, current string) (string, int64) {
		d := s.decide("red", name, cpu, current)
		if len(d.Clusters) == 0 {
			return "", 0
		}
		return names(d), d.Clusters[0].Reserved.CPU
	}
	for _, name := range []string{"web", "db"} {
		if got, cpu := on(name, 6, "b"); got != "b" || cpu != 6 {
			t.Errorf("%s is on %q with %d", name, got, cpu)
		}
		if got, cpu := on(name, 7, "b"); got != "b" || cpu != 6 {
			t.Errorf("%s, which asks for more, is on %q with %d", name, got, cpu)
		}
	}
	if d := s.decide("red", "new", 1); len(d.Clusters) > 0 {
		t.Errorf("something new is on %s", names(d))
	}
	s.grant("red", gold("a,b", 4, 0))
	s.grant("red", gold("a", 4, 0))
	if got, cpu := on("web", 6, "b"); got != "b" || cpu != 6 {
		t.Errorf("web, for which a set that b is not in has no room, is on %q with %d", got, cpu)
	}
	s.grant("red", gold("a,b", 4, 0))
	r := s.request("red", "web", 6, "b")
	r.Leave = []engine.Verdict{{Cluster: "b", Rejection: &filter.Rejection{Stage: "Test"}}}
	if d, err := s.Decide(t.Context(), r); err != nil || names(d) != "a" {
		t.Errorf("web does not move within what it is promised: %v, %v", d, err)
	}
	if got, cpu := on("db", 2, "b"); got != "b" || cpu != 2 {
		t.Errorf("db is on %q with %d", got, cpu)
	}
	if accounts := s.Accounts(platform); len(accounts) != 1 || accounts[0].Promised.CPU != 8 || accounts[0].Left[capacity.CPU] != -4 {
		t.Errorf("accounts %+v", accounts)
	}
}

// TestQuotaOfSeveralClusters: a workload for several clusters, or with divided replicas, is placed as far as the quota of each set
// leaves room.
func TestQuotaOfSeveralClusters(t *testing.T) {
	divided := func(by v1alpha1.ReplicaDivision, partial bool) v1alpha1.WorkloadPlacementSpec {
		return v1alpha1.WorkloadPlacementSpec{
			NumberOfClusters:  ptr.To(intstr.FromInt32(4)),
			ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: by, Partial: partial},
		}
	}
	spread := v1alpha1.WorkloadPlacementSpec{
		NumberOfClusters:  ptr.To(intstr.FromInt32(4)),
		SpreadConstraints: []v1alpha1.SpreadConstraint{{TopologyKey: v1alpha1.TopologyKeyCluster, MaxSkew: 1}},
	}
	plain := v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(4))}
	for name, c := range map[string]struct {
		spec           v1alpha1.WorkloadPlacementSpec
		gold, silver   int64
		replicas, cpu  int64
		want, wantGold int64
		summary        string
	}{
		"plain":                       {spec: plain, gold: 8, silver: 100, replicas: 1, cpu: 4, want: 16, wantGold: 8},
		"plain, and too little":       {spec: plain, gold: 8, silver: 4, replicas: 1, cpu: 4, want: 12, wantGold: 8, summary: "quota of ClusterSet gold: 0 cpu left, 4m asked for"},
		"together":                    {spec: spread, gold: 8, silver: 100, replicas: 1, cpu: 4, want: 16, wantGold: 8},
		"together, and too little":    {spec: spread, gold: 8, silver: 3, replicas: 1, cpu: 4, want: 8, wantGold: 8},
		"divided":                     {spec: divided(v1alpha1.DivideEven, false), gold: 3, silver: 100, replicas: 12, cpu: 12, want: 12, wantGold: 3},
		"divided, and too little":     {spec: divided(v1alpha1.DivideEven, false), gold: 3, silver: 5, replicas: 12, cpu: 12},
		"a part of them":              {spec: divided(v1alpha1.DivideEven, true), gold: 3, silver: 5, replicas: 12, cpu: 12, want: 8, wantGold: 3},
		"a part of them, on the best": {spec: divided(v1alpha1.DivideAggregated, true), gold: 3, silver: 5, replicas: 12, cpu: 12, want: 8, wantGold: 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShared(t, cluster("a", 50), cluster("b", 50), cluster("c", 50), cluster("d", 50), cluster("e", 40), cluster("f", 40))
			s.spec = c.spec
			silver := engine.Grant{Set: "silver", Clusters: []string{"d", "e", "f"}, Quota: map[string]int64{capacity.CPU: c.silver}}
			s.grant("red", gold("a,b,c", c.gold, 0), silver)
			r := s.request("red", "web", c.cpu)
			r.Workload.Replicas, r.Workload.Divisible = c.replicas, true
			d, err := s.Decide(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			var all, inGold int64
			for _, on := range d.Clusters {
				all += on.Reserved.CPU
				if on.Name < "d" {
					inGold += on.Reserved.CPU
				}
			}
			if all != c.want || inGold != c.wantGold || !strings.Contains(d.Summary(), c.summary) {
				t.Errorf("%d, and %d of gold, on %s, want %d and %d: %s", all, inGold, names(d), c.want, c.wantGold, d.Summary())
			}
			again := r
			again.Current = d.Clusters
			if d, err := s.Decide(t.Context(), again); err != nil || len(again.Current) > 0 && d.Changes() {
				t.Errorf("asked again: %+v, %v", d, err)
			}
		})
	}
}

// TestQuotasOfSetsThatShareClusters: what is promised on a cluster counts in each set that has it, so no quota is exceeded by binding another
// set that has some of the same clusters.
func TestQuotasOfSetsThatShareClusters(t *testing.T) {
	set := func(name, clusters string, quota, clusterQuota int64) engine.Grant {
		g := gold(clusters, quota, clusterQuota)
		g.Set = name
		return g
	}
	divided := v1alpha1.WorkloadPlacementSpec{
		NumberOfClusters:  ptr.To(intstr.FromInt32(4)),
		ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideEven},
	}
	for name, c := range map[string]struct {
		sets          []engine.Grant
		has, asks     int64
		replicas      int64
		want, summary string
	}{
		"a set without a quota": {
			sets: []engine.Grant{set("any", "a", 0, 0), set("gold", "a,b", 4, 0)}, has: 4, asks: 1,
			summary: "0 of 2 clusters are feasible: 2 rejected by Quota",
		},
		"a larger quota": {
			sets: []engine.Grant{set("any", "a,b,c", 9, 0), set("gold", "a,b", 4, 0)}, has: 4, asks: 1,
			want: "c:1", summary: "1 of 3 clusters are feasible: 2 rejected by Quota",
		},
		"the least on a cluster": {
			sets: []engine.Grant{set("any", "a,b", 0, 9), set("gold", "a", 0, 4)}, asks: 5,
			want: "b:5", summary: "1 of 2 clusters are feasible: 1 rejected by Quota",
		},
		"replicas, one set within the other": {
			sets: []engine.Grant{set("all", "a,b,c", 7, 0), set("gold", "a,b", 3, 0)}, asks: 7, replicas: 7,
			want: "a:2 b:1 c:4", summary: "3 of 3 clusters are feasible",
		},
		"replicas, and too little": {
			sets: []engine.Grant{set("all", "a,b,c", 6, 0), set("gold", "a,b", 3, 0)}, asks: 7, replicas: 7,
			summary: "there is room for 6 of 7 replicas; partial: true would place these",
		},
		"replicas on sets that share some": {
			sets: []engine.Grant{set("one", "a,b", 2, 0), set("two", "b,c", 2, 0)}, asks: 3, replicas: 3,
			want: "a:1 b:1 c:1", summary: "3 of 3 clusters are feasible",
		},
		"as many as there is room for in any way": {
			sets: []engine.Grant{set("one", "a,b", 2, 0), set("two", "b,c", 2, 0)}, asks: 4, replicas: 4,
			want: "a:2 c:2", summary: "3 of 3 clusters are feasible",
		},
		"never some of the replicas alone": {
			sets: []engine.Grant{set("one", "a,b", 2, 0), set("two", "b,c", 2, 0)}, asks: 5, replicas: 5,
			summary: "there is room for 4 of 5 replicas; partial: true would place these",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShared(t, cluster("a", 50), cluster("b", 50), cluster("c", 40))
			var all []engine.Choice
			if s.grant("red", c.sets[1]); c.has > 0 {
				all = s.decide("red", "had", c.has).Clusters
			}
			s.grant("red", c.sets...)
			r := s.request("red", "web", c.asks)
			if c.replicas > 0 {
				r.Placement, r.Workload.Replicas, r.Workload.Divisible = compile(t, s.Engine, divided), c.replicas, true
			}
			d, err := s.Decide(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			var on []string
			for _, c := range d.Clusters {
				on = append(on, fmt.Sprintf("%s:%d", c.Name, c.Reserved.CPU))
			}
			if slices.Sort(on); strings.Join(on, " ") != c.want || !strings.Contains(d.Summary(), c.summary) {
				t.Errorf("on %s, %s; want %s, %s", on, d.Summary(), c.want, c.summary)
			}
			promised := map[string]int64{}
			for _, a := range s.Accounts(platform) {
				promised[a.Set] = a.Promised.CPU
			}
			for _, set := range c.sets {
				want := int64(0)
				for _, on := range append(all, d.Clusters...) {
					if slices.Contains(set.Clusters, on.Name) {
						want += on.Reserved.CPU
					}
				}
				if promised[set.Set] != want {
					t.Errorf("%s accounts for %d, want %d", set.Set, promised[set.Set], want)
				}
			}
		})
	}
}

// TestQuotaPreempts: what workloads of lower priority use of a quota makes room just as what they use of a cluster does, anywhere in the
// set.
func TestQuotaPreempts(t *testing.T) {
	s := newShared(t, cluster("a", 10), cluster("b", 10))
	s.grant("red", gold("a,b", 9, 0))
	s.decide("red", "low", 4)
	s.decide("red", "lower", 4)
	p, err := s.Preempt(t.Context(), s.request("red", "high", 9), []engine.Candidate{
		{Workload: workloadOf("low", 0).Reference, Priority: 2}, {Workload: workloadOf("lower", 0).Reference, Priority: 1},
	}, 4)
	if err != nil || p == nil || len(p.Victims) != 2 {
		t.Errorf("victims %+v, %v", p, err)
	}
	p, err = s.Preempt(t.Context(), s.request("red", "high", 5), []engine.Candidate{
		{Workload: workloadOf("low", 0).Reference, Priority: 2}, {Workload: workloadOf("lower", 0).Reference, Priority: 1},
	}, 4)
	if err != nil || p == nil || len(p.Victims) != 1 || p.Victims[0].Workload.Name != "lower" {
		t.Errorf("victims %+v, %v", p, err)
	}
}

// TestFreeWithinQuota: what a workspace sees as free is what it can be promised: the lower of what is free and what its quotas leave.
func TestFreeWithinQuota(t *testing.T) {
	s := newShared(t, cluster("a", 10), cluster("b", 3), cluster("c", 20))
	s.grant("red", gold("a,b", 8, 6))
	s.wantSees("red", "a 6 [0+0], b 3 [0+0]")
	s.decide("red", "web", 4)
	s.wantSees("red", "a 2 [4+0], b 3 [0+0]")
	s.decide("red", "db", 2)
	s.wantSees("red", "a 2 [4+0], b 1 [2+0]")
	s.grant("red", gold("a,b", 3, 6))
	s.wantSees("red", "a -3 [4+0], b -3 [2+0]")
	s.wantSees(platform, "a 6 [0+4], b 1 [0+2], c 20 [0+0]")
}
