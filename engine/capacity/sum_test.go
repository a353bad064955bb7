package capacity_test

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
)

// TestSumsAreExact: nine claims of an exbibyte exceed int64. Once they are released nothing is reserved, not less than
// nothing, and an exbibyte is promised only once.
func TestSumsAreExact(t *testing.T) {
	ledger := capacity.NewLedger()
	all := capacity.Resources{Memory: capacity.MaxAmount, Extended: map[string]int64{"gpu": capacity.MaxAmount}}
	claim := func() *capacity.Claim { return &capacity.Claim{Shares: shares(all, "a")} }
	ledger.SetCluster("a", all, nil)
	for i := range 9 {
		ledger.Restore(capacity.Owner{Name: fmt.Sprint(i)}, claim())
	}
	if r := ledger.Reserved("a"); r.Memory != math.MaxInt64 || r.Extended["gpu"] != math.MaxInt64 {
		t.Errorf("%v reserved, want no more than an int64 holds", r)
	}
	for i := range 9 {
		ledger.Release(capacity.Owner{Name: fmt.Sprint(i)})
	}
	if r := ledger.Reserved("a"); !r.Same(capacity.Resources{}) {
		t.Errorf("nobody has a claim, and %v is reserved", r)
	}
	if err := ledger.Reserve(capacity.Owner{Name: "x"}, claim()); err != nil {
		t.Error(err)
	}
	if err := ledger.Reserve(capacity.Owner{Name: "y"}, claim()); err == nil {
		t.Error("an exbibyte is promised twice")
	}
}

// TestLedgerIsExact compares the ledger with sums in math/big, for histories in any order and amounts whose sums exceed
// int64: what is reserved is the sum of the claims, and a claim is granted if and only if it fits.
func TestLedgerIsExact(t *testing.T) {
	clusters := []string{"a", "b"}
	amount := rapid.OneOf(rapid.Int64Range(0, capacity.MaxAmount), rapid.SampledFrom([]int64{0, 1, capacity.MaxAmount - 1, capacity.MaxAmount}))
	amounts := rapid.Custom(func(t *rapid.T) capacity.Resources {
		r := capacity.Resources{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory"), Storage: amount.Draw(t, "storage")}
		if rapid.Bool().Draw(t, "has gpu") {
			r.Extended = map[string]int64{"gpu": amount.Draw(t, "gpu")}
		}
		return r
	})
	resources := []string{capacity.CPU, capacity.Memory, capacity.Storage, "gpu"}
	share := rapid.Custom(func(t *rapid.T) capacity.Share {
		return capacity.Share{Cluster: rapid.SampledFrom(clusters).Draw(t, "cluster"), Amount: amounts.Draw(t, "amount")}
	})
	rapid.Check(t, func(t *rapid.T) {
		ledger := capacity.NewLedger()
		claims := map[capacity.Owner]*capacity.Claim{}
		available, counted := map[string]capacity.Resources{}, map[string]map[string]capacity.Resources{}
		// promised returns what is reserved on a cluster for all but one owner.
		promised := func(cluster, resource string, but capacity.Owner) *big.Int {
			total := new(big.Int)
			for owner, claim := range claims {
				if s := claim.ShareOn(cluster); owner != but && s != nil {
					total.Add(total, big.NewInt(max(0, s.Amount.Get(resource)-counted[cluster][claim.UID].Get(resource))))
				}
			}
			return total
		}
		draw := func(t *rapid.T) (capacity.Owner, *capacity.Claim) {
			name := rapid.SampledFrom([]string{"u", "v", "w", "x", "y", "z", "0", "1", "2", "3", "4", "5"}).Draw(t, "owner")
			return capacity.Owner{Name: name}, &capacity.Claim{
				UID: name, Shares: rapid.SliceOfNDistinct(share, 1, 2, func(s capacity.Share) string { return s.Cluster }).Draw(t, "shares"),
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"restore": func(t *rapid.T) {
				owner, claim := draw(t)
				ledger.Restore(owner, claim)
				claims[owner] = claim
			},
			"reserve": func(t *rapid.T) {
				owner, claim := draw(t)
				fits := true
				for _, share := range claim.Shares {
					for _, resource := range resources {
						asked, cluster := share.Amount.Get(resource), share.Cluster
						left := new(big.Int).Sub(big.NewInt(available[cluster].Get(resource)), promised(cluster, resource, owner))
						left.Add(left, big.NewInt(counted[cluster][claim.UID].Get(resource)))
						fits = fits && (asked == 0 || left.Cmp(big.NewInt(asked)) >= 0)
					}
				}
				if err := ledger.Reserve(owner, claim); (err == nil) != fits {
					t.Fatalf("reserve %v: %v, want it to fit: %v", claim, err, fits)
				}
				if fits {
					claims[owner] = claim
				}
			},
			"release": func(t *rapid.T) {
				owner, _ := draw(t)
				ledger.Release(owner)
				delete(claims, owner)
			},
			"report": func(t *rapid.T) {
				cluster := rapid.SampledFrom(clusters).Draw(t, "cluster")
				available[cluster], counted[cluster] = amounts.Draw(t, "available"), map[string]capacity.Resources{}
				for _, uid := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"u", "v", "0", "1"}), rapid.ID).Draw(t, "uids") {
					counted[cluster][uid] = amounts.Draw(t, "counted")
				}
				ledger.SetCluster(cluster, available[cluster], counted[cluster])
			},
			"vanish": func(t *rapid.T) {
				cluster := rapid.SampledFrom(clusters).Draw(t, "cluster")
				available[cluster], counted[cluster] = capacity.Resources{}, nil
				ledger.RemoveCluster(cluster)
			},
			"": func(t *rapid.T) {
				for _, cluster := range clusters {
					for _, resource := range resources {
						want := promised(cluster, resource, capacity.Owner{})
						if limit := big.NewInt(math.MaxInt64); want.Cmp(limit) > 0 {
							want = limit
						}
						if got := ledger.Reserved(cluster).Get(resource); got != want.Int64() {
							t.Fatalf("%s: %d of %s reserved, want %d", cluster, got, resource, want)
						}
					}
				}
			},
		})
	})
}
