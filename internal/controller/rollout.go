package controller

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
)

// Events of rollouts.
const (
	rolloutStepped    = "PolicyRolloutStepped"
	rolloutCompleted  = "PolicyRolloutCompleted"
	rolloutRolledBack = "PolicyRolledBack"
)

// followRollout takes the next step of the rollout of the shadow policies, the candidate, and determines which placements it decides for.
//
// Invariant: the candidate decides for more placements only once that is written in the status, so that a restart continues where it was;
// for fewer at once.
func (w *workspace) followRollout(placements []*placementState, r *result) {
	if w.rollout = w.nextRollout(r); w.rollout != nil {
		w.rollout.Placements = 0
	}
	for _, p := range placements {
		before := p.candidate
		p.candidate = w.rollout.Includes(p.object.UID) && w.config.rollout().Includes(p.object.UID) && w.config.rollout().Digest == w.rollout.Digest
		p.changed = p.changed || p.candidate != before
		if w.rollout.Includes(p.object.UID) {
			w.rollout.Placements++
		}
	}
}

// rollout returns the status of the rollout as last written.
func (c *placementConfig) rollout() *v1alpha1.PolicyRolloutStatus {
	switch {
	case c.object == nil:
		return nil
	case c.written != nil && c.basedOn == c.object.ResourceVersion:
		return c.written.Status.PolicyRollout
	default:
		return c.object.Status.PolicyRollout
	}
}

// nextRollout returns the status of the rollout from now on; nil if there is none.
func (w *workspace) nextRollout(r *result) *v1alpha1.PolicyRolloutStatus {
	config, s := w.config.object, &w.shadow
	if config == nil || config.Spec.PolicyRollout == nil || len(config.Spec.PolicyRollout.Steps) == 0 {
		return nil
	}
	spec, now := config.Spec.PolicyRollout, w.rollout
	switch {
	case s.compiled == nil && s.err == nil:
		return w.pending("", "There are no shadow policies: label ConfigMaps with "+v1alpha1.LabelPolicySet+": "+v1alpha1.PolicySetShadow)
	case s.compiled == nil:
		return w.pending("", "The candidate is refused: "+s.err.Error())
	case now == nil || now.Digest != s.compiled.Digest():
		now = w.pending(s.compiled.Digest(), "The candidate is being evaluated for the workloads that there are")
	}
	switch {
	case s.set != s.compiled && now.Percent > 0 && s.err != nil:
		return w.rolledBack(now, "the candidate fails: "+s.err.Error())
	case s.set != s.compiled && s.err != nil && now.Phase == v1alpha1.RolloutPending:
		return w.pending(now.Digest, "The candidate is refused: "+s.err.Error())
	case s.set != s.compiled || now.Phase == v1alpha1.RolloutRolledBack || now.Phase == v1alpha1.RolloutComplete:
		return now
	case now.Phase == v1alpha1.RolloutPending:
		if !w.loaded { // the number of waiting workloads is not known yet
			r.within(time.Second)
			return now
		}
		now.WaitingBefore, now.Moves = int32(w.index.waiting), 0
		return w.step(now, spec, 1)
	}
	if reason, _ := w.suspended(&v1alpha1.WorkloadPlacement{}, nil); reason != "" {
		return now // nothing can be learned from it
	}
	at := min(max(int(now.Step), 1), len(spec.Steps))
	if wait := now.Since.Add(spec.Steps[at-1].Pause.Duration).Sub(w.now()); wait > 0 {
		r.within(wait)
		return now
	}
	return w.step(now, spec, at+1)
}

// pending returns the status of a rollout that has not begun.
func (w *workspace) pending(digest, message string) *v1alpha1.PolicyRolloutStatus {
	return &v1alpha1.PolicyRolloutStatus{Digest: digest, Phase: v1alpha1.RolloutPending, Message: shorten(message)}
}

