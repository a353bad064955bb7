// Package description traces a workload through the stored objects: the chain from its placement to its pods, and how it came to
// run where it does.
package description

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// Description is the chain from a workload to its pods. Its JSON is a contract.
type Description struct {
	Workspace  string              `json:"workspace"`
	Workload   simulation.Workload `json:"workload"`
	UID        types.UID           `json:"uid,omitempty"`
	Generation int64               `json:"generation,omitempty"`
	// Chain leads from the workload to its status.
	Chain []Link `json:"chain"`
	// Clusters of the decision, and those that the workload leaves.
	Clusters []Cluster `json:"clusters"`
	// Wrong is the first problem; empty if there is none.
	Wrong string `json:"wrong"`
}

// Link is one link of the chain.
type Link struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// Wrong is set if there is a problem at this link.
	Wrong bool `json:"wrong"`
}

// Cluster is the state of a workload on one cluster.
type Cluster struct {
	Name     string `json:"name"`
	Score    int32  `json:"score"`
	Reason   string `json:"reason,omitempty"`
	Replicas int32  `json:"replicas"`
	// Leaving is set if the workload leaves the cluster.
	Leaving bool `json:"leaving,omitempty"`
	// Work is the one that has the workload, with the wanted revision, and whether the agent has applied that.
	Work     string `json:"work,omitempty"`
	Revision string `json:"revision,omitempty"`
	Applied  bool   `json:"applied"`
	// Health, Counts and Message are what the agent reports; Health is empty if it delivers nothing.
	Health  v1alpha1.Health          `json:"health,omitempty"`
	Counts  *v1alpha1.WorkloadCounts `json:"counts,omitempty"`
	Message string                   `json:"message,omitempty"`
}

func (d *Description) add(name string, wrong bool, format string, args ...any) {
	l := Link{name, fmt.Sprintf(format, args...), wrong}
	d.Chain = append(d.Chain, l)
	if wrong && d.Wrong == "" {
		d.Wrong = l.Name + ": " + l.State
	}
}

// Of traces a workload from its placement to its status.
func Of(w *manifest.Workspace, d *simulation.Decision) Description {
	object := Object(w, d)
	answer := Description{
		Workspace: d.Workspace, Workload: d.Workload, UID: object.GetUID(), Generation: object.GetGeneration(), Clusters: []Cluster{},
	}
	generation, deleting := "", ""
	if answer.Generation > 0 { // an object from a file has none
		generation = fmt.Sprintf(", generation %d", answer.Generation)
	}
	if object.GetDeletionTimestamp() != nil {
		deleting = ", being deleted"
	}
	answer.add("workload", false, "%s%s%s", d.Workload, generation, deleting)

	placement := placementOf(w, d)
	if placement == nil {
		answer.add("placement", true, "%s", cmp.Or(d.Error, "none"))
		return answer
	}
	answer.placement(placement)
	slice, stored := Decision(w, object)
	answer.policies(placement, stored)
	if stored == nil {
		answer.undecided(d)
		return answer
	}
	answer.decision(slice, stored)
	r := rolloutOf(w, object, placement, stored)
	for _, c := range stored.Clusters {
		answer.Clusters = append(answer.Clusters, clusterOn(r, c))
	}
	for _, l := range stored.Leaving {
		c := clusterOn(r, v1alpha1.ClusterDecision{Name: l.Name})
		if c.Leaving = true; c.Work == "" {
			c.Health, c.Message = "", "gone"
		}
		answer.Clusters = append(answer.Clusters, c)
	}
	answer.delivery(r)
	answer.status(object)
	return answer
}

func placementOf(w *manifest.Workspace, d *simulation.Decision) *v1alpha1.WorkloadPlacement {
	for _, p := range w.Placements {
		if p.Typed.Namespace == d.Workload.Namespace && p.Typed.Name == d.Placement {
			return p.Typed
		}
	}
	return nil
}

// Decision returns the stored decision on a workload, with the name of its slice; nil if there is none.
func Decision(w *manifest.Workspace, object *unstructured.Unstructured) (slice string, decision *v1alpha1.WorkloadDecision) {
	for _, s := range w.Decisions {
		for i := range s.Typed.Decisions {
			of := &s.Typed.Decisions[i].Workload
			if s.Typed.Namespace == object.GetNamespace() && of.APIVersion == object.GetAPIVersion() && of.Kind == object.GetKind() &&
				of.Name == object.GetName() && (of.UID == object.GetUID() || object.GetUID() == "") {
				return s.Typed.Name, &s.Typed.Decisions[i]
			}
		}
	}
	return "", nil
}

// placement adds the placement, with the first condition that blocks its workloads.
func (d *Description) placement(p *v1alpha1.WorkloadPlacement) {
	for _, kind := range []conditionsv1alpha1.ConditionType{v1alpha1.ConstraintsValidCondition, v1alpha1.WorkloadsVisibleCondition, v1alpha1.PublishedCondition} {
		if c := conditions.Get(p, kind); c != nil && c.Status != corev1.ConditionTrue {
			d.add("placement", true, "%s: %s is %s: %s", p.Name, kind, c.Status, c.Message)
			return
		}
	}
	d.add("placement", false, "%s", p.Name)
}

func (d *Description) policies(p *v1alpha1.WorkloadPlacement, stored *v1alpha1.WorkloadDecision) {
	digest := ""
	if stored != nil && stored.PolicyDigest != "" {
		digest = ", digest " + stored.PolicyDigest
	}
	if c := conditions.Get(p, v1alpha1.PoliciesReadyCondition); c != nil && c.Status != corev1.ConditionTrue {
		d.add("policies", true, "%s: %s", c.Reason, c.Message)
		return
	}
	d.add("policies", false, "in force%s", digest)
}

