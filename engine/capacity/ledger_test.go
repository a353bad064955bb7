package capacity_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
)

// shares returns shares of the same amount on each of some clusters.
func shares(amount capacity.Resources, clusters ...string) (all []capacity.Share) {
	for _, cluster := range clusters {
		all = append(all, capacity.Share{Cluster: cluster, Amount: amount})
	}
	return all
}

func TestFromResourceList(t *testing.T) {
	for _, test := range []struct {
		name string
		list corev1.ResourceList
		want capacity.Resources
		err  string
	}{
		{name: "nothing"},
		{
			name: "cpu in millicores, memory and storage in bytes, the rest in whole units",
			list: corev1.ResourceList{
				"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("4Gi"),
				"storage": resource.MustParse("1k"), "nvidia.com/gpu": resource.MustParse("2"),
			},
			want: capacity.Resources{CPU: 1500, Memory: 4 << 30, Storage: 1000, Extended: map[string]int64{"nvidia.com/gpu": 2}},
		},
		{
			name: "fractions of the smallest unit are rounded up",
			list: corev1.ResourceList{"cpu": resource.MustParse("100u"), "memory": resource.MustParse("1500m")},
			want: capacity.Resources{CPU: 1, Memory: 2},
		},
		{name: "negative", list: corev1.ResourceList{"memory": resource.MustParse("-1Gi")}, err: "memory: -1Gi is negative"},
		{name: "too large in millicores", list: corev1.ResourceList{"cpu": resource.MustParse("9E")}, err: "cpu: 9E is too large"},
		{name: "too large", list: corev1.ResourceList{"x/y": resource.MustParse("1e30")}, err: "x/y: 1e30 is too large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := capacity.FromResourceList(test.list)
			if fmt.Sprint(err) != orNil(test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if err == nil {
				again, err := capacity.FromResourceList(got.ResourceList())
				if err != nil || !again.Equal(got) {
					t.Errorf("through ResourceList: %v, %v", again, err)
				}
			}
		})
	}
}

func TestFormat(t *testing.T) {
	for _, test := range []struct {
		name     string
		amount   int64
		down, up string
	}{
		{"cpu", 123_456_789, "123456789m", "123456789m"},
		{"cpu", 2_000, "2", "2"},
		{"cpu", 2_000_000, "2000", "2000"},
		{"cpu", 500, "500m", "500m"},
		{"cpu", -1_500, "-1500m", "-1500m"},
		{"cpu", math.MinInt64, "-9223372036854775808m", "-9223372036854775808m"},
		{"x/y", 123_456_789, "123456789", "123456789"},
		{"nvidia.com/gpu", 2_000, "2000", "2000"},
		{"memory", 0, "0", "0"},
		{"memory", 64 << 30, "64Gi", "64Gi"},
		{"memory", 1023 << 30, "1023Gi", "1023Gi"},
		{"memory", 16_502_524 << 10, "15.7Gi", "15.8Gi"},
		{"memory", 16<<30 - 1, "15.9Gi", "16.0Gi"},
		{"memory", -(16<<30 - 1), "-16.0Gi", "-15.9Gi"},
		{"memory", -(512<<20 + 1), "-512.1Mi", "-512.0Mi"},
		{"ephemeral-storage", 1_000_001, "976.5Ki", "976.6Ki"},
		{"storage", math.MaxInt64, "7.9Ei", "8.0Ei"},
		{"storage", math.MinInt64 + 1, "-8.0Ei", "-7.9Ei"},
		{"storage", math.MinInt64, "-8.0Ei", "-8.0Ei"},
		{"memory", 999_999, "999999", "999999"},
		{"hugepages-2Mi", 2 << 30, "2Gi", "2Gi"},
	} {
		if down, up := capacity.Format(test.name, test.amount, false), capacity.Format(test.name, test.amount, true); down != test.down || up != test.up {
			t.Errorf("%d %s: %s and %s, want %s and %s", test.amount, test.name, down, up, test.down, test.up)
		}
	}
}

func orNil(message string) string {
	if message == "" {
		return "<nil>"
	}
	return message
}

