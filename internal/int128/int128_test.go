package int128_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/internal/int128"
)

// amount draws from all of int64, its bounds often.
var amount = rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}))

// TestExact holds sums, differences and products to math/big.
func TestExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sum, want := int128.Int{}, new(big.Int)
		for _, n := range rapid.SliceOfN(amount, 0, 50).Draw(t, "amounts") {
			other := int128.Mul(n, 3)
			product := new(big.Int).Mul(big.NewInt(n), big.NewInt(3))
			if less := sum.Less(other); less != (want.Cmp(product) < 0) {
				t.Fatalf("%v < %v: %v", want, product, less)
			}
			if rapid.Bool().Draw(t, "add") {
				sum, want = sum.Add(int128.Of(n)), want.Add(want, big.NewInt(n))
			} else {
				sum, want = sum.Sub(other), want.Sub(want, product)
			}
		}
		clamped := want
		if low, high := big.NewInt(math.MinInt64), big.NewInt(math.MaxInt64); want.Cmp(low) < 0 {
			clamped = low
		} else if want.Cmp(high) > 0 {
			clamped = high
		}
		if got := sum.Int64(); got != clamped.Int64() {
			t.Fatalf("%d, want %v", got, clamped)
		}
		if sum.Sub(sum) != (int128.Int{}) {
			t.Fatal("what was added must come off again")
		}
	})
}

// TestMul: products of any two amounts are exact, also next to each other.
func TestMul(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := amount.Draw(t, "a"), amount.Draw(t, "b"), amount.Draw(t, "c"), amount.Draw(t, "d")
		x, y := new(big.Int).Mul(big.NewInt(a), big.NewInt(b)), new(big.Int).Mul(big.NewInt(c), big.NewInt(d))
		if got, want := int128.Mul(a, b).Less(int128.Mul(c, d)), x.Cmp(y) < 0; got != want {
			t.Fatalf("%v < %v: %v", x, y, got)
		}
		if got, want := int128.Mul(a, b) == int128.Mul(c, d), x.Cmp(y) == 0; got != want {
			t.Fatalf("%v == %v: %v", x, y, got)
		}
	})
}

func TestMulDiv(t *testing.T) {
	notNegative := rapid.OneOf(rapid.Int64Min(0), rapid.Int64Range(0, 100), rapid.Just(int64(math.MaxInt64)))
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := notNegative.Draw(t, "a"), notNegative.Draw(t, "b"), max(1, notNegative.Draw(t, "c"))
		want, rest := new(big.Int).QuoRem(new(big.Int).Mul(big.NewInt(a), big.NewInt(b)), big.NewInt(c), new(big.Int))
		if !want.IsInt64() {
			want, rest = big.NewInt(math.MaxInt64), new(big.Int)
		}
		if q, r := int128.MulDiv(a, b, c); q != want.Int64() || r != rest.Int64() {
			t.Fatalf("%d * %d / %d = %d, %d remain: want %v, %v", a, b, c, q, r, want, rest)
		}
	})
}
