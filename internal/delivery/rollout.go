package delivery

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Rollout is a workload with what is wanted of it and what runs.
type Rollout struct {
	*Assignment
	// Copies are those in Works, by cluster.
	Copies map[string]*Copy
	// Clusters are those that may deliver, by name.
	Clusters map[string]*Cluster
	// Problems keep something of it from being delivered, the worst first.
	Problems []Problem

	spec *workloadSpec
	kind *kindStatus
}

// Finding is a condition without its times.
type Finding struct {
	Status  corev1.ConditionStatus
	Reason  string
	Message string
}

// maxMessage bounds the messages of conditions in bytes, maxClusterMessage those in decisions about a cluster.
const (
	maxMessage        = 2000
	maxClusterMessage = 512
)

// delivered returns the targets that are delivered to. To the others, somebody else brings workloads.
func (r *Rollout) delivered() []Target {
	return slices.DeleteFunc(slices.Clone(r.Targets), func(t Target) bool { return !r.delivers(t.Cluster) })
}

func (r *Rollout) delivers(cluster string) bool {
	c := r.Clusters[cluster]
	return c != nil && c.Delivers || r.Copies[cluster] != nil
}

// Applied reports whether a cluster has the revision made from the current workload.
func (r *Rollout) Applied(cluster string) bool {
	c := r.Copies[cluster]
	return c != nil && c.Manifest != nil && c.Manifest.Generation == r.Generation && c.Health() != v1alpha1.HealthPending
}

// Ready reports whether a cluster runs as many replicas of the current workload as decided, and all are ready; for a Job, whether
// it has succeeded. The agent's reports have to be consistent.
func (r *Rollout) Ready(t Target) bool {
	if !r.Applied(t.Cluster) {
		return false
	}
	c := r.Copies[t.Cluster]
	if c.Health() != v1alpha1.HealthCurrent {
		return false
	}
	kind := r.kindStatus()
	if kind.ready == nil {
		return true
	}
	n, want := c.Counts(), t.Replicas
	if c.Manifest.Scaled {
		want = n.Desired
	}
	return kind.ready(r, &n, want)
}

// kindStatus returns how the status of the workload's kind is made; the zero value if it is not.
func (r *Rollout) kindStatus() *kindStatus {
	if r.kind == nil {
		kind := statuses[schema.FromAPIVersionAndKind(r.APIVersion, r.Kind).GroupKind()]
		r.kind = &kind
	}
	return r.kind
}

func (r *Rollout) specification() *workloadSpec {
	if r.spec == nil {
		r.spec = specOf(r.Manifest)
	}
	return r.spec
}

// On returns how the delivery to one of its clusters is going; nil if it is not delivered there.
func (r *Rollout) On(t Target) *v1alpha1.ClusterDelivery {
	if !r.delivers(t.Cluster) {
		return nil
	}
	d := &v1alpha1.ClusterDelivery{Health: v1alpha1.HealthPending}
	if c := r.Copies[t.Cluster]; c != nil && c.Manifest != nil {
		d.Health = c.Health()
		if d.Health == v1alpha1.HealthCurrent && !r.Ready(t) {
			d.Health = v1alpha1.HealthInProgress
		}
	}
	if wrong := r.wrongOn(t); wrong != nil {
		d.Message = Clean(wrong.Message, maxClusterMessage)
	} else if c := r.Copies[t.Cluster]; d.Health != v1alpha1.HealthCurrent && c != nil && c.Status != nil {
		d.Message = Clean(c.Status.Message, maxClusterMessage)
	}
	return d
}

// wrongOn returns the first problem on one of the clusters; nil if there is none.
func (r *Rollout) wrongOn(t Target) *Problem {
	for _, p := range r.Problems {
		if p.Cluster == t.Cluster || p.Cluster == "" {
			return &p
		}
	}
	c, cluster := r.Copies[t.Cluster], r.Clusters[t.Cluster]
	health, message, wrong := v1alpha1.HealthPending, "", false
	if c != nil && c.Manifest != nil {
		if health = c.Health(); c.Status != nil {
			message, wrong = c.Status.Message, c.Status.Wrong
		}
	}
	switch {
	case health == v1alpha1.HealthFailed:
		return &Problem{Cluster: t.Cluster, Reason: v1alpha1.FailedReason, Message: cmp.Or(message, "a controller of the cluster has given up")}
	case wrong && health == v1alpha1.HealthPending:
		return &Problem{Cluster: t.Cluster, Reason: v1alpha1.NotAppliedReason, Message: message}
	case wrong:
		return &Problem{Cluster: t.Cluster, Reason: v1alpha1.UnhealthyReason, Message: message}
	case cluster != nil && (cluster.Silent || cluster.Lost):
		return &Problem{Cluster: t.Cluster, Reason: v1alpha1.ClusterSilentReason,
			Message: "the agent of the cluster is silent, and this is the state that it told last"}
	case c == nil || c.Manifest == nil || cluster != nil && cluster.Delivers:
		return nil
	default:
		return &Problem{Cluster: t.Cluster, Reason: v1alpha1.ClusterSilentReason, Message: "the agent of the cluster does not deliver any more"}
	}
}

