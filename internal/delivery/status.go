package delivery

import (
	"encoding/json"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	kubejson "k8s.io/apimachinery/pkg/util/json"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Update is a change of a workload's status.
type Update struct {
	// Status holds the status fields to be written, as a merge patch; nil if nothing changes.
	Status map[string]any
	// Turned is set if the workload becomes ready or something goes wrong, which should be written without delay.
	Turned bool
	// Delivered is the new condition Delivered, Before the old one; nil if there is none.
	Delivered, Before *Finding
	// Again is when the status changes though nothing else does; 0 is never.
	Again time.Duration
}

// kindStatus is how the status of a kind is made from the reports of clusters.
type kindStatus struct {
	// ready reports whether a cluster with these counts runs what is wanted there.
	ready func(r *Rollout, n *v1alpha1.WorkloadCounts, want int32) bool
	// fill sets the fields of the status except condition Delivered.
	fill func(s *status)
}

// statuses are the kinds whose status is written. Others keep theirs, and only decisions report on them.
var statuses map[schema.GroupKind]kindStatus

func init() {
	statuses = map[schema.GroupKind]kindStatus{
		{Group: "apps", Kind: "Deployment"}:        {deploymentReady, (*status).fillDeployment},
		{Group: "apps", Kind: "StatefulSet"}:       {statefulSetReady, (*status).fillStatefulSet},
		{Group: "apps", Kind: "DaemonSet"}:         {daemonSetReady, (*status).fillDaemonSet},
		{Group: "apps", Kind: "ReplicaSet"}:        {replicaSetReady, (*status).fillReplicaSet},
		{Group: "", Kind: "ReplicationController"}: {replicaSetReady, (*status).fillReplicaSet},
		{Group: "batch", Kind: "Job"}:              {jobSucceeded, (*status).fillJob},
	}
}

// workloadSpec is the part of a workload's spec that its status depends on.
type workloadSpec struct {
	Replicas                *int32 `json:"replicas"`
	Paused                  bool   `json:"paused"`
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds"`
	Strategy                struct {
		Type          string `json:"type"`
		RollingUpdate struct {
			MaxUnavailable *intstr.IntOrString `json:"maxUnavailable"`
		} `json:"rollingUpdate"`
	} `json:"strategy"`
	UpdateStrategy struct {
		RollingUpdate struct {
			Partition int32 `json:"partition"`
		} `json:"rollingUpdate"`
	} `json:"updateStrategy"`
}

func specOf(manifest []byte) *workloadSpec {
	var object struct {
		Spec workloadSpec `json:"spec"`
	}
	_ = json.Unmarshal(manifest, &object) // what does not fit its type is left out: a cluster rejects it and reports that
	return &object.Spec
}

// status is the status of a workload in the making.
type status struct {
	*Rollout
	now time.Time
	// current is the present status, fields the ones that are set.
	current, fields map[string]any
	conditionList
	sums
	again time.Duration
}

// Status returns what changes in the workload's own status.
//
// Invariant: observedGeneration is the workload's generation only if every cluster that it is delivered to has applied that
// generation, and not while the sums look complete though a cluster is not. With 3 replicas on each of two clusters, the
// sums reach 3 as soon as the first is done.
func (r *Rollout) Status(now time.Time) Update {
	kind := r.kindStatus()
	delivered := r.Delivered()
	if r.State == Unknown || r.Deleting || delivered == nil {
		return Update{}
	}
	if kind.fill == nil {
		return Update{Delivered: delivered}
	}
	s := &status{Rollout: r, now: now, current: map[string]any{}, fields: map[string]any{}}
	_ = kubejson.Unmarshal(r.Source.Status, &s.current) // a status that is not an object is replaced
	s.conditionList = conditionsOf(s.current, r.Kind == "Deployment", now)
	before := s.finding(v1alpha1.DeliveredCondition)
	switch {
	case len(r.Copies) == 0 && (delivered.Reason == v1alpha1.NotPlacedReason && before == nil ||
		delivered.Reason == v1alpha1.DeliveredByOthersReason && (before == nil || before.Reason == delivered.Reason)):
		return Update{} // nothing of it is delivered, and others may write its status
	case s.isTrue("Complete") || s.isTrue("Failed"):
		return Update{} // a Job that has ended
	}
	s.sums = r.sum()
	kind.fill(s)
	s.set(v1alpha1.DeliveredCondition, *delivered)
	u := Update{Delivered: delivered, Before: before, Again: s.again}
	differs := s.changed
	for field, value := range s.fields {
		differs = differs || !same(s.current[field], value)
	}
	if differs {
		s.fields["conditions"] = s.all
		u.Status = s.fields
		u.Turned = s.turned || delivered.Reason != v1alpha1.InProgressReason && (before == nil || before.Reason != delivered.Reason)
	}
	return u
}

// same reports whether a field has a value. Servers omit numbers that are 0.
func same(current, value any) bool {
	return current == nil && value == int64(0) || reflect.DeepEqual(current, value)
}

// sums are the totals over clusters.
type sums struct {
	total v1alpha1.WorkloadCounts
	// wanted is how many replicas all clusters are to run.
	wanted int32
	// applied is set if every cluster has this generation, ready if each also runs what is decided, done if that matches
	// the spec. failed is set if the controller of a cluster has given up, finished if each has succeeded or failed.
	applied, ready, done, failed, finished bool
	// available is set if each cluster has as many replicas available as an update must leave.
	available bool
}

// maxCount bounds the numbers that an agent can report, so that the sum over all clusters does not overflow.
const maxCount = 1_000_000

// Counts returns the plausible part of what an agent reports of a copy.
func (c *Copy) Counts() v1alpha1.WorkloadCounts {
	if c.Status == nil || c.Status.Counts == nil {
		return v1alpha1.WorkloadCounts{}
	}
	n := *c.Status.Counts
	for _, count := range []*int32{&n.Desired, &n.Replicas, &n.Updated, &n.Ready, &n.Available, &n.Active, &n.Succeeded, &n.Failed} {
		*count = min(max(*count, 0), maxCount)
	}
	n.Updated, n.Ready = min(n.Updated, n.Replicas), min(n.Ready, max(n.Replicas, n.Active))
	n.Available = min(n.Available, n.Ready)
	return n
}

func (r *Rollout) sum() sums {
	targets := r.delivered()
	some := len(targets) > 0
	s := sums{applied: some, ready: some, finished: some, available: some}
	decided := map[string]bool{}
	for _, t := range targets {
		decided[t.Cluster] = true
		applied, ready := r.Applied(t.Cluster), r.Ready(t)
		failed := applied && r.Copies[t.Cluster].Health() == v1alpha1.HealthFailed
		s.applied, s.ready, s.failed = s.applied && applied, s.ready && ready, s.failed || failed
		s.finished = s.finished && (ready || failed)
		want, n := t.Replicas, v1alpha1.WorkloadCounts{}
		if c := r.Copies[t.Cluster]; c != nil {
			n = c.Counts()
			if c.Manifest != nil && c.Manifest.Scaled {
				want = n.Desired
			}
		}
		s.wanted += min(max(want, 0), maxCount)
		s.available = s.available && n.Available >= want-r.specification().maxUnavailable(want)
	}
	for cluster, c := range r.Copies {
		if lost := r.Clusters[cluster]; lost != nil && lost.Lost && !decided[cluster] {
			continue // it is not known what is left there
		}
		s.add(c.Counts(), r.Applied(cluster) && (decided[cluster] || r.State == Unselected))
	}
	s.done = s.ready && r.fits(targets)
	return s
}

// add adds the report of one cluster. Pods count as updated if the cluster has this generation and is to run the workload.
func (s *sums) add(n v1alpha1.WorkloadCounts, updated bool) {
	s.total.Desired += n.Desired
	s.total.Replicas += n.Replicas
	s.total.Ready += n.Ready
	s.total.Available += n.Available
	s.total.Active += n.Active
	s.total.Succeeded += n.Succeeded
	s.total.Failed += n.Failed
	if updated {
		s.total.Updated += n.Updated
	}
	if s.total.StartTime == nil || n.StartTime != nil && n.StartTime.Before(s.total.StartTime) {
		s.total.StartTime = n.StartTime
	}
	if n.CompletionTime != nil && (s.total.CompletionTime == nil || s.total.CompletionTime.Before(n.CompletionTime)) {
		s.total.CompletionTime = n.CompletionTime
	}
}

// fits reports whether the decided replicas match the current spec.
func (r *Rollout) fits(targets []Target) bool {
	asked := int64(1)
	switch r.Kind {
	case "DaemonSet", "Job":
		return true // which clusters count themselves
	}
	if replicas := r.specification().Replicas; replicas != nil {
		asked = int64(*replicas)
	}
	if r.divides() {
		decided := int64(0)
		for _, t := range r.Targets {
			decided += int64(t.Replicas)
		}
		return decided == asked
	}
	for _, t := range targets {
		if int64(t.Replicas) != asked {
			return false
		}
	}
	return true
}

// observe sets observedGeneration. reads reports whether the sums look as if the rollout were complete, told whether a condition
// states that it is not.
func (s *status) observe(reads, contradicted bool) {
	before, _ := s.current["observedGeneration"].(int64)
	switch {
	case s.State == Unselected:
	case contradicted || s.applied && (s.done || !reads):
		s.fields["observedGeneration"] = s.Generation
		s.turned = s.turned || s.done && before < s.Generation
	default:
		s.fields["observedGeneration"] = max(0, min(before, s.Generation-1))
	}
}

func (s *status) count(fields map[string]int32) {
	for field, n := range fields {
		s.fields[field] = int64(n)
	}
}