// TestLedgerNeverOversubscribes drives random histories against a plain model: what is reserved on a cluster is what is
// promised there and not counted in its report, whatever comes first, and reserving never exceeds what there is.
func TestLedgerNeverOversubscribes(t *testing.T) {
	names := []string{"a", "b", "c"}
	owners := []string{"u", "v", "w", "x", "y", "z"}
	amounts := func(most int64) *rapid.Generator[capacity.Resources] {
		return rapid.Custom(func(t *rapid.T) capacity.Resources {
			r := capacity.Resources{CPU: rapid.Int64Range(0, most).Draw(t, "cpu"), Memory: rapid.Int64Range(0, most).Draw(t, "memory")}
			if rapid.Bool().Draw(t, "has gpu") {
				r.Extended = map[string]int64{"gpu": rapid.Int64Range(0, most).Draw(t, "gpu")}
			}
			return r
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		ledger := capacity.NewLedger()
		available := map[string]capacity.Resources{}
		counted := map[string]map[string]capacity.Resources{}
		held := map[capacity.Owner]*capacity.Claim{}
		for _, name := range names {
			available[name] = amounts(20).Draw(t, name)
			ledger.SetCluster(name, available[name], nil)
		}
		owner := rapid.Map(rapid.SampledFrom(owners), func(name string) capacity.Owner { return capacity.Owner{Name: name} })
		cluster := rapid.SampledFrom(names)
		// reserved returns what the claims promise on a cluster beyond what is counted there, without one of them.
		reserved := func(name string, without capacity.Owner) (sum capacity.Resources) {
			for who, claim := range held {
				if s := claim.ShareOn(name); who != without && s != nil && !s.Expired {
					var mine capacity.Resources
					if claim.UID != "" {
						mine = counted[name][claim.UID]
					}
					sum = sum.Add(s.Amount.Combine(mine, func(a, b int64) int64 { return max(0, a-b) }))
				}
			}
			return sum
		}
		share := rapid.Custom(func(t *rapid.T) capacity.Share {
			return capacity.Share{Cluster: rapid.SampledFrom(names).Draw(t, "cluster"), Amount: amounts(8).Draw(t, "amount")}
		})
		claim := func(t *rapid.T, who capacity.Owner) *capacity.Claim {
			return &capacity.Claim{
				UID:    rapid.SampledFrom([]string{who.Name, who.Name, "", who.Name + "2"}).Draw(t, "uid"),
				Group:  types.NamespacedName{Name: rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")},
				Shares: rapid.SliceOfNDistinct(share, 1, 3, func(s capacity.Share) string { return s.Cluster }).Draw(t, "shares"),
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				who := owner.Draw(t, "owner")
				c, keeps := claim(t, who), rapid.Bool().Draw(t, "keeps what it has")
				var promised []*capacity.Claim
				switch before := held[who]; {
				case !keeps:
					promised = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *capacity.Claim { return claim(t, who) }), 0, 2).Draw(t, "promised")
				case before != nil:
					promised = []*capacity.Claim{before}
				}
				fits := true
				for _, s := range c.Shares {
					free := available[s.Cluster].Sub(reserved(s.Cluster, who))
					if c.UID != "" {
						free = free.Add(counted[s.Cluster][c.UID])
					}
					asked := s.Amount
					for _, p := range promised {
						if had := p.ShareOn(s.Cluster); had != nil && !had.Expired && p.UID == c.UID {
							asked = asked.Combine(had.Amount, func(a, b int64) int64 { return a * min(1, max(0, a-b)) })
						}
					}
					_, short := free.Lacking(asked)
					fits = fits && !short
				}
				reserve := func() error { return ledger.Reserve(who, c, promised...) }
				if keeps {
					reserve = func() error { return ledger.Update(who, c) }
				}
				if err := reserve(); (err == nil) != fits {
					t.Fatalf("reserve %v: %v, want it to fit: %v", c, err, fits)
				}
				if fits {
					held[who] = c
				}
			},
			"restore": func(t *rapid.T) {
				who := owner.Draw(t, "owner")
				c := claim(t, who)
				for i := range c.Shares {
					c.Shares[i].Expired = rapid.Bool().Draw(t, "expired")
				}
				ledger.Restore(who, c)
				held[who] = c
			},
			"release": func(t *rapid.T) {
				who := owner.Draw(t, "owner")
				if claim := ledger.Release(who); claim != held[who] {
					t.Fatalf("release of %v: %v", who, claim)
				}
				delete(held, who)
			},
			"report": func(t *rapid.T) {
				name := cluster.Draw(t, "cluster")
				available[name], counted[name] = amounts(20).Draw(t, "available"), map[string]capacity.Resources{}
				for _, uid := range rapid.SliceOfDistinct(rapid.SampledFrom(append([]string{""}, owners...)), rapid.ID).Draw(t, "counts") {
					counted[name][uid] = amounts(10).Draw(t, "counted")
				}
				if got, want := ledger.SetCluster(name, available[name], counted[name]), reserved(name, capacity.Owner{}); !got.Equal(want) {
					t.Fatalf("%s: reserved %v, want %v", name, got, want)
				}
			},
			"vanish": func(t *rapid.T) {
				name := cluster.Draw(t, "cluster")
				ledger.RemoveCluster(name)
				available[name], counted[name] = capacity.Resources{}, nil
			},
			"": func(t *rapid.T) {
				for _, name := range names {
					if got, want := ledger.Reserved(name), reserved(name, capacity.Owner{}); !got.Equal(want) {
						t.Fatalf("%s: reserved %v, promised %v", name, got, want)
					}
					count := 0
					for _, claim := range held {
						if claim.Group.Name == "g" && claim.ShareOn(name) != nil {
							count++
						}
					}
					if got := ledger.InGroup(types.NamespacedName{Name: "g"}, name); got != count {
						t.Fatalf("%s: count %d, want %d", name, got, count)
					}
				}
				for who, claim := range held {
					var want []string
					for _, s := range claim.Shares {
						var mine capacity.Resources
						if claim.UID != "" {
							mine = counted[s.Cluster][claim.UID]
						}
						if _, short := mine.Lacking(s.Amount); short {
							want = append(want, s.Cluster)
						}
					}
					if got := ledger.Uncounted(who); !slices.Equal(got, want) {
						t.Fatalf("%s: uncounted on %v, want %v", who.Name, got, want)
					}
				}
			},
		})
	})
}

