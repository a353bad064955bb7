package controller

import (
	"fmt"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
)

// disruptionsPaced is the reason of the condition and of the event.
const disruptionsPaced = "DisruptionsPaced"

// mayDisrupt reports whether the brake lets a workload of a placement lose a cluster now.
func (p *pass) mayDisrupt(owner *placementState) bool {
	return owner.object.DisruptsAtOnce() || p.brake.Allows(p.began, p.placedBefore)
}

// countDisruption counts a workload of a placement that has lost a cluster. by is the decision, nil if no decision took the cluster away.
func (p *pass) countDisruption(owner *placementState, by *engine.Decision) {
	owner.disrupted++
	p.metrics.disruptions.Inc()
	if owner.candidate {
		p.rollout.Moves++
	}
	if owner.object.DisruptsAtOnce() || by != nil && p.overdue(by) {
		return
	}
	p.brake.Disrupted(p.began)
	if by != nil && p.failsOver(by) {
		p.slowed.Disrupted(p.began)
	}
}

// waitsItsTurn reports whether a workload that is to lose a cluster keeps what it has for now, because of the brake or because much of
// the fleet is silent.
func (p *pass) waitsItsTurn(item *workItem, due *engine.Decision) bool {
	if !due.Disrupts() || item.owner.suspension != nil {
		return false
	}
	if p.holdsBack(item.owner, due) {
		item.owner.heldBack++
	} else if p.mayDisrupt(item.owner) || p.overdue(due) {
		return false
	}
	item.paced = true
	return true
}

// releaseUnowned releases the decisions on workloads that no placement selects any more; at the pace of disruptions as long as the
// placement that they were decided for exists.
func (p *pass) releaseUnowned(items []*workItem) {
	owners := make(map[types.NamespacedName]*placementState, len(p.placements))
	for _, state := range p.placements {
		owners[namespacedName(state.object)] = state
	}
	for _, item := range items {
		p.index.drop(item)
		p.index.setClusters(item, item.clusters())
		_, by, _ := p.store.get(item.key)
		owner := owners[by]
		switch {
		case !item.found:
		case owner == nil || item.object.end != "" || item.stale:
			p.release(item.key)
		case owner.suspension != nil:
			item.enter(account{to: owner, would: wouldWithdraw, supposed: fmt.Sprintf("%s would leave %s: the placement does not select it any more",
				item.object.workload, strings.Join(clusterNames(item.stored.Clusters), ", "))})
			p.index.add(item, leftOver)
		case p.mayDisrupt(owner):
			p.release(item.key)
			p.countDisruption(owner, nil)
			p.event(item.object, corev1.EventTypeNormal, "Withdrawn", fmt.Sprintf("left %v: WorkloadPlacement %s does not select it any more", clusterNames(item.stored.Clusters), by.Name))
		default:
			item.enter(account{to: owner, paced: item.object.workload.String()})
			p.index.add(item, leftOver)
		}
	}
}

// pace determines which placements have workloads that wait their turn, and asks for the pass in which the next turn comes.
func (p *pass) pace() {
	moved := map[types.UID]int{}
	for _, owner := range p.placements {
		if owner.paced.Len() == 0 {
			continue
		}
		uid := owner.object.UID
		_, before := p.moved[uid]
		moved[uid] = p.moved[uid] + owner.disrupted
		var next time.Time
		owner.pacing, owner.pacedFor, next = p.pacing(owner, moved[uid])
		if !before {
			p.event(owner.object, corev1.EventTypeWarning, owner.pacedFor, owner.pacing)
		}
		if !next.IsZero() {
			p.result.within(max(next.Sub(p.now()), time.Millisecond))
		}
	}
	p.moved = moved
}

// pacing returns why workloads of a placement wait their turn, and when the next one goes; the zero time if waiting alone does not help.
func (p *pass) pacing(owner *placementState, moved int) (message, reason string, next time.Time) {
	brake, why, reason := &p.brake, "", disruptionsPaced
	if owner.heldBack > 0 {
		reason = p.loss.failover.reason()
		if p.loss.failover == failoverStopped {
			return fmt.Sprintf("%s. %d workloads stay on lost clusters. They are: %s", &p.loss, owner.heldBack, &owner.paced), reason, next
		}
		brake, why = &p.slowed, p.loss.String()+". "
	}
	next = brake.Next(p.began, p.placedBefore)
	return why + fmt.Sprintf("%d workloads have lost a cluster, %d wait for their turn: at most %s in this workspace, the next at %s. Annotation %s: %s on the placement lets them go at once. They are: %s",
		moved, owner.paced.Len(), brake.String(p.placedBefore), next.UTC().Format(time.RFC3339),
		v1alpha1.AnnotationDisruptions, v1alpha1.DisruptionsUnlimited, &owner.paced), reason, next
}

// wakeForEvictions asks for a pass when the next toleration ends.
func (p *pass) wakeForEvictions() {
	now := p.now()
	for _, row := range p.engine.Snapshot(p.name).Rows() {
		if filter.Timeless(row) {
			continue
		}
		for _, state := range p.placements {
			if state.placement == nil {
				continue
			}
			for _, by := range append([]*placement.Placement{state.placement}, state.tolerates()...) {
				if until := filter.NextEnd(by, row, now); !until.IsZero() {
					p.result.within(until.Sub(now))
				}
			}
		}
	}
}

// disruptionAllowed returns condition DisruptionAllowed, nil for a placement that never had to wait.
func disruptionAllowed(current *conditionsv1alpha1.Condition, p *placementState) *conditionsv1alpha1.Condition {
	switch {
	case p.pacing != "":
		return conditions.FalseCondition(v1alpha1.DisruptionAllowedCondition, p.pacedFor, conditionsv1alpha1.ConditionSeverityInfo, "%s", shorten(p.pacing))
	case current != nil:
		return conditions.TrueCondition(v1alpha1.DisruptionAllowedCondition)
	default:
		return nil
	}
}
