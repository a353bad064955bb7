package delivery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func deploymentReady(_ *Rollout, n *v1alpha1.WorkloadCounts, want int32) bool {
	return n.Replicas == want && n.Updated == want && n.Available == want
}

func (s *status) fillDeployment() {
	progressing, renewed := s.progressing()
	s.count(map[string]int32{
		"replicas": s.total.Replicas, "updatedReplicas": s.total.Updated, "readyReplicas": s.total.Ready, "availableReplicas": s.total.Available,
		"unavailableReplicas": max(0, s.wanted-s.total.Available),
	})
	reads := s.total.Updated >= ptr.Deref(s.specification().Replicas, 0) && s.total.Replicas <= s.total.Updated && s.total.Available >= s.total.Updated
	s.observe(reads, progressing != nil && progressing.Status == corev1.ConditionFalse)
	if s.State == Unselected {
		return
	}
	available := Finding{corev1.ConditionFalse, "MinimumReplicasUnavailable", "not every cluster has as many replicas available as an update leaves"}
	if s.available {
		available = Finding{corev1.ConditionTrue, "MinimumReplicasAvailable", "every cluster has as many replicas available as an update leaves"}
	}
	s.set("Available", available)
	if progressing != nil {
		s.turned = s.turned || progressing.Status == corev1.ConditionFalse && s.findingReason("Progressing") != progressing.Reason
		s.set("Progressing", *progressing)
		if renewed {
			s.renew("Progressing")
		}
	}
}

// Reasons of condition Progressing, as set by the Deployment controller.
const (
	rolledOut    = "NewReplicaSetAvailable"
	rollingOut   = "ReplicaSetUpdated"
	timedOut     = "ProgressDeadlineExceeded"
	rolloutPause = "DeploymentPaused"
)

// defaultProgressDeadline is the default for Deployments, in seconds.
const defaultProgressDeadline = 600

// progressing returns condition Progressing of a decided Deployment, and whether it has made progress since that was last written.
func (s *status) progressing() (progressing *Finding, renewed bool) {
	generation := fmt.Sprintf("generation %d ", s.Generation)
	before := s.finding("Progressing")
	since := s.updated("Progressing")
	deadline := time.Duration(ptr.Deref(s.specification().ProgressDeadlineSeconds, defaultProgressDeadline)) * time.Second
	switch {
	case s.State != Decided:
		return nil, false
	case s.done:
		return &Finding{corev1.ConditionTrue, rolledOut, generation + "runs as it is decided"}, false
	case s.specification().Paused:
		return &Finding{corev1.ConditionUnknown, rolloutPause, generation + "is paused"}, false
	case s.failed:
		return &Finding{corev1.ConditionFalse, timedOut, Clean(generation+"has failed: "+s.Wrong().String(), maxMessage)}, false
	case before == nil || !strings.HasPrefix(before.Message, generation) || before.Reason != rollingOut && before.Reason != timedOut || s.advanced():
		s.again = deadline
		return &Finding{corev1.ConditionTrue, rollingOut, generation + "is being rolled out"}, true
	case before.Reason == timedOut:
		return before, false
	case s.now.Sub(since) < deadline:
		s.again = deadline - s.now.Sub(since)
		return before, false
	default:
		return &Finding{corev1.ConditionFalse, timedOut, Clean(fmt.Sprintf("%shas made no progress for %s: %s", generation, deadline, s.Delivered().Message), maxMessage)}, false
	}
}

// advanced reports whether more pods are new, ready or available than the status records, or fewer old ones are left.
func (s *status) advanced() bool {
	before := func(field string) int32 {
		n, _ := s.current[field].(int64)
		return int32(min(max(n, 0), maxCount*1000))
	}
	return s.total.Updated > before("updatedReplicas") || s.total.Ready > before("readyReplicas") || s.total.Available > before("availableReplicas") ||
		s.total.Replicas-s.total.Updated < before("replicas")-before("updatedReplicas")
}