// TestLedgerConcurrently: under concurrent use no cluster is promised more than it has, and in the end nothing is reserved.
func TestLedgerConcurrently(t *testing.T) {
	ledger := capacity.NewLedger()
	names, available := []string{"a", "b", "c"}, capacity.Resources{CPU: 10, Memory: 10}
	for _, name := range names {
		ledger.SetCluster(name, available, nil)
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for range 2000 {
				owner := capacity.Owner{Name: fmt.Sprint(g, " ", random.IntN(3))}
				switch random.IntN(4) {
				case 0:
					ledger.Release(owner)
				case 1:
					ledger.SetCluster(names[random.IntN(len(names))], available, nil)
				default:
					_ = ledger.Reserve(owner, &capacity.Claim{
						UID:    owner.Name,
						Shares: shares(capacity.Resources{CPU: random.Int64N(5), Memory: random.Int64N(5)}, names[:1+random.IntN(len(names))]...),
					})
				}
				for _, name := range names {
					if short, ok := available.Lacking(ledger.Reserved(name)); ok {
						t.Errorf("%s is oversubscribed in %s", name, short)
						return
					}
				}
			}
			for i := range 3 {
				ledger.Release(capacity.Owner{Name: fmt.Sprint(g, " ", i)})
			}
		})
	}
	all.Wait()
	for _, name := range names {
		if reserved := ledger.Reserved(name); !reserved.IsZero() {
			t.Errorf("%s: %v reserved at the end", name, reserved)
		}
	}
}

