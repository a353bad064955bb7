package rebalance

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Aim is what a plan is to achieve: Even, Free or MakeRoom.
type Aim interface {
	fmt.Stringer
	// of returns the goal for the aim in a world. It fails if the aim names something that does not exist.
	of(s *state) (goal, error)
}

// goal is an aim in a given world.
type goal interface {
	// left is a lower bound of the moves needed from here: 0 if the aim is reached, never if no moves reach it.
	left() int
	// rank orders the moves from here: a search tries lower ranks first.
	rank(w *item, from *engine.Choice, to *snapshot.Row) int64
	// approach makes some moves that reach the aim, or get closer to it.
	approach()
	// stuck returns what is in the way.
	stuck() []Stuck
}

// never is more moves than any plan has.
const never = math.MaxInt32

// maxStuck bounds how many workloads in the way are named.
const maxStuck = 100

// Even makes the use of clusters differ by at most Percent points: of the named clusters, or of all that are ready, not
// cordoned, and without a taint NoSchedule or NoExecute.
type Even struct {
	Percent  int
	Clusters []string
}

// String implements Aim.
func (a Even) String() string {
	text := fmt.Sprintf("even use within %d points", a.Percent)
	if len(a.Clusters) > 0 {
		text += " of " + strings.Join(a.Clusters, ", ")
	}
	return text
}

func (a Even) of(s *state) (goal, error) {
	g := &even{state: s, within: int64(a.Percent) * 100, selected: map[string]bool{}}
	for _, name := range a.Clusters {
		if s.row(name) == nil {
			return nil, fmt.Errorf("there is no cluster %s", name)
		}
		g.selected[name] = true
	}
	for _, row := range s.rows() {
		if len(a.Clusters) == 0 {
			g.selected[row.Name] = row.Ready() && !row.Cordoned() && !slices.ContainsFunc(row.Taints, keepsAway) && useOf(row).Resource != ""
		}
		// What any workload could add to the use of a cluster.
		var arrivals []int64
		for i := range s.items {
			w := &s.items[i]
			if !w.movable() || !w.goes[row.Name] {
				continue
			}
			most := int64(0)
			for c := range w.current {
				most = max(most, weight(s.asks(w, &w.current[c], row), row))
			}
			arrivals = append(arrivals, most)
		}
		g.arrivals = append(g.arrivals, sumsOfLargest(arrivals))
	}
	return g, nil
}

// even is the goal of Even in a world.
type even struct {
	*state
	within   int64
	selected map[string]bool
	// arrivals holds, by cluster, the most that one, two, ... workloads can add to its use.
	arrivals [][]int64
	// low and high are the bounds of use that need the fewest moves, as found by left.
	low, high int64
}

// sumsOfLargest returns the sums of the largest one, two, ... weights.
func sumsOfLargest(weights []int64) []int64 {
	slices.SortFunc(weights, func(a, b int64) int { return cmp.Compare(b, a) })
	sum := int64(0)
	for i, w := range weights {
		sum += w
		weights[i] = sum
	}
	return weights
}

// least returns how many of the weights are needed to sum up to an amount.
func least(sums []int64, amount int64) int {
	if amount <= 0 {
		return 0
	}
	i, _ := slices.BinarySearch(sums, amount)
	if i == len(sums) {
		return never
	}
	return i + 1
}