// step begins a step of a rollout; after the last one the rollout is complete.
func (w *workspace) step(now *v1alpha1.PolicyRolloutStatus, spec *v1alpha1.PolicyRollout, number int) *v1alpha1.PolicyRolloutStatus {
	next, event := now.DeepCopy(), rolloutStepped
	next.Since = &metav1.Time{Time: w.now().Truncate(time.Second)}
	if number <= len(spec.Steps) {
		step := spec.Steps[number-1]
		next.Phase, next.Step, next.Percent = v1alpha1.RolloutProgressing, int32(number), step.Percent
		next.Message = fmt.Sprintf("Step %d of %d: the candidate decides for %d %% of the placements, for %s", number, len(spec.Steps), step.Percent, step.Pause.Duration)
	} else {
		next.Phase, next.Percent, event = v1alpha1.RolloutComplete, 100, rolloutCompleted
		next.Message = shorten(fmt.Sprintf("The candidate decides for all placements. To finish, first delete the ConfigMaps of the policies that it replaces%s, then remove the label %s from %s: in this order no decision changes",
			namesOf(policy.OfSet(w.policiesShown, "")), v1alpha1.LabelPolicySet, examples(configMapNames(w.shadow.configMaps))))
	}
	w.event(w.config.object, corev1.EventTypeNormal, event, next.Message)
	return next
}

func namesOf(configMaps []*corev1.ConfigMap) string {
	if len(configMaps) == 0 {
		return ""
	}
	return " (" + examples(configMapNames(configMaps)) + ")"
}

func configMapNames(configMaps []*corev1.ConfigMap) (names []string) {
	for _, c := range configMaps {
		names = append(names, c.Namespace+"/"+c.Name)
	}
	return names
}

// rolledBack returns the status in which the policies in force decide for all placements again.
func (w *workspace) rolledBack(now *v1alpha1.PolicyRolloutStatus, why string) *v1alpha1.PolicyRolloutStatus {
	next := now.DeepCopy()
	next.Phase, next.Percent, next.Placements, next.Since = v1alpha1.RolloutRolledBack, 0, 0, &metav1.Time{Time: w.now().Truncate(time.Second)}
	next.Message = shorten(fmt.Sprintf("All placements are back with the policies in force, because %s. Change the candidate, or remove spec.policyRollout and write it again, to start anew", why))
	w.metrics.rolledBack.Inc()
	w.event(w.config.object, corev1.EventTypeWarning, rolloutRolledBack, next.Message)
	return next
}

// rollBack returns all placements to the policies in force within a pass. Whatever is still due in it is decided by them.
func (w *workspace) rollBack(placements []*placementState, why string, r *result) {
	w.rollout = w.rolledBack(w.rollout, why)
	for _, p := range placements {
		p.changed = p.changed || p.candidate
		p.candidate = false
	}
	r.again = true
}

// limitRollout returns all placements to the policies in force if the rollout has exceeded a limit.
func (w *workspace) limitRollout(placements []*placementState, r *result) {
	now, config := w.rollout, w.config.object
	if now == nil || now.Phase != v1alpha1.RolloutProgressing || config == nil || config.Spec.PolicyRollout == nil || config.Spec.PolicyRollout.Limits == nil {
		return
	}
	limits, workloads := config.Spec.PolicyRollout.Limits, 0
	for _, p := range placements {
		workloads += p.workloads
	}
	if limits.Moves != nil && now.Moves > *limits.Moves {
		w.rollBack(placements, fmt.Sprintf("%d workloads have lost a cluster, more than %d", now.Moves, *limits.Moves), r)
		return
	}
	if limits.Waiting == nil {
		return
	}
	more, err := intstr.GetScaledValueFromIntOrPercent(limits.Waiting, workloads, false)
	if rise := w.index.waiting - int(now.WaitingBefore); err == nil && rise > more {
		w.rollBack(placements, fmt.Sprintf("%d workloads wait, %d more than when the rollout began, where %s more may", w.index.waiting, rise, limits.Waiting), r)
	}
}

// failsFor returns all placements to the policies in force if the candidate fails for a workload, and reports whether it did so.
func (p *pass) failsFor(item *workItem, err error) bool {
	if !item.owner.candidate {
		return false
	}
	p.rollBack(p.placements, fmt.Sprintf("the candidate fails for %s: %v", item.object.workload, err), p.result)
	return true
}