// BenchmarkLedger reserves and releases over 10,000 clusters, each goroutine for workloads of its own.
func BenchmarkLedger(b *testing.B) {
	const clusters = 10_000
	for _, goroutines := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("goroutines=%d/clusters=%d", goroutines, clusters), func(b *testing.B) {
			ledger := capacity.NewLedger()
			names := make([]string, clusters)
			for i := range names {
				names[i] = fmt.Sprintf("cluster-%05d", i)
				ledger.SetCluster(names[i], capacity.Resources{CPU: 1 << 40, Memory: 1 << 50}, map[string]capacity.Resources{"other": {CPU: 1}})
			}
			claims := make([][]*capacity.Claim, goroutines)
			for g := range claims {
				for i := range 1024 {
					claims[g] = append(claims[g], &capacity.Claim{
						UID: fmt.Sprint(g, "-", i), Shares: shares(capacity.Resources{CPU: 100, Memory: 1 << 20}, names[(g*7919+i*31)%clusters]),
					})
				}
			}
			run := func(g, n int) {
				for i := range n {
					claim := claims[g][i%1024]
					owner := capacity.Owner{Kind: "Deployment", Namespace: "default", Name: claim.UID}
					if err := ledger.Reserve(owner, claim); err != nil {
						b.Error(err)
						return
					}
					ledger.Release(owner)
				}
			}
			for g := range claims {
				run(g, 1024) // what is made once is made
			}
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for g := range goroutines {
				all.Go(func() { run(g, b.N/goroutines+1) })
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}

func TestReserveRefused(t *testing.T) {
	ledger := capacity.NewLedger()
	ledger.SetCluster("a", capacity.Resources{CPU: 1000, Memory: 100}, nil)
	ledger.SetCluster("b", capacity.Resources{CPU: 500, Memory: 100}, nil)
	w := capacity.Owner{Name: "w"}
	first := &capacity.Claim{Shares: shares(capacity.Resources{CPU: 600}, "a")}
	if err := ledger.Reserve(w, first); err != nil {
		t.Fatal(err)
	}
	err := ledger.Reserve(w, &capacity.Claim{Shares: shares(capacity.Resources{CPU: 700}, "a", "b")})
	if got, want := fmt.Sprint(err), "cluster b: asks for 700m cpu, 500m free"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if claim := ledger.Claim(w); claim != first {
		t.Errorf("a refused claim must leave the one before it: %v", claim)
	}
	if err := ledger.Reserve(w, &capacity.Claim{Shares: shares(capacity.Resources{CPU: 1}, "gone")}); err == nil {
		t.Error("a cluster that is not there must have nothing to give")
	}
}

// TestUpdate: an owner keeps what it has if a cluster has shrunk, and is checked only for what it asks in addition. A claim
// may have a different amount on each cluster.
func TestUpdate(t *testing.T) {
	ledger := capacity.NewLedger()
	ledger.SetCluster("a", capacity.Resources{CPU: 4, Memory: 10}, nil)
	ledger.SetCluster("b", capacity.Resources{CPU: 10, Memory: 10}, nil)
	owner := capacity.Owner{Name: "w"}
	on := func(a, b capacity.Resources) *capacity.Claim {
		return &capacity.Claim{UID: "w", Shares: []capacity.Share{{Cluster: "a", Amount: a}, {Cluster: "b", Amount: b}}}
	}
	update := func(claim *capacity.Claim, want string) {
		t.Helper()
		if err := ledger.Update(owner, claim); fmt.Sprint(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	update(on(capacity.Resources{CPU: 4, Memory: 1}, capacity.Resources{CPU: 6}), "<nil>")
	if a, b := ledger.Reserved("a"), ledger.Reserved("b"); a.CPU != 4 || b.CPU != 6 {
		t.Errorf("reserved: a %d, b %d", a.CPU, b.CPU)
	}
	ledger.SetCluster("a", capacity.Resources{CPU: 2, Memory: 10}, nil)
	update(on(capacity.Resources{CPU: 4, Memory: 2}, capacity.Resources{CPU: 7}), "<nil>")
	update(on(capacity.Resources{CPU: 5}, capacity.Resources{CPU: 7}), "cluster a: asks for 5m cpu, 2m free")
	update(on(capacity.Resources{CPU: 3, Memory: 11}, capacity.Resources{CPU: 7}), "cluster a: asks for 11 memory, 10 free")
	if err := ledger.Reserve(owner, on(capacity.Resources{CPU: 4}, capacity.Resources{})); err == nil {
		t.Error("what is reserved anew has to fit")
	}
}

// TestVolumesStayReserved: a report counts pods, and the volumes that a workload claims do not belong to a pod. They stay
// reserved, and the workload is not considered missing.
func TestVolumesStayReserved(t *testing.T) {
	ledger := capacity.NewLedger()
	owner := capacity.Owner{Name: "db"}
	amount := capacity.Resources{CPU: 1000, Storage: 3 << 40}
	ledger.Restore(owner, &capacity.Claim{UID: "u", Shares: shares(amount, "a")})
	ledger.SetCluster("a", capacity.Resources{CPU: 3000, Storage: 10 << 40}, map[string]capacity.Resources{"u": {CPU: 1000}})
	if got := ledger.Reserved("a"); got.CPU != 0 || got.Storage != 3<<40 {
		t.Errorf("reserved %+v", got)
	}
	if got := ledger.Uncounted(owner); len(got) > 0 {
		t.Errorf("uncounted on %v", got)
	}
}
