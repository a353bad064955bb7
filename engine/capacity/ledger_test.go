package capacity_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
)

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

func orNil(message string) string {
	if message == "" {
		return "<nil>"
	}
	return message
}

// TestLedgerNeverOversubscribes drives random histories against a plain model of them.
func TestLedgerNeverOversubscribes(t *testing.T) {
	names := []string{"a", "b", "c"}
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
		held := map[capacity.Owner]*capacity.Claim{}
		for _, name := range names {
			available[name] = amounts(20).Draw(t, name)
			ledger.SetCluster(name, available[name], nil)
		}
		owner := rapid.Map(rapid.SampledFrom([]string{"u", "v", "w", "x", "y", "z"}), func(name string) capacity.Owner { return capacity.Owner{Name: name} })
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				who := owner.Draw(t, "owner")
				claim := &capacity.Claim{
					Group:    types.NamespacedName{Name: rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")},
					Clusters: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID).Draw(t, "clusters"),
					Amount:   amounts(8).Draw(t, "amount"),
				}
				if err := ledger.Reserve(who, claim); err == nil {
					held[who] = claim
				}
			},
			"release": func(t *rapid.T) {
				who := owner.Draw(t, "owner")
				if claim := ledger.Release(who); claim != held[who] {
					t.Fatalf("release of %s: %v", who, claim)
				}
				delete(held, who)
			},
			"": func(t *rapid.T) {
				counts := map[string]int{}
				for _, name := range names {
					var sum capacity.Resources
					for _, claim := range held {
						for _, cluster := range claim.Clusters {
							if cluster == name {
								sum = sum.Add(claim.Amount)
								if claim.Group.Name == "g" {
									counts[name]++
								}
							}
						}
					}
					if got := ledger.Reserved(name); !got.Equal(sum) {
						t.Fatalf("%s: reserved %v, promised %v", name, got, sum)
					}
					if short, ok := available[name].Lacking(sum); ok {
						t.Fatalf("%s is oversubscribed in %s: %v of %v", name, short, sum, available[name])
					}
					if got := ledger.Group(types.NamespacedName{Name: "g"})[name]; got != counts[name] {
						t.Fatalf("%s: count %d, want %d", name, got, counts[name])
					}
				}
			},
		})
	})
}

func TestReserveRefused(t *testing.T) {
	ledger := capacity.NewLedger()
	ledger.SetCluster("a", capacity.Resources{CPU: 1000, Memory: 100}, nil)
	ledger.SetCluster("b", capacity.Resources{CPU: 500, Memory: 100}, nil)
	w := capacity.Owner{Name: "w"}
	first := &capacity.Claim{Clusters: []string{"a"}, Amount: capacity.Resources{CPU: 600}}
	if err := ledger.Reserve(w, first); err != nil {
		t.Fatal(err)
	}
	err := ledger.Reserve(w, &capacity.Claim{Clusters: []string{"a", "b"}, Amount: capacity.Resources{CPU: 700}})
	if got, want := fmt.Sprint(err), "cluster b: cpu asked 700, free 500"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if claim := ledger.Claim(w); claim != first {
		t.Errorf("a refused claim must leave the one before it: %v", claim)
	}
	if err := ledger.Reserve(w, &capacity.Claim{Clusters: []string{"gone"}, Amount: capacity.Resources{CPU: 1}}); err == nil {
		t.Error("a cluster that is not there must have nothing to give")
	}
}
