package capacity

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// MaxShapes is the most shapes that the usual workloads of a workspace are summed up in.
const MaxShapes = 16

// Usual is what the workloads of a workspace usually ask for on one cluster. It is immutable; nil means unknown.
type Usual struct {
	// Shapes, the most frequent first.
	Shapes []Shape
	// names are the resources that any shape asks for; cells has a cell for each shape and name.
	names []string
	cells []cell
}

// Shape is what some workloads ask for on one cluster.
type Shape struct {
	Requests Resources
	// Share of the workloads that ask for it or for about as much. All shares add up to 1.
	Share float64
}

// cell is what a shape asks for of one resource: an amount of it suffices amount*times + more times. weight is what it asks for
// times its share.
type cell struct{ times, more, weight float64 }

// plenty is how often a resource that is not asked for suffices.
const plenty = 1 << 62

// shapeKey is requests as a map key.
type shapeKey struct {
	cpu, memory, storage int64
	extended             string
}

func keyOf(r Resources, amount func(int64) int64) shapeKey {
	key := shapeKey{cpu: amount(r.CPU), memory: amount(r.Memory), storage: amount(r.Storage)}
	if len(r.Extended) > 0 {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(r.Extended)) {
			if r.Extended[name] > 0 {
				b.WriteString(name)
				b.WriteByte('=')
				b.WriteString(strconv.FormatInt(amount(r.Extended[name]), 10))
				b.WriteByte(',')
			}
		}
		key.extended = b.String()
	}
	return key
}

func (k shapeKey) compare(o shapeKey) int {
	return cmp.Or(cmp.Compare(k.cpu, o.cpu), cmp.Compare(k.memory, o.memory), cmp.Compare(k.storage, o.storage),
		cmp.Compare(k.extended, o.extended))
}

func exactly(amount int64) int64 { return amount }

// magnitude returns the same for all amounts from one power of two to the next.
func magnitude(amount int64) int64 { return int64(bits.Len64(uint64(max(0, amount)))) }

// shapes counts what claims ask for on their clusters.
type shapes struct {
	counts map[shapeKey]*shapeCount
	// usual sums up the counts, unless a count has changed its magnitude since.
	usual *Usual
	stale bool
}

type shapeCount struct {
	requests Resources
	count    int64
}

// count counts a claim, or subtracts it if by is -1.
func (s *shapes) count(claim *Claim, by int64) {
	for i := range claim.Shares {
		asks := claim.Shares[i].Amount
		if asks.IsZero() {
			continue
		}
		key := keyOf(asks, exactly)
		c := s.counts[key]
		if c == nil {
			c = &shapeCount{requests: asks.WithoutNone()}
			s.counts[key] = c
		}
		s.stale = s.stale || magnitude(c.count) != magnitude(c.count+by)
		if c.count += by; c.count == 0 {
			delete(s.counts, key)
		}
	}
}

// Usual returns what the claims of the ledger usually ask for on one cluster; nil if they ask for nothing. Held claims do not
// count. Requests of the same magnitude form one shape: the requests of the most claims, or the largest of these.
//
// Invariant: the result is a function of the claims that are granted now. Only the magnitude of a number of claims counts, so
// the result, its pointer included, stays the same until the claims of some shape have doubled or halved.
func (l *Ledger) Usual() *Usual {
	l.own.Lock()
	defer l.own.Unlock()
	if l.shapes == nil {
		l.shapes = &shapes{counts: map[shapeKey]*shapeCount{}}
		for owner, claim := range l.claims {
			if owner.Held == 0 {
				l.shapes.count(claim, 1)
			}
		}
	}
	if s := l.shapes; s.stale {
		s.stale = false
		if now := s.sumUp(); !now.same(s.usual) {
			s.usual = now
		}
	}
	return l.shapes.usual
}

func (s *shapes) sumUp() *Usual {
	type group struct {
		key      shapeKey
		requests Resources
		most     int64
		// weight is the number of claims in the group: the sum of its counts, each rounded down to a power of two.
		weight int64
	}
	groups := map[shapeKey]*group{}
	for key, c := range s.counts {
		size, n := keyOf(c.requests, magnitude), int64(1)<<(magnitude(c.count)-1)
		g := groups[size]
		if g == nil {
			g = &group{}
			groups[size] = g
		}
		g.weight += n
		if n > g.most || n == g.most && key.compare(g.key) > 0 {
			g.key, g.requests, g.most = key, c.requests, n
		}
	}
	if len(groups) == 0 {
		return nil
	}
	heaviest := slices.SortedFunc(maps.Values(groups), func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), b.key.compare(a.key))
	})
	heaviest = heaviest[:min(len(heaviest), MaxShapes)]
	var all int64
	for _, g := range heaviest {
		all += g.weight
	}
	shapes := make([]Shape, len(heaviest))
	for i, g := range heaviest {
		shapes[i] = Shape{g.requests, float64(g.weight) / float64(all)}
	}
	return NewUsual(shapes)
}