// left implements goal. Each move takes from one cluster and gives to one. So, to bring all uses between two bounds, it takes at least as
// many moves as clusters above have to lose workloads, and as many as clusters below have to gain. With higher bounds, the former number
// decreases and the latter increases.
func (g *even) left() int {
	rows := g.rows()
	uses, departures := make([]int64, len(rows)), g.departures(rows)
	lowest, highest := int64(math.MaxInt64), int64(0)
	for i, row := range rows {
		if !g.selected[row.Name] {
			continue
		}
		uses[i] = useOf(row).Hundredths
		lowest, highest = min(lowest, uses[i]), max(highest, uses[i])
	}
	if g.low, g.high = lowest, highest; highest-lowest <= g.within || highest == 0 {
		return 0
	}
	losing := func(low int64) (n int) {
		for i, row := range rows {
			if g.selected[row.Name] {
				n = min(never, n+least(departures[i], uses[i]-low-g.within))
			}
		}
		return n
	}
	getting := func(low int64) (n int) {
		for i, row := range rows {
			if g.selected[row.Name] {
				n = min(never, n+least(g.arrivals[i], low-uses[i]))
			}
		}
		return n
	}
	first := int64(sort.Search(int(highest), func(low int) bool { return losing(int64(low)) <= getting(int64(low)) }))
	best := never
	for _, low := range []int64{first, first - 1} {
		if n := max(losing(low), getting(low)); low >= 0 && n < best {
			best, g.low, g.high = n, low, low+g.within
		}
	}
	return max(1, best)
}

// departures returns, by cluster, the most that its use decreases when one, two, ... workloads leave.
func (g *even) departures(rows []*snapshot.Row) [][]int64 {
	departures, position := make([][]int64, len(rows)), make(map[string]int, len(rows))
	for i, row := range rows {
		position[row.Name] = i
	}
	for i := range g.items {
		w := &g.items[i]
		if !w.movable() {
			continue
		}
		for c := range w.current {
			if at, registered := position[w.current[c].Name]; registered {
				departures[at] = append(departures[at], weight(g.takes(w, &w.current[c]), rows[at]))
			}
		}
	}
	for i := range departures {
		departures[i] = sumsOfLargest(departures[i])
	}
	return departures
}

// off returns how far the use of a cluster is outside the bounds.
func (g *even) off(use int64) int64 { return max(0, use-g.high, g.low-use) }

// rank implements goal: first the moves that bring both clusters closest to the bounds, then to each other.
func (g *even) rank(w *item, from *engine.Choice, to *snapshot.Row) int64 {
	before, after := g.effect(w, from, to)
	return after - before
}

func (g *even) effect(w *item, from *engine.Choice, to *snapshot.Row) (before, after int64) {
	row := g.row(from.Name)
	worse := func(row *snapshot.Row) int64 {
		if !g.selected[row.Name] {
			return 0
		}
		use := useOf(row).Hundredths
		return min(g.off(use), 1<<30)<<16 + min(use, 1<<15)
	}
	without := row.With(row.Reserved.Sub(g.takes(w, from)))
	with := to.With(to.Reserved.Add(g.asks(w, from, to)))
	return worse(row) + worse(to), worse(without) + worse(with)
}

// approach implements goal: it repeats the move that evens out most.
func (g *even) approach() {
	for len(g.done) < g.MaxMoves && g.left() > 0 {
		moved := false
		for _, c := range g.candidates(g) {
			if c.rank >= 0 {
				break
			}
			if w := &g.items[c.workload]; g.leave(w, c.from, []string{c.to}) {
				moved = true
				break
			}
			if g.err != nil {
				return
			}
		}
		if !moved {
			return
		}
	}
}

// stuck implements goal: why nothing leaves the fullest cluster for the emptiest.
func (g *even) stuck() []Stuck {
	rows := g.rows()
	fullest := slices.MaxFunc(rows, func(a, b *snapshot.Row) int { return cmp.Compare(g.selectedUse(a, -1), g.selectedUse(b, -1)) })
	emptiest := slices.MinFunc(rows, func(a, b *snapshot.Row) int {
		return cmp.Compare(g.selectedUse(a, math.MaxInt64), g.selectedUse(b, math.MaxInt64))
	})
	var all []Stuck
	for i := range g.items {
		if w := &g.items[i]; w.on(fullest.Name) != nil && len(all) < maxStuck {
			all = append(all, g.whyNot(w, fullest.Name, []string{emptiest.Name}))
		}
	}
	if len(all) == 0 {
		all = append(all, Stuck{
			Cluster: fullest.Name,
			Why:     fmt.Sprintf("it has %s in use, and %s has %s: nothing of that is a workload that is placed", useOf(fullest), emptiest.Name, useOf(emptiest)),
		})
	}
	return all
}

