package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/google/btree"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// tally sums up the workloads of a placement.
//
// Invariant: it is the sum of their accounts. A workload's account is taken out before the workload is looked at and put back afterwards, so
// the tally follows the changes, and equals a recount from scratch.
type tally struct {
	// version changes with everything below.
	version int64
	// workloads, placed and undecided count workloads, waitingReplicas waiting replicas; clusters counts workloads by cluster.
	workloads, placed, undecided int
	waitingReplicas              int32
	clusters                     map[string]int
	// A line for each workload that waits, is retained on a cluster it should leave for want of a better place, has fewer clusters than asked
	// for, is placed in part, has an expired reservation on some cluster, is not to be placed, belongs to another placement, waits
	// its turn to lose a cluster, or could not be decided on.
	waiting, retained, fewer, partial, expired, idle, elsewhere, paced, failed lines
	// would counts what would be decided while the placement is suspended, unevaluated the workloads for which that is not known yet;
	// supposed are the corresponding lines.
	would       map[withheld]int
	unevaluated int
	supposed    lines
	// unseen are the workloads whose decisions stay as they are because the workloads cannot be seen, and why.
	unseen map[*workItem]*hidden
	// samples are the ways in which policies schedule its workloads, by digest; timed are those with tolerations that end, by
	// tolerations.
	samples map[string]*lines
	timed   map[string]*lines
	// delivery sums up the delivery of its workloads.
	delivery deliveryReport
}

// account is what one workload contributes to the tally of its placement.
type account struct {
	// to is the placement; nil while the workload is in no tally.
	to *placementState
	// owned is set if the workload belongs to the placement; others only wait their turn to leave it.
	owned, placed, undecided bool
	waitingReplicas          int32
	clusters                 []string
	// The lines, each empty if there is none.
	waiting, retained, fewer, partial, expired, idle, paced, supposed string
	failed                                                            error
	unseen                                                            *hidden
	// would is what would be decided; unevaluated is set while that is not known yet.
	would       withheld
	unevaluated bool
	// elsewhere are the other placements that select the workload.
	elsewhere []*placementState
	// under is the placement as policies schedule the workload, if they do; timed are its tolerations, if any of them end.
	under    *placement.Placement
	timed    string
	delivery deliveryAccount
}

// withdraw takes the account of a workload out of the tallies.
func (item *workItem) withdraw() {
	if item.account.to != nil {
		item.account.to.count(item, -1)
	}
	for _, other := range item.account.elsewhere {
		other.version++
		other.elsewhere.remove(item)
	}
	item.account = account{}
}

// enter adds an account to the tallies for a workload that has none.
func (item *workItem) enter(a account) {
	item.account = a
	if a.to != nil {
		a.to.count(item, 1)
	}
	for _, other := range a.elsewhere {
		other.version++
		other.elsewhere.add(line{item: item, text: fmt.Sprintf("%s belongs to %s", item.object.workload, a.to.object.Name)})
	}
}

// count adds or subtracts the account of a workload.
func (t *tally) count(item *workItem, sign int) {
	a := &item.account
	t.version++
	if a.owned {
		t.workloads += sign
	}
	if a.placed {
		t.placed += sign
	}
	if a.undecided {
		t.undecided += sign
	}
	if a.unevaluated {
		t.unevaluated += sign
	}
	if a.would != "" {
		t.would = addCount(t.would, a.would, sign)
	}
	t.waitingReplicas += int32(sign) * a.waitingReplicas
	for _, name := range a.clusters {
		t.clusters = addCount(t.clusters, name, sign)
	}
	for _, l := range [...]struct {
		*lines
		text string
	}{
		{&t.waiting, a.waiting}, {&t.retained, a.retained}, {&t.fewer, a.fewer}, {&t.partial, a.partial}, {&t.expired, a.expired},
		{&t.idle, a.idle}, {&t.paced, a.paced}, {&t.supposed, a.supposed},
	} {
		if l.text != "" {
			l.count(line{item: item, text: l.text}, sign)
		}
	}
	if a.failed != nil {
		t.failed.count(line{item: item, err: a.failed}, sign)
	}
	if a.unseen != nil {
		if sign > 0 {
			if t.unseen == nil {
				t.unseen = map[*workItem]*hidden{}
			}
			t.unseen[item] = a.unseen
		} else {
			delete(t.unseen, item)
		}
	}
	if a.under != nil {
		t.samples = countLine(t.samples, a.under.Digest, line{item: item, under: a.under}, sign)
	}
	if a.timed != "" {
		t.timed = countLine(t.timed, a.timed, line{item: item, under: a.under}, sign)
	}
	t.delivery.count(item, sign)
}

