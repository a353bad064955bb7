package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/internal/decode"
)

// suspension is why nothing is decided on the workloads of a placement.
//
// Invariant: while a placement is suspended, no decision on its workloads is made, changed or withdrawn, except for workloads and
// placements that are deleted.
type suspension struct {
	reason, message string
}

// suppositions are the decisions that would be made on workloads of suspended placements.
type suppositions struct {
	// would counts the workloads by what would be decided; examples are some of them.
	would    map[withheld]int
	examples []string
	// unknown counts the workloads for which that is not known yet.
	unknown int
}

// withheld is the kind of change that would be decided on a workload.
type withheld string

const (
	wouldPlace    withheld = "place"
	wouldMove     withheld = "move"
	wouldChange   withheld = "change"
	wouldWithdraw withheld = "withdraw"
)

var allWithheld = []withheld{wouldPlace, wouldMove, wouldChange, wouldWithdraw}

// supposed is the decision that would be made on a workload of a suspended placement.
type supposed struct {
	inputs   string
	revision int64
	at       time.Time
	would    withheld
	message  string
}

// suspend determines which placements are suspended.
func (w *workspace) suspend(placements []*placementState, unreadable map[types.UID]decode.Problems) {
	for _, p := range placements {
		before := p.suspension
		p.suspension = nil
		if reason, message := w.suspended(p.object, unreadable); reason != "" {
			p.suspension = &suspension{reason: reason, message: message}
		}
		p.changed = p.changed || (before == nil) != (p.suspension == nil)
	}
}

// suspended returns why a placement is suspended, with the widest scope first; empty if it is not.
func (w *workspace) suspended(p *v1alpha1.WorkloadPlacement, unreadable map[types.UID]decode.Problems) (reason, message string) {
	config := w.config.object
	switch {
	case w.limits.suspend:
		return v1alpha1.ControllerSuspendedReason, "The controller is started with --suspend: nothing is decided."
	case config != nil && config.Spec.Suspend:
		return v1alpha1.WorkspaceSuspendedReason, "spec.suspend of the PlacementConfig is true: nothing is decided in this workspace."
	case config != nil && len(unreadable[config.UID].In("spec.suspend")) > 0:
		return v1alpha1.WorkspaceSuspendedReason, fmt.Sprintf("The PlacementConfig cannot be read: %v: nothing is decided in this workspace.", unreadable[config.UID].In("spec.suspend"))
	case p.Spec.Suspend:
		return v1alpha1.PlacementSuspendedReason, "spec.suspend is true: nothing is decided on workloads of this placement."
	}
	return "", ""
}

// suppose determines what would be decided on a workload of a suspended placement. It is evaluated again when its inputs or the
// workspace have changed, at most as often as a status is written.
func (p *pass) suppose(ctx context.Context, item *workItem) error {
	r := p.request(item)
	known, inputs := item.before.supposed, p.engine.InputsDigest(r)
	switch current := known != nil && known.inputs == inputs; {
	case current && known.revision == p.engine.Revision(p.name):
	case current && p.now().Before(known.at.Add(countsEvery)):
		p.index.wakeAt(item, known.at.Add(countsEvery))
	case p.evaluated >= p.batchSize:
		p.result.again, item.unevaluated = true, true
		if known == nil {
			item.reason = "the placement is suspended"
			return nil
		}
	default:
		p.evaluated++
		decision, err := p.engine.Explain(ctx, r)
		if err != nil {
			return err
		}
		if len(decision.Clusters) == 0 && !item.found {
			p.wait(item, decision)
			return nil
		}
		known = p.supposeDecision(item, decision)
	}
	if item.supposed = known; !item.found {
		item.reason = "the placement is suspended: " + known.message
	}
	return nil
}