func (g *even) selectedUse(row *snapshot.Row, otherwise int64) int64 {
	if !g.selected[row.Name] {
		return otherwise
	}
	return useOf(row).Hundredths
}

// Free removes everything from a cluster.
type Free struct{ Cluster string }

// String implements Aim.
func (a Free) String() string { return "nothing left on " + a.Cluster }

func (a Free) of(s *state) (goal, error) {
	if s.row(a.Cluster) == nil {
		return nil, fmt.Errorf("there is no cluster %s", a.Cluster)
	}
	return &free{state: s, cluster: a.Cluster}, nil
}

// free is the goal of Free in a world.
type free struct {
	*state
	cluster string
}

// left implements goal: one move for each workload.
func (g *free) left() (n int) {
	for i := range g.items {
		w := &g.items[i]
		switch {
		case w.Idle || w.on(g.cluster) == nil:
		case !w.movable() || !g.goesElsewhere(w):
			return never
		default:
			n++
		}
	}
	return n
}

// goesElsewhere reports whether there is any cluster whose properties let a workload run there.
func (g *free) goesElsewhere(w *item) bool {
	for _, name := range g.clusters {
		if name != g.cluster && w.goes[name] && w.on(name) == nil {
			return true
		}
	}
	return false
}

// rank implements goal: first moves off the cluster, the largest first.
func (g *free) rank(w *item, from *engine.Choice, to *snapshot.Row) int64 {
	switch {
	case to.Name == g.cluster:
		return math.MaxInt64
	case from.Name == g.cluster:
		return -weight(g.takes(w, from), g.row(from.Name))
	}
	return weight(g.asks(w, from, to), to)
}

// approach implements goal: the largest workload first, each to its best place; room is made for those that find none.
func (g *free) approach() {
	leaving := g.largestFirst(g.cluster)
	var remaining []*item
	for _, w := range leaving {
		if len(g.done) < g.MaxMoves && !w.Idle && !g.leave(w, g.cluster, g.except(g.cluster)) {
			remaining = append(remaining, w)
		}
	}
	for _, w := range remaining {
		g.makeRoom(w.Request, w.goes, w.index, []string{g.cluster}, func(to string) bool {
			return g.leave(w, g.cluster, []string{to})
		})
	}
}

// stuck implements goal.
func (g *free) stuck() (all []Stuck) {
	for i := range g.items {
		if w := &g.items[i]; !w.Idle && w.on(g.cluster) != nil && len(all) < maxStuck {
			all = append(all, g.whyNot(w, g.cluster, g.except(g.cluster)))
		}
	}
	return all
}

// MakeRoom gives a waiting workload clusters, with room for all of its replicas if these are divided.
type MakeRoom struct{ Workload workload.Reference }

// String implements Aim.
func (a MakeRoom) String() string { return "room for " + a.Workload.String() }

func (a MakeRoom) of(s *state) (goal, error) {
	i := slices.IndexFunc(s.items, func(w item) bool {
		ref := w.Request.Workload.Reference
		ref.UID = a.Workload.UID
		return ref == a.Workload
	})
	switch {
	case i < 0:
		return nil, fmt.Errorf("there is no workload %s that a placement selects", a.Workload)
	case s.items[i].Fixed != "":
		return nil, fmt.Errorf("%s is not placed: %s", a.Workload, s.items[i].Fixed)
	}
	return &makeRoom{state: s, wanted: &s.items[i]}, nil
}

// makeRoom is the goal of MakeRoom in a world.
type makeRoom struct {
	*state
	wanted *item
}

// explain returns the decision that the workload would get now.
func (g *makeRoom) explain() *engine.Decision {
	g.asked++
	r := g.wanted.Request
	r.Current, r.Group = nil, ""
	d, err := g.Engine.Explain(g.ctx, r)
	if err != nil {
		g.fail(err)
		return nil
	}
	return d
}

// fits reports whether the workload finds clusters, or has them.
func (g *makeRoom) fits() bool {
	if len(g.wanted.current) > 0 {
		return true
	}
	d := g.explain()
	return d != nil && len(d.Clusters) > 0 && d.Waiting == 0
}