// maxUnavailable returns how many of the replicas an update may leave unavailable.
func (spec *workloadSpec) maxUnavailable(replicas int32) int32 {
	if spec.Strategy.Type != "" && spec.Strategy.Type != "RollingUpdate" {
		return 0
	}
	most := intstr.FromString("25%")
	if given := spec.Strategy.RollingUpdate.MaxUnavailable; given != nil {
		most = *given
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&most, int(replicas), false)
	if err != nil {
		return 0
	}
	return int32(min(max(n, 0), int(replicas)))
}

func statefulSetReady(r *Rollout, n *v1alpha1.WorkloadCounts, want int32) bool {
	return n.Replicas == want && n.Ready == want && n.Updated >= want-max(0, r.specification().UpdateStrategy.RollingUpdate.Partition)
}

func (s *status) fillStatefulSet() {
	old := s.total.Replicas - s.total.Updated
	if s.done {
		old = s.total.Replicas // the update has become the current revision
	}
	s.count(map[string]int32{
		"replicas": s.total.Replicas, "updatedReplicas": s.total.Updated, "readyReplicas": s.total.Ready, "availableReplicas": s.total.Available,
		"currentReplicas": old,
	})
	s.observe(s.total.Ready >= ptr.Deref(s.specification().Replicas, 0), false)
}

func daemonSetReady(_ *Rollout, n *v1alpha1.WorkloadCounts, _ int32) bool {
	return n.Updated >= n.Desired && n.Available >= n.Desired
}

func (s *status) fillDaemonSet() {
	s.count(map[string]int32{
		"desiredNumberScheduled": s.total.Desired, "currentNumberScheduled": s.total.Replicas, "updatedNumberScheduled": s.total.Updated,
		"numberReady": s.total.Ready, "numberAvailable": s.total.Available, "numberUnavailable": max(0, s.total.Desired-s.total.Available),
		"numberMisscheduled": 0,
	})
	s.observe(s.total.Updated >= s.total.Desired && s.total.Available >= s.total.Desired, false)
}

func replicaSetReady(_ *Rollout, n *v1alpha1.WorkloadCounts, want int32) bool {
	return n.Replicas == want && n.Available == want
}

func (s *status) fillReplicaSet() {
	s.count(map[string]int32{
		"replicas": s.total.Replicas, "fullyLabeledReplicas": s.total.Replicas, "readyReplicas": s.total.Ready, "availableReplicas": s.total.Available,
	})
	s.observe(s.total.Available >= ptr.Deref(s.specification().Replicas, 0), false)
}

// jobSucceeded: a Job has a completionTime only once it has succeeded.
func jobSucceeded(_ *Rollout, n *v1alpha1.WorkloadCounts, _ int32) bool {
	return n.CompletionTime != nil
}

// fillJob sums up a Job. It is Complete or Failed only once it is over on all of its clusters and no completions wait for one,
// since that is final.
func (s *status) fillJob() {
	start, _ := s.current["startTime"].(string)
	if start == "" && s.total.StartTime != nil {
		start = stamp(s.notLater(s.total.StartTime))
	}
	if start != "" {
		s.fields["startTime"] = start
	}
	over := s.State == Decided && s.finished && start != "" && !slices.ContainsFunc(s.Problems, func(p Problem) bool { return p.Reason == v1alpha1.NotPlacedReason })
	if over {
		s.total.Active, s.total.Ready = 0, 0
	}
	s.count(map[string]int32{"active": s.total.Active, "ready": s.total.Ready, "succeeded": s.total.Succeeded, "failed": s.total.Failed})
	switch {
	case !over:
	case s.failed:
		for _, kind := range []string{"FailureTarget", "Failed"} {
			s.set(kind, Finding{corev1.ConditionTrue, v1alpha1.FailedReason, s.Wrong().String()})
		}
	default:
		// The end must not be before the start.
		s.fields["completionTime"] = max(start, stamp(s.notLater(s.total.CompletionTime)))
		for _, kind := range []string{"SuccessCriteriaMet", "Complete"} {
			s.set(kind, Finding{corev1.ConditionTrue, "CompletionsReached", "succeeded on every cluster"})
		}
	}
	s.turned = s.turned || over
}

// notLater returns a time that an agent reports, or now if that is in the future.
func (s *status) notLater(t *metav1.Time) time.Time {
	if t.After(s.now) {
		return s.now
	}
	return t.Time
}