func (p *pass) supposeDecision(item *workItem, d *engine.Decision) *supposed {
	s := &supposed{inputs: d.InputsDigest, revision: d.Revision, at: p.now()}
	to := make([]string, len(d.Clusters))
	for i, c := range d.Clusters {
		to[i] = c.Name
	}
	from, on := strings.Join(clusterNames(item.stored.Clusters), ", "), strings.Join(to, ", ")
	switch left := leaves(d); {
	case !item.found:
		s.would, s.message = wouldPlace, fmt.Sprintf("%s would be placed on %s", item.object.workload, on)
	case len(d.Clusters) == 0:
		s.would, s.message = wouldWithdraw, fmt.Sprintf("%s would leave %s: %s", item.object.workload, from, left)
	case d.Disrupts():
		s.would, s.message = wouldMove, fmt.Sprintf("%s would move from %s to %s: %s", item.object.workload, from, on, left)
	case from == on:
		s.would, s.message = wouldChange, fmt.Sprintf("what %s has on %s would change", item.object.workload, on)
	default:
		s.would, s.message = wouldChange, fmt.Sprintf("%s would be on %s, now on %s", item.object.workload, on, from)
	}
	return s
}

// suppositions returns those of one placement's workloads.
func (t *tally) suppositions() (s suppositions) {
	s = suppositions{would: t.would, unknown: t.unevaluated}
	for _, one := range t.supposed.upTo(maxExamples) {
		s.examples = append(s.examples, one.text)
	}
	return s
}

// n returns how many workloads would have another decision.
func (s *suppositions) n() (n int) {
	for _, of := range s.would {
		n += of
	}
	return n
}

// describe returns a summary of what would be decided, for example "Would place 3, move 1: ...".
func (s *suppositions) describe() string {
	var counts []string
	for _, o := range allWithheld {
		if n := s.would[o]; n > 0 {
			counts = append(counts, fmt.Sprintf("%s %d", o, n))
		}
	}
	if s.unknown > 0 {
		counts = append(counts, fmt.Sprintf("decide on %d that have not been looked at yet", s.unknown))
	}
	if len(counts) == 0 {
		return "Would change nothing."
	}
	text := "Would " + strings.Join(counts, ", ")
	if len(s.examples) > 0 {
		text += ": " + andMore(s.examples, s.n())
	}
	return text
}

// suspendedCondition returns condition Suspended of a placement that is suspended.
func suspendedCondition(p *placementState) *conditionsv1alpha1.Condition {
	s := p.suppositions()
	return isSuspended(p.suspension.reason, p.suspension.message+" "+s.describe())
}

func isSuspended(reason, message string) *conditionsv1alpha1.Condition {
	return &conditionsv1alpha1.Condition{Type: v1alpha1.SuspendedCondition, Status: corev1.ConditionTrue, Reason: reason, Message: shorten(message)}
}

// suspendedInAll returns condition Suspended of the PlacementConfig; nil if the workspace is not suspended.
func (w *workspace) suspendedInAll(placements []*placementState) *conditionsv1alpha1.Condition {
	reason, message := w.suspended(&v1alpha1.WorkloadPlacement{}, nil)
	if reason == "" {
		return nil
	}
	all := suppositions{would: map[withheld]int{}}
	for _, p := range placements {
		if p.suspension != nil {
			all.merge(p.suppositions())
		}
	}
	return isSuspended(reason, message+" "+all.describe())
}

func (s *suppositions) merge(o suppositions) {
	for what, n := range o.would {
		s.would[what] += n
	}
	s.unknown += o.unknown
	s.examples = append(s.examples, o.examples[:min(len(o.examples), maxExamples-len(s.examples))]...)
}

// countSuspended updates the metrics of how many placements are suspended, and what would be decided.
func (w *workspace) countSuspended(placements []*placementState) {
	suspended, all := 0, suppositions{would: map[withheld]int{}}
	for _, p := range placements {
		if p.suspension != nil {
			suspended++
			all.merge(p.suppositions())
		}
	}
	w.metrics.suspended.Add(float64(suspended - w.suspendedPlacements))
	for _, o := range allWithheld {
		w.metrics.supposed.WithLabelValues(string(o)).Add(float64(all.would[o] - w.wouldBe[o]))
	}
	w.suspendedPlacements, w.wouldBe = suspended, all.would
}