// left implements goal: for the cluster that needs the fewest, the number of largest workloads to move away until the workload fits.
func (g *makeRoom) left() int {
	if g.fits() {
		return 0
	}
	best := never
	for _, row := range g.rows() {
		if !g.wanted.goes[row.Name] {
			continue
		}
		n := 1
		if !g.wanted.divided {
			asks := row.On(g.wanted.Request.Workload).Requests
			for name, asked := range asks.Each {
				if lacks := asked - row.Free.Get(name); asked > 0 && lacks > 0 {
					var departures []int64
					for i := range g.items {
						if w := &g.items[i]; w.movable() && w.on(row.Name) != nil {
							departures = append(departures, g.takes(w, w.on(row.Name)).Get(name))
						}
					}
					n = max(n, least(sumsOfLargest(departures), lacks))
				}
			}
		}
		best = min(best, n)
	}
	return best
}

// rank implements goal: first moves off clusters where the workload may run, the largest first.
func (g *makeRoom) rank(w *item, from *engine.Choice, to *snapshot.Row) int64 {
	size := weight(g.takes(w, from), g.row(from.Name))
	if g.wanted.goes[from.Name] && !g.wanted.goes[to.Name] {
		return -2 * size
	}
	if g.wanted.goes[from.Name] {
		return -size
	}
	return size
}

// approach implements goal.
func (g *makeRoom) approach() {
	if !g.fits() {
		g.makeRoom(g.wanted.Request, g.wanted.goes, g.wanted.index, nil, func(string) bool { return g.fits() })
	}
}

// stuck implements goal: what the workload lacks, and why others cannot leave the cluster where it lacks least.
func (g *makeRoom) stuck() []Stuck {
	wanted := g.whyNot(g.wanted, "", g.clusters)
	all := []Stuck{wanted}
	nearest, _ := g.nearest(g.explain(), g.clusters)
	for i := range g.items {
		if w := &g.items[i]; nearest != "" && w.on(nearest) != nil && len(all) < maxStuck {
			all = append(all, g.whyNot(w, nearest, g.except(nearest)))
		}
	}
	return all
}

// whyNot returns why a workload does not leave a cluster for one of others, and what would help. An empty cluster means a waiting
// workload.
func (s *state) whyNot(w *item, cluster string, into []string) Stuck {
	stuck := Stuck{Workload: referenceOf(w), Cluster: cluster}
	if w.fixed != "" {
		stuck.Why = w.fixed
		return stuck
	}
	r := w.Request
	r.Current, r.Group = nil, ""
	d, err := s.Engine.Explain(s.ctx, r)
	if err != nil {
		stuck.Why = err.Error()
		return stuck
	}
	into = slices.DeleteFunc(slices.Clone(into), func(name string) bool { return w.on(name) != nil })
	nearest, obstacles := s.nearest(d, into)
	switch {
	case len(into) == 0:
		stuck.Why = "there is no other cluster"
	case nearest == "":
		stuck.Why = "no cluster is feasible: " + d.Summary()
	case len(obstacles) > 0:
		stuck.Why = nearest + ": " + obstacles[0].String()
		if remedies := filter.Remedies(obstacles); len(remedies) > 0 {
			stuck.Help = strings.Join(remedies, " and ") + " on " + nearest
		}
	default:
		stuck.Why = fmt.Sprintf("it may go to %s, but not in such a way that the aim is reached", nearest)
	}
	return stuck
}

// nearest returns the cluster closest to being feasible, with its obstacles: the one with the fewest, and of these the first by
// name.
func (s *state) nearest(d *engine.Decision, among []string) (cluster string, obstacles []filter.Obstacle) {
	if d == nil {
		return "", nil
	}
	for _, name := range s.clusters {
		if !slices.Contains(among, name) {
			continue
		}
		if o := d.Obstacles(name); cluster == "" || len(o) < len(obstacles) {
			cluster, obstacles = name, o
		}
	}
	return cluster, obstacles
}

func keepsAway(t corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
}