// gravity orders problems on several clusters.
var gravity = []string{v1alpha1.FailedReason, v1alpha1.NotAppliedReason, v1alpha1.UnhealthyReason, v1alpha1.ClusterSilentReason}

// Wrong returns the first problem with the delivery of the workload; nil if there is none.
func (r *Rollout) Wrong() *Problem {
	if len(r.Problems) > 0 {
		return &r.Problems[0]
	}
	var worst *Problem
	for _, t := range r.Targets {
		if p := r.wrongOn(t); r.delivers(t.Cluster) && p != nil && (worst == nil || slices.Index(gravity, p.Reason) < slices.Index(gravity, worst.Reason)) {
			worst = p
		}
	}
	return worst
}

// String returns the problem as a sentence that names the cluster.
func (p *Problem) String() string {
	if p.Cluster == "" {
		return Clean(p.Message, maxMessage)
	}
	return Clean(p.Cluster+": "+p.Message, maxMessage)
}

// Delivered returns condition Delivered of the workload; nil if it has none.
func (r *Rollout) Delivered() *Finding {
	targets := r.delivered()
	switch wrong := r.Wrong(); {
	case r.State == Unselected && len(r.Copies) > 0:
		return &Finding{corev1.ConditionUnknown, v1alpha1.UnselectedReason, "no placement selects it: " + r.kept()}
	case r.State == Waiting && len(r.Copies) > 0:
		return &Finding{corev1.ConditionFalse, v1alpha1.NotPlacedReason, r.notPlaced() + "; what runs is being removed from " + names(r.Copies)}
	case r.State == Waiting:
		return &Finding{corev1.ConditionFalse, v1alpha1.NotPlacedReason, r.notPlaced()}
	case r.State != Decided:
		return nil
	case len(targets) == 0:
		return &Finding{corev1.ConditionUnknown, v1alpha1.DeliveredByOthersReason, "others bring it to its clusters"}
	case wrong != nil && wrong.Reason == v1alpha1.ClusterSilentReason:
		return &Finding{corev1.ConditionUnknown, wrong.Reason, wrong.String()}
	case wrong != nil:
		return &Finding{corev1.ConditionFalse, wrong.Reason, wrong.String()}
	default:
		return r.progress(targets)
	}
}

// progress returns the condition for a workload without problems.
func (r *Rollout) progress(targets []Target) *Finding {
	var ready, behind []string
	message := ""
	for _, t := range targets {
		if r.Ready(t) {
			ready = append(ready, t.Cluster)
			continue
		}
		behind = append(behind, t.Cluster)
		if d := r.On(t); message == "" && d.Message != "" {
			message = ": " + t.Cluster + ": " + d.Message
		}
	}
	if len(behind) == 0 {
		return &Finding{corev1.ConditionTrue, "Ready", Clean("on "+strings.Join(ready, ", "), maxMessage)}
	}
	return &Finding{corev1.ConditionFalse, v1alpha1.InProgressReason, Clean("on its way to "+strings.Join(behind, ", ")+message, maxMessage)}
}

func (r *Rollout) kept() string {
	for _, c := range r.Copies {
		if c.Manifest != nil && c.Manifest.WhenUnselected == v1alpha1.RemoveUnselected || c.Manifest == nil {
			return "it is being removed from " + names(r.Copies)
		}
	}
	return "it is kept as it was on " + names(r.Copies)
}

func (r *Rollout) notPlaced() string {
	if r.Placement == nil {
		return "no cluster is found for it"
	}
	return fmt.Sprintf("no cluster is found for it: WorkloadPlacement %s says why", r.Placement.Name)
}

func names(copies map[string]*Copy) string {
	return Clean(strings.Join(slices.Sorted(maps.Keys(copies)), ", "), maxMessage/2)
}

// Clean makes foreign text safe to show: on one line, without control characters, of bounded length in bytes.
func Clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsGraphic(r):
			return r
		default:
			return -1 // control and format characters, which can reorder text on a terminal
		}
	}, strings.ToValidUTF8(text[:min(len(text), 4*most)], ""))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}