// NewUsual returns the usual workloads of these shapes. Every shape asks for something.
func NewUsual(shapes []Shape) *Usual {
	u := &Usual{Shapes: shapes}
	for _, s := range shapes {
		for name, amount := range s.Requests.Each {
			if amount > 0 && !slices.Contains(u.names, name) {
				u.names = append(u.names, name)
			}
		}
	}
	for _, s := range shapes {
		for _, name := range u.names {
			if asks := float64(s.Requests.Get(name)); asks > 0 {
				// The inverse is a little too large, so that a multiple of what is asked for suffices that many times.
				u.cells = append(u.cells, cell{times: (1 + 1e-12) / asks, weight: s.Share * asks})
			} else {
				u.cells = append(u.cells, cell{more: plenty})
			}
		}
	}
	return u
}

func (u *Usual) same(o *Usual) bool {
	if u == nil || o == nil {
		return u == o
	}
	return slices.EqualFunc(u.Shapes, o.Shapes, func(a, b Shape) bool { return a.Share == b.Share && a.Requests.Equal(b.Requests) })
}

// Usable returns how much of what is free on a cluster the usual workloads can use, now and after a workload with these requests
// is placed: for each shape, what it asks for times how often it fits, as a share of what is allocatable there.
func (u *Usual) Usable(allocatable, free, requests Resources) (now, then float64) {
	var buffer [8]amount
	amounts := buffer[:0]
	for _, name := range u.names {
		a := amount{now: float64(free.Get(name))}
		if all := allocatable.Get(name); all > 0 {
			a.per = 1 / float64(all)
		}
		a.then = a.now - float64(requests.Get(name))
		amounts = append(amounts, a)
	}
	return u.usable(amounts)
}

// amount is what is free of one resource, now and then, and 1 / what is allocatable.
type amount struct{ now, then, per float64 }

func (u *Usual) usable(amounts []amount) (now, then float64) {
	if len(amounts) == 2 {
		return u.usableOfTwo(&amounts[0], &amounts[1])
	}
	for cells := u.cells; len(cells) > 0; cells = cells[len(amounts):] {
		fitsNow, fitsThen, size := float64(plenty), float64(plenty), 0.0
		of := cells[:len(amounts)]
		for r := range of {
			// The conversions prevent fused multiply-add, whose results differ from machine to machine.
			a, c := &amounts[r], &of[r]
			if fits := float64(a.now*c.times) + c.more; fits < fitsNow {
				fitsNow = fits
			}
			if fits := float64(a.then*c.times) + c.more; fits < fitsThen {
				fitsThen = fits
			}
			size += float64(c.weight * a.per)
		}
		now += float64(size * float64(max(0, int64(fitsNow))))
		then += float64(size * float64(max(0, int64(fitsThen))))
	}
	return now, then
}

// usableOfTwo is usable for two resources, nearly always CPU and memory: it saves a fifth of the time of a class that is scored by packing.
func (u *Usual) usableOfTwo(a, b *amount) (now, then float64) {
	for cells := u.cells; len(cells) >= 2; cells = cells[2:] {
		c, d := &cells[0], &cells[1]
		fitsNow, fitsThen := float64(a.now*c.times)+c.more, float64(a.then*c.times)+c.more
		if fits := float64(b.now*d.times) + d.more; fits < fitsNow {
			fitsNow = fits
		}
		if fits := float64(b.then*d.times) + d.more; fits < fitsThen {
			fitsThen = fits
		}
		size := float64(c.weight*a.per) + float64(d.weight*b.per)
		now += float64(size * float64(max(0, int64(fitsNow))))
		then += float64(size * float64(max(0, int64(fitsThen))))
	}
	return now, then
}

// MostLost returns the shape that loses most room to a workload with these requests, and how often it fits before and after.
func (u *Usual) MostLost(free, requests Resources) (shape Resources, now, then int64) {
	most, left := 0.0, free.Sub(requests)
	for _, s := range u.Shapes {
		before, after := s.fits(free), s.fits(left)
		if lost := s.Share * float64(before-after); lost > most {
			most, shape, now, then = lost, s.Requests, before, after
		}
	}
	return shape, now, then
}

// fits returns how often a shape fits into what is free.
func (s *Shape) fits(free Resources) int64 {
	times := int64(plenty)
	for name, asks := range s.Requests.Each {
		if asks > 0 {
			times = min(times, max(0, free.Get(name))/asks)
		}
	}
	return times
}
