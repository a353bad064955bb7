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

// move makes a workload leave clusters for a reason other than the state of the clusters.
type move struct {
	// leave are the clusters to leave; into, unless nil, are the only ones that it may move to; minGain is by how many points these have to
	// be better.
	leave, into []string
	minGain     int64
	reason      v1alpha1.ChangeReason
	message     string
}

// ask sets the move in a request; a nil move asks for nothing.
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

// reasons maps the stage that rejects a cluster to the reason for leaving it. Any other stage means Rescheduled.
var reasons = map[filter.Stage]v1alpha1.ChangeReason{
	filter.Registration:                     v1alpha1.ChangeFailover,
	filter.Ready:                            v1alpha1.ChangeFailover,
	filter.Taint:                            v1alpha1.ChangeEvicted,
	engine.NumberOfClusters:                 v1alpha1.ChangeScaled,
	engine.Replicas:                         v1alpha1.ChangeScaled,
	filter.Stage(v1alpha1.ChangeGain):       v1alpha1.ChangeGain,
	filter.Stage(v1alpha1.ChangeRebalanced): v1alpha1.ChangeRebalanced,
	filter.Unschedulable:                    v1alpha1.ChangeDrained, // running workloads leave such a cluster only if it is drained
}

// countMove counts the latest change of a decision if a cluster is left by it.
func (m *metrics) countMove(before, after []v1alpha1.DecisionChange) {
	if len(after) > 0 && len(after[0].From) > 0 && (len(before) == 0 || !after[0].At.Equal(&before[0].At)) {
		m.moves.WithLabelValues(string(after[0].Reason)).Inc()
	}
}

// historyOf returns the history of a workload with the change that a decision makes, newest first. It is written with the decision.
func historyOf(item *workItem, d *engine.Decision, after []v1alpha1.ClusterDecision, now time.Time) []v1alpha1.DecisionChange {
	history := item.stored.History
	if !item.found {
		history = item.attempt.history
	}
	// In whole seconds, as it is written, and never before now: cool-downs and budgets follow from it.
	c := v1alpha1.DecisionChange{At: metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second))}
	c.From, c.To = without(item.stored.Clusters, after), without(after, item.stored.Clusters)
	if len(c.From)+len(c.To) == 0 {
		return history
	}
	c.Reason, c.Message = changeReason(item, d, &c)
	c.From, c.To = c.From[:min(len(c.From), v1alpha1.MaxChangedClusters)], c.To[:min(len(c.To), v1alpha1.MaxChangedClusters)]
	return append([]v1alpha1.DecisionChange{c}, history[:min(len(history), v1alpha1.MaxChanges-1)]...)
}

// without returns the clusters that are not among others.
func without(clusters, others []v1alpha1.ClusterDecision) (names []string) {
	for i := range clusters {
		if name := clusters[i].Name; !slices.ContainsFunc(others, func(o v1alpha1.ClusterDecision) bool { return o.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// changeReason returns why a decision changes clusters, as a reason and as a message: why the first cluster is left, ignoring those that
// are left because fewer are asked for.
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

// maxChangeMessage bounds the message of one change, in runes, so that it fits into its field.
const maxChangeMessage = 250
