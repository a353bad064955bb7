// Package int128 has exact integers of 128 bits, for sums and products of amounts that are int64 themselves.
package int128

import (
	"math"
	"math/bits"
)

// Int is an integer of 128 bits in two's complement. The zero value is 0. Some 2^64 amounts can be added up before it
// overflows, so what was added can be taken off again, whatever it came to in between.
type Int struct {
	hi int64
	lo uint64
}

// Of returns n.
func Of(n int64) Int { return Int{n >> 63, uint64(n)} }

// Add returns i + j.
func (i Int) Add(j Int) Int {
	lo, carry := bits.Add64(i.lo, j.lo, 0)
	return Int{i.hi + j.hi + int64(carry), lo}
}

// Sub returns i - j.
func (i Int) Sub(j Int) Int {
	lo, borrow := bits.Sub64(i.lo, j.lo, 0)
	return Int{i.hi - j.hi - int64(borrow), lo}
}

// Less reports whether i < j.
func (i Int) Less(j Int) bool { return i.hi < j.hi || i.hi == j.hi && i.lo < j.lo }

// Int64 returns i, or the bound of int64 that is nearest to it.
func (i Int) Int64() int64 {
	switch {
	case i.hi == int64(i.lo)>>63:
		return int64(i.lo)
	case i.hi < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}

// MulDiv returns a * b / c, truncated, and what remains; at most math.MaxInt64, then with nothing remaining. None may be
// negative, nor c be 0.
func MulDiv(a, b, c int64) (quotient, remainder int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return math.MaxInt64, 0
	}
	q, r := bits.Div64(hi, lo, uint64(c))
	if q > math.MaxInt64 {
		return math.MaxInt64, 0
	}
	return int64(q), int64(r)
}

// Mul returns a * b.
func Mul(a, b int64) Int {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	i := Int{int64(hi), lo}
	if a < 0 {
		i.hi -= b
	}
	if b < 0 {
		i.hi -= a
	}
	return i
}
