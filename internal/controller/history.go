package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
)

// move has a workload leave clusters for another reason than what they are.
type move struct {
	// leave are the clusters, into the only ones that it may go to unless it is nil, and minGain by how many points these have to be
	// better.
	leave, into []string
	minGain     int64
	reason      v1alpha1.ChangeReason
	message     string
}

// ask has a request be that for the move; nil asks for none.
func (m *move) ask(r *engine.Request) {
	if m == nil {
		return
	}
	for _, name := range m.leave {
		if slices.ContainsFunc(r.Current, func(c engine.Choice) bool { return c.Name == name }) {
			r.Leave = append(r.Leave, engine.Verdict{Cluster: name, Rejection: &filter.Rejection{Stage: filter.Stage(m.reason), Message: m.message}})
		}
	}
	r.Into, r.MinGain = m.into, m.minGain
}

// reasons are why a workload leaves clusters, by the stage that rejects them. It is rescheduled for all others.
var reasons = map[filter.Stage]v1alpha1.ChangeReason{
	filter.Registration:                     v1alpha1.ChangeFailover,
	filter.Ready:                            v1alpha1.ChangeFailover,
	filter.Taint:                            v1alpha1.ChangeEvicted,
	engine.NumberOfClusters:                 v1alpha1.ChangeScaled,
	engine.Replicas:                         v1alpha1.ChangeScaled,
	filter.Stage(v1alpha1.ChangeGain):       v1alpha1.ChangeGain,
	filter.Stage(v1alpha1.ChangeRebalanced): v1alpha1.ChangeRebalanced,
	filter.Unschedulable:                    v1alpha1.ChangeDrained, // what runs leaves a cluster only if it is drained
}

// countMove counts the last change of a decision where a cluster is left by it.
func (m *metrics) countMove(before, after []v1alpha1.DecisionChange) {
	if len(after) > 0 && len(after[0].From) > 0 && (len(before) == 0 || !after[0].At.Equal(&before[0].At)) {
		m.moves.WithLabelValues(string(after[0].Reason)).Inc()
	}
}

// historyOf is the history of a workload with what a decision changes, the last change first. It is written with the decision.
func historyOf(item *workItem, d *engine.Decision, after []v1alpha1.ClusterDecision, now time.Time) []v1alpha1.DecisionChange {
	history := item.stored.History
	if !item.found {
		history = item.attempt.history
	}
	// In whole seconds, which is how it is written, and not before it is: cool-downs and budgets follow from it.
	c := v1alpha1.DecisionChange{At: metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second))}
	c.From, c.To = without(item.stored.Clusters, after), without(after, item.stored.Clusters)
	if len(c.From)+len(c.To) == 0 {
		return history
	}
	c.Reason, c.Message = changeReason(item, d, &c)
	c.From, c.To = c.From[:min(len(c.From), v1alpha1.MaxChangedClusters)], c.To[:min(len(c.To), v1alpha1.MaxChangedClusters)]
	return append([]v1alpha1.DecisionChange{c}, history[:min(len(history), v1alpha1.MaxChanges-1)]...)
}

// without are the clusters that are not among others.
func without(clusters, others []v1alpha1.ClusterDecision) (names []string) {
	for i := range clusters {
		if name := clusters[i].Name; !slices.ContainsFunc(others, func(o v1alpha1.ClusterDecision) bool { return o.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// changeReason says why a decision changes clusters, in a word and for people: for what the first cluster is left, but for those that are
// left since fewer are asked for.
func changeReason(item *workItem, d *engine.Decision, c *v1alpha1.DecisionChange) (v1alpha1.ChangeReason, string) {
	switch {
	case !item.found:
		return v1alpha1.ChangePlaced, ""
	case len(c.From) == 0:
		return v1alpha1.ChangeAdded, ""
	}
	reason, messages := v1alpha1.ChangeScaled, []string(nil)
	for _, v := range d.Left {
		if of := cmp.Or(reasons[v.Rejection.Stage], v1alpha1.ChangeRescheduled); reason == v1alpha1.ChangeScaled {
			reason = of
		}
		messages = append(messages, v.Cluster+": "+v.Rejection.Message)
	}
	if item.returnTo != "" && d.Group == item.returnTo {
		reason = v1alpha1.ChangeReturned
		messages = slices.Insert(messages, 0, fmt.Sprintf("group %s has a place for it again", d.Group))
	}
	return reason, shortenTo(strings.Join(messages, "; "), maxChangeMessage)
}

// maxChangeMessage bounds what is said of one change in runes, so that it fits into its field.
const maxChangeMessage = 250
