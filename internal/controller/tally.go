package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/google/btree"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// tally is what the workloads of a placement come to.
//
// Invariant: it is the sum of their accounts. A workload takes its account out before it is looked at and puts it in afterwards, so
// the tally follows what has changed, and says what it would if all were counted anew.
type tally struct {
	// version changes with all that follows.
	version int64
	// workloads, placed and undecided count them, waitingReplicas the replicas that wait; clusters how many are on each.
	workloads, placed, undecided int
	waitingReplicas              int32
	clusters                     map[string]int
	// A line for each workload that waits, is retained where it should not be for want of a better place, has fewer clusters than asked
	// for, is placed in part, has no reservation any more on some cluster, is not to be placed, belongs to another placement, waits
	// its turn to lose a cluster, or could not be decided on.
	waiting, retained, fewer, partial, expired, idle, elsewhere, paced, failed lines
	// would counts what would be decided on them while the placement is suspended, unevaluated those of which that is not known yet;
	// supposed are the lines about that.
	would       map[withheld]int
	unevaluated int
	supposed    lines
	// unseen are the workloads whose decisions stay as they are, since they cannot be seen, and why.
	unseen map[*workItem]*hidden
	// samples are the ways in which policies schedule its workloads, by digest; timed are those in which tolerations end, by the
	// tolerations.
	samples map[string]*lines
	timed   map[string]*lines
	// delivery says how its workloads fare that are delivered.
	delivery deliveryReport
}

// account is what one workload adds to the tally of its placement.
type account struct {
	// to is the placement; nil while the workload is in no tally.
	to *placementState
	// owned is set where the workload belongs to the placement: others only wait their turn to leave it.
	owned, placed, undecided bool
	waitingReplicas          int32
	clusters                 []string
	// texts are the lines, each empty where there is none.
	waiting, retained, fewer, partial, expired, idle, paced, supposed string
	failed                                                            error
	unseen                                                            *hidden
	// would is what would be decided, unevaluated is set while that is not known yet.
	would       withheld
	unevaluated bool
	// elsewhere are the other placements that select the workload.
	elsewhere []*placementState
	// under is the placement as policies schedule the workload, where they do; timed are its tolerations, where some end.
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

// enter puts an account of a workload, which has none, into the tallies.
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

// count adds or takes off the account of a workload.
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

// maxSamples bounds in how many ways that policies schedule the workloads of a placement it is found out what is in vain.
const maxSamples = 8

// sampled returns some workloads with their placement as policies schedule them, one for each way in which they do: those whose turn
// comes first.
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

// tolerates returns all that policies make of the placement in which tolerations end.
func (t *tally) tolerates() (all []*placement.Placement) {
	for _, key := range slices.Sorted(maps.Keys(t.timed)) {
		all = append(all, t.timed[key].first().under)
	}
	return all
}

// lines are what is said of some workloads, one for each, in their turns. The zero value is empty.
type lines struct{ tree *btree.BTreeG[line] }

// line is about one workload; beside the text it may have an error, or the placement as policies schedule the workload.
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

// Len is how many there are.
func (l *lines) Len() int {
	if l.tree == nil {
		return 0
	}
	return l.tree.Len()
}

// before counts the lines of workloads whose turn is before that of another, up to some number.
func (l *lines) before(item *workItem, most int) (n int) {
	if l.tree != nil {
		l.tree.AscendLessThan(line{item: item}, func(line) bool {
			n++
			return n < most
		})
	}
	return n
}

// first is the line of the workload whose turn comes first, of those that there are.
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

// upTo yields the first lines, up to some number.
func (l *lines) upTo(most int) (some []line) {
	if l.tree != nil {
		l.tree.Ascend(func(one line) bool {
			some = append(some, one)
			return len(some) < most
		})
	}
	return some
}

// String has the first ones, and how many more there are.
func (l *lines) String() string {
	var first []string
	for _, one := range l.upTo(maxExamples) {
		first = append(first, one.text)
	}
	return andMore(first, l.Len())
}