func addCount[K comparable](counts map[K]int, of K, sign int) map[K]int {
	if counts == nil {
		counts = map[K]int{}
	}
	if counts[of] += sign; counts[of] == 0 {
		delete(counts, of)
	}
	return counts
}

func countLine(of map[string]*lines, key string, l line, sign int) map[string]*lines {
	if of == nil {
		of = map[string]*lines{}
	}
	if of[key] == nil {
		of[key] = &lines{}
	}
	if of[key].count(l, sign); of[key].Len() == 0 {
		delete(of, key)
	}
	return of
}

// policyErr is why one of the workloads could not be decided on.
func (t *tally) policyErr() error {
	if l, found := t.failed.last(); found {
		return l.err
	}
	return nil
}

// maxSamples bounds how many of the ways in which policies schedule a placement's workloads are linted.
const maxSamples = 8

// sampled returns workloads with their placement as policies schedule them: for each distinct way, the workload whose turn comes
// first.
func (t *tally) sampled() map[string]sample {
	type first struct {
		digest string
		line
	}
	var all []first
	for digest, of := range t.samples {
		all = append(all, first{digest, of.first()})
	}
	slices.SortFunc(all, func(a, b first) int { return a.item.turn.Compare(b.item.turn) })
	samples := map[string]sample{}
	for _, f := range all[:min(len(all), maxSamples)] {
		samples[f.digest] = sample{f.item.object.workload, f.under}
	}
	return samples
}

// sample is a workload with its placement as policies schedule it.
type sample struct {
	workload *workload.Workload
	under    *placement.Placement
}

// tolerates returns, for each distinct set of tolerations some of which end, the placement as policies schedule it.
func (t *tally) tolerates() (all []*placement.Placement) {
	for _, key := range slices.Sorted(maps.Keys(t.timed)) {
		all = append(all, t.timed[key].first().under)
	}
	return all
}

// lines holds at most one line for each workload, in turn. The zero value is empty.
type lines struct{ tree *btree.BTreeG[line] }

// line is about one workload; besides the text it may have an error, or the placement as policies schedule the workload.
type line struct {
	item  *workItem
	text  string
	err   error
	under *placement.Placement
}

func (l *lines) add(one line) {
	if l.tree == nil {
		l.tree = btree.NewG(8, func(a, b line) bool { return a.item.turn.Compare(b.item.turn) < 0 })
	}
	l.tree.ReplaceOrInsert(one)
}

func (l *lines) remove(item *workItem) {
	if l.tree != nil {
		l.tree.Delete(line{item: item})
	}
}

func (l *lines) count(one line, sign int) {
	if sign > 0 {
		l.add(one)
	} else {
		l.remove(one.item)
	}
}

// Len returns the number of lines.
func (l *lines) Len() int {
	if l.tree == nil {
		return 0
	}
	return l.tree.Len()
}

// before counts the lines of workloads whose turn is before that of item, up to most.
func (l *lines) before(item *workItem, most int) (n int) {
	if l.tree != nil {
		l.tree.AscendLessThan(line{item: item}, func(line) bool {
			n++
			return n < most
		})
	}
	return n
}

// first returns the line of the workload whose turn comes first; there must be one.
func (l *lines) first() line {
	one, _ := l.tree.Min()
	return one
}

func (l *lines) last() (one line, found bool) {
	if l.tree == nil {
		return one, false
	}
	return l.tree.Max()
}

// each yields all lines.
func (l *lines) each(yield func(line) bool) {
	if l.tree != nil {
		l.tree.Ascend(yield)
	}
}

// upTo returns the first lines, at most most of them.
func (l *lines) upTo(most int) (some []line) {
	if l.tree != nil {
		l.tree.Ascend(func(one line) bool {
			some = append(some, one)
			return len(some) < most
		})
	}
	return some
}

// String returns the first lines, and how many more there are.
func (l *lines) String() string {
	var first []string
	for _, one := range l.upTo(maxExamples) {
		first = append(first, one.text)
	}
	return andMore(first, l.Len())
}