// undecided adds why there is no decision.
func (d *Description) undecided(would *simulation.Decision) {
	if would.Error != "" {
		d.add("decision", true, "none: %s", would.Error)
		return
	}
	var names []string
	for _, c := range would.Clusters {
		names = append(names, c.Name)
	}
	d.add("decision", true, "none yet: it would be placed on %s", strings.Join(names, ", "))
}

func (d *Description) decision(slice string, stored *v1alpha1.WorkloadDecision) {
	var parts []string
	for _, c := range stored.Clusters {
		parts = append(parts, fmt.Sprintf("%s x%d", c.Name, c.Replicas))
	}
	text := fmt.Sprintf("PlacementDecision %s: %s, since %s", slice, strings.Join(parts, ", "), stored.DecidedAt.UTC().Format(time.RFC3339))
	if stored.Group != "" {
		text += ", group " + stored.Group
	}
	if stored.WaitingReplicas > 0 {
		text += fmt.Sprintf("; %d replicas wait for room", stored.WaitingReplicas)
	}
	d.add("decision", stored.WaitingReplicas > 0, "%s", text)
}

// rolloutOf returns the workload with what its clusters are to run and report.
func rolloutOf(w *manifest.Workspace, object *unstructured.Unstructured, placement *v1alpha1.WorkloadPlacement, stored *v1alpha1.WorkloadDecision) *delivery.Rollout {
	clusters, names := map[string]*delivery.Cluster{}, make([]string, len(w.Clusters))
	for i, c := range w.Clusters {
		names[i] = c.Typed.Name
		clusters[c.Typed.Name] = delivery.ClusterOf(c.Typed)
	}
	works := make([]*v1alpha1.Work, len(w.Works))
	for i := range w.Works {
		works[i] = w.Works[i].Typed
	}
	content, _ := json.Marshal(object.Object) // it was read from JSON or YAML
	r := &delivery.Rollout{
		Assignment: &delivery.Assignment{
			Source: &delivery.Source{
				Reference: workload.Reference{
					APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(), Name: object.GetName(), UID: string(object.GetUID()),
				},
				Generation: object.GetGeneration(), Manifest: content,
			},
			State: delivery.Decided, Placement: placement, DecidedAt: stored.DecidedAt.Time,
		},
		Copies: delivery.CopiesOf(names, works).Of(stored.Workload.UID), Clusters: clusters,
	}
	for _, c := range stored.Clusters {
		r.Targets = append(r.Targets, delivery.Target{Cluster: c.Name, Replicas: c.Replicas})
	}
	slices.SortFunc(r.Targets, func(a, b delivery.Target) int { return strings.Compare(a.Cluster, b.Cluster) })
	return r
}

func clusterOn(r *delivery.Rollout, c v1alpha1.ClusterDecision) Cluster {
	d := Cluster{Name: c.Name, Score: c.Score, Reason: c.Reason, Replicas: c.Replicas}
	if on := r.On(delivery.Target{Cluster: c.Name, Replicas: c.Replicas}); on != nil {
		d.Health, d.Message = on.Health, on.Message
	}
	if d.Message == "" && c.Delivery != nil {
		d.Message = c.Delivery.Message // the controller knows more than Works show
	}
	if copied := r.Copies[c.Name]; copied != nil {
		d.Work, d.Applied = copied.Work.Namespace+"/"+copied.Work.Name, r.Applied(c.Name)
		if copied.Manifest != nil {
			d.Revision = copied.Manifest.Revision
		}
		if copied.Status != nil {
			d.Counts = copied.Status.Counts
		}
	}
	return d
}

// delivery adds the Works and the pods.
func (d *Description) delivery(r *delivery.Rollout) {
	delivered, applied, ready := 0, 0, 0
	for _, t := range r.Targets {
		if r.On(t) == nil {
			continue
		}
		delivered++
		if r.Applied(t.Cluster) {
			applied++
		}
		if r.Ready(t) {
			ready++
		}
	}
	if delivered == 0 {
		d.add("works", false, "none: no agent of its clusters delivers, others bring it there")
		return
	}
	wrong := r.Wrong()
	atPods := wrong != nil && (wrong.Reason == v1alpha1.FailedReason || wrong.Reason == v1alpha1.UnhealthyReason)
	state := func(text string, here bool) string {
		if here {
			text += ". " + wrong.String()
		}
		return text
	}
	atWorks := wrong != nil && !atPods
	d.add("works", atWorks, "%s", state(fmt.Sprintf("applied on %d of %d clusters", applied, delivered), atWorks))
	d.add("pods", atPods, "%s", state(fmt.Sprintf("ready on %d of %d clusters", ready, delivered), atPods))
}

// status adds the workload's own status.
func (d *Description) status(object *unstructured.Unstructured) {
	all, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, value := range all {
		c, _ := value.(map[string]any)
		if c["type"] != v1alpha1.DeliveredCondition {
			continue
		}
		wrong := c["status"] != string(corev1.ConditionTrue) && c["reason"] != v1alpha1.InProgressReason
		d.add("status", wrong, "%s", delivery.Clean(fmt.Sprintf("Delivered is %v, %v: %v", c["status"], c["reason"], c["message"]), 2000))
		return
	}
	d.add("status", false, "says nothing of delivery yet")
}

// Object returns a copy of the object that was decided on.
func Object(w *manifest.Workspace, d *simulation.Decision) *unstructured.Unstructured {
	i := slices.IndexFunc(w.Workloads, func(o manifest.Workload) bool {
		return d.Workload == simulation.Workload{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
	})
	return w.Workloads[i].Unstructured().DeepCopy()
}
