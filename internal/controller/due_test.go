package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
)

// TestAPassOverWhatIsDueIsAPassOverAll drives two controllers through the same random history. One of them looks in each pass at
// what is due, the other one at all workloads. Both write the same decisions and statuses, tell the same events, hand over the same
// assignments, and ask for the next pass at the same time.
func TestAPassOverWhatIsDueIsAPassOverAll(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) { newHistories(t, r).run() })
}

// TestShadowPoliciesChangeNothing drives two controllers through the same random history, one of them with shadow policies that come,
// change, fail and go. Both decide the same, at the same time, and hand over the same assignments.
func TestShadowPoliciesChangeNothing(t *testing.T) {
	evaluated := 0
	rapid.Check(t, func(r *rapid.T) {
		h := newHistories(t, r)
		h.shadowed = true
		h.run()
		if h.both[1].workspace.shadow.set != nil {
			evaluated++
		}
	})
	if evaluated == 0 && !t.Failed() {
		t.Error("shadow policies were never evaluated")
	}
}

func newHistories(t *testing.T, r *rapid.T) *histories {
	h := &histories{T: r, t: t}
	delivers := rapid.Bool().Draw(r, "delivers")
	budget := rapid.SampledFrom([]disruption.Budget{{}, {Minimum: 1, Interval: time.Minute}}).Draw(r, "budget")
	batch := rapid.SampledFrom([]int{1, 2, 1000}).Draw(r, "batch size")
	for i := range h.both {
		d := newDelivered(t, testCluster("a", "6"), testCluster("b", "8"), testCluster("c", "10"))
		if !delivers {
			d.workspace.handOver = nil
		}
		d.workspace.brake.Budget, d.workspace.batchSize = budget, batch
		d.workspace.reservationTimeout = 10 * time.Minute
		h.both[i] = d
	}
	for i := range 3 {
		h.place(i)
	}
	return h
}

// histories are the two worlds; the second one looks at all workloads in each pass, or has shadow policies where it is shadowed.
type histories struct {
	*rapid.T
	t        *testing.T
	both     [2]*delivered
	uids     int
	shadowed bool
	// policies and shadow are the ConfigMaps in force, and those of the second world beside them.
	policies, shadow []*corev1.ConfigMap
}

// setPolicies has both worlds show the ConfigMaps with policies.
func (h *histories) setPolicies() {
	for i, d := range h.both {
		if d.configMaps = slices.Clone(h.policies); i == 1 {
			d.configMaps = append(d.configMaps, h.shadow...)
		}
	}
}

// drawPolicy returns a ConfigMap with policies, none at times.
func (h *histories) drawPolicy(name string) []*corev1.ConfigMap {
	policy := rapid.SampledFrom([]string{"", "package placement.scoring\nweights := {\"capacity\": 7}", "package placement.x\np := {",
		"package placement.scheduling\nnumber_of_clusters := 2 if input.workload.name < \"w\"",
		"package placement.scheduling\nworkloadAffinity contains {\"type\": \"Repel\", \"required\": true, \"labelSelector\": {\"matchLabels\": {\"team\": input.workload.labels.team}}} if input.workload.labels.team != \"2\""}).Draw(h.T, "policy")
	if policy == "" {
		return nil
	}
	return []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}, Data: map[string]string{"a.rego": policy}}}
}

// edit does the same in both worlds.
func (h *histories) edit(do func(*delivered)) {
	for _, d := range h.both {
		do(d)
	}
}

func (h *histories) run() {
	name := rapid.SampledFrom([]string{"t", "u", "v", "w", "x", "y", "z"})
	at := rapid.SampledFrom([]string{"a", "b", "c"})
	h.Repeat(map[string]func(*rapid.T){
		"a workload comes or changes": func(*rapid.T) { h.ask(name.Draw(h.T, "workload")) },
		"another one does":            func(*rapid.T) { h.ask(name.Draw(h.T, "workload")) },
		"a workload goes": func(*rapid.T) {
			gone := name.Draw(h.T, "workload")
			h.edit(func(d *delivered) {
				d.workloads = slices.DeleteFunc(slices.Clone(d.workloads), func(o *workloadObject) bool { return o.Name == gone })
			})
		},
		"a workload is not shown": func(*rapid.T) {
			gone := name.Draw(h.T, "workload")
			h.edit(func(d *delivered) {
				d.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: gone}: "1"}
				d.workloads = slices.DeleteFunc(slices.Clone(d.workloads), func(o *workloadObject) bool { return o.Name == gone })
			})
		},
		"the server has nothing else": func(*rapid.T) { h.edit(func(d *delivered) { d.invisible = nil }) },
		"a cluster changes":           func(*rapid.T) { h.change(at.Draw(h.T, "cluster")) },
		"a cluster goes or comes": func(*rapid.T) {
			changed := at.Draw(h.T, "cluster")
			back := testCluster(changed, "9")
			back.Status.AgentDelivery, back.ResourceVersion = &v1alpha1.AgentDelivery{}, fmt.Sprint("back", h.next())
			h.edit(func(d *delivered) {
				without := slices.DeleteFunc(slices.Clone(d.clusters), func(c *v1alpha1.ClusterRegistration) bool { return c.Name == changed })
				if len(without) == len(d.clusters) {
					without = append(without, back)
				}
				d.clusters = without
			})
		},
		"a cluster reports what it counts": func(*rapid.T) { h.report(at.Draw(h.T, "cluster")) },
		"an agent reports":                 func(*rapid.T) { h.work(at.Draw(h.T, "cluster")) },
		"a placement changes":              func(*rapid.T) { h.place(rapid.IntRange(0, 2).Draw(h.T, "placement")) },
		"a placement goes": func(*rapid.T) {
			gone := fmt.Sprintf("p%d", rapid.IntRange(0, 2).Draw(h.T, "placement"))
			h.edit(func(d *delivered) {
				d.placements = slices.DeleteFunc(slices.Clone(d.placements), func(p *v1alpha1.WorkloadPlacement) bool { return p.Name == gone })
			})
		},
		"policies change": func(*rapid.T) {
			h.policies = h.drawPolicy("cm")
			h.setPolicies()
		},
		"shadow policies change": func(*rapid.T) {
			if !h.shadowed {
				return
			}
			h.shadow = h.drawPolicy("shadow")
			for _, c := range h.shadow {
				c.Labels = map[string]string{v1alpha1.LabelPolicySet: v1alpha1.PolicySetShadow}
			}
			h.setPolicies()
		},
		"LimitRanges change": func(*rapid.T) {
			cpu, read := rapid.SampledFrom([]string{"", "1", "2"}).Draw(h.T, "cpu"), rapid.Bool().Draw(h.T, "read")
			h.edit(func(d *delivered) {
				if d.limitRangesRead, d.limitRanges = read, nil; cpu != "" && read {
					d.limitRanges = []*corev1.LimitRange{limitRange("default", cpu)}
				}
			})
		},
		"a placement is suspended or goes on": func(*rapid.T) {
			at, suspend := rapid.IntRange(0, 2).Draw(h.T, "placement"), rapid.Bool().Draw(h.T, "suspended")
			h.edit(func(d *delivered) {
				for i, p := range d.placements {
					if p.Name == fmt.Sprintf("p%d", at) {
						changed := p.DeepCopy()
						changed.Spec.Suspend = suspend
						changed.Generation++
						d.placements = slices.Clone(d.placements)
						d.placements[i] = changed
					}
				}
			})
		},
		"time goes by": func(*rapid.T) {
			by := rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Second, 20 * time.Second, time.Minute, 11 * time.Minute}).Draw(h.T, "time")
			h.edit(func(d *delivered) { d.sleep(by) })
		},
		"the watch shows slices": func(*rapid.T) { h.edit(func(d *delivered) { d.show() }) },
		"a write fails": func(*rapid.T) {
			var err error = apierrors.NewForbidden(schema.GroupResource{}, "s", errors.New("not now"))
			if rapid.Bool().Draw(h.T, "its outcome is not known") && h.both[0].workspace.batchSize > 10 {
				err = apierrors.NewTimeoutError("try later", 1) // a pass over all that is cut short has the decisions read again sooner
			}
			h.edit(func(d *delivered) { d.failNext = err })
		},
		"a pass":       func(*rapid.T) { h.pass() },
		"another pass": func(*rapid.T) { h.pass() },
		"rest": func(*rapid.T) {
			for range 4 {
				h.edit(func(d *delivered) { d.show() })
				h.pass()
			}
		},
	})
}

func (h *histories) next() int {
	h.uids++
	return h.uids
}

// ask has a workload be there, or be another one.
func (h *histories) ask(name string) {
	o := delivers(name, rapid.Int64Range(1, 4).Draw(h.T, "cpu")*1000)
	o.workload.Labels = map[string]string{"team": fmt.Sprint(rapid.IntRange(0, 3).Draw(h.T, "team"))}
	if rapid.IntRange(0, 4).Draw(h.T, "asks for nothing") == 0 {
		labels := o.workload.Labels
		o = silent(h.t, name, 1)
		o.workload.Labels = labels
	}
	o.Labels = o.workload.Labels
	o.end = rapid.SampledFrom([]workload.End{"", "", "", "", workload.Suspended, workload.HasFinished}).Draw(h.T, "end")
	o.workload.End = o.end
	if before := slices.IndexFunc(h.both[0].workloads, func(o *workloadObject) bool { return o.Name == name }); before >= 0 && rapid.IntRange(0, 5).Draw(h.T, "made again") > 0 {
		o.UID = h.both[0].workloads[before].UID
	} else {
		o.UID = types.UID(fmt.Sprint(name, h.next()))
	}
	o.workload.UID = string(o.UID)
	if rapid.IntRange(0, 9).Draw(h.T, "cannot be read") == 0 {
		o.err = errors.New("spec.replicas: is not a number")
	}
	o.source = &delivery.Source{Reference: o.workload.Reference}
	h.edit(func(d *delivered) {
		d.workloads = append(slices.DeleteFunc(slices.Clone(d.workloads), func(o *workloadObject) bool { return o.Name == name }), o)
	})
}

// change changes a cluster.
func (h *histories) change(name string) {
	do := rapid.SampledFrom([]func(*v1alpha1.ClusterRegistration){
		func(r *v1alpha1.ClusterRegistration) {
			r.Status.Allocatable = corev1.ResourceList{"cpu": *resource.NewQuantity(rapid.Int64Range(0, 12).Draw(h.T, "cpu"), resource.DecimalSI)}
		},
		func(r *v1alpha1.ClusterRegistration) {
			r.Labels = map[string]string{"tier": rapid.SampledFrom([]string{"low", "high"}).Draw(h.T, "tier")}
		},
		func(r *v1alpha1.ClusterRegistration) {
			r.Spec.Taints = rapid.SampledFrom([][]corev1.Taint{nil, {evict}, {{Key: "k", Effect: corev1.TaintEffectNoSchedule}}}).Draw(h.T, "taints")
		},
		func(r *v1alpha1.ClusterRegistration) {
			r.Status.Conditions[0].Status = rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}).Draw(h.T, "ready")
		},
		func(r *v1alpha1.ClusterRegistration) {
			if r.Status.AgentDelivery = nil; rapid.Bool().Draw(h.T, "delivers") {
				r.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
			}
		},
	}).Draw(h.T, "change")
	h.replace(name, do)
}

func (h *histories) replace(name string, do func(*v1alpha1.ClusterRegistration)) {
	i := slices.IndexFunc(h.both[0].clusters, func(c *v1alpha1.ClusterRegistration) bool { return c.Name == name })
	if i < 0 {
		return
	}
	changed := h.both[0].clusters[i].DeepCopy()
	do(changed)
	changed.ResourceVersion = fmt.Sprint("edit", h.next())
	h.edit(func(d *delivered) { d.clusters = replace(d.clusters, changed) })
}

// report has a cluster count some of the workloads that are placed.
func (h *histories) report(name string) {
	usage := &v1alpha1.ClusterUsage{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("usage of " + name), Generation: int64(h.next())}, ClusterUID: types.UID(name),
		Allocatable: corev1.ResourceList{"cpu": resource.MustParse("9")}}
	for _, slice := range h.both[0].stored {
		for _, d := range slice.Decisions {
			if slices.Contains(clusterNames(d.Clusters), name) && d.Workload.Name > rapid.SampledFrom([]string{"", "w", "zz"}).Draw(h.T, "counted from") {
				usage.Workloads = append(usage.Workloads, v1alpha1.WorkloadUsage{UID: d.Workload.UID, Requests: d.Reserved})
			}
		}
	}
	slices.SortFunc(usage.Workloads, func(a, b v1alpha1.WorkloadUsage) int { return strings.Compare(string(a.UID), string(b.UID)) })
	h.replace(name, func(r *v1alpha1.ClusterRegistration) { r.Status.ClusterUID = types.UID(name) })
	h.edit(func(d *delivered) {
		d.usages, d.heard = maps.Clone(d.usages), maps.Clone(d.heard)
		if d.usages == nil {
			d.usages, d.heard = map[string]*v1alpha1.ClusterUsage{}, map[types.UID]heartbeat{}
		}
		d.usages[name] = usage
		d.heard[types.UID(name)] = heartbeat{renewed: d.clock, at: d.clock, holder: types.UID(name), usage: v1alpha1.UsageVersion(usage)}
		d.leases[name] = d.heard[types.UID(name)]
	})
}

// work has some workloads run on a cluster.
func (h *histories) work(name string) {
	var uids []types.UID
	for _, uid := range slices.Sorted(maps.Keys(h.placed())) {
		if rapid.Bool().Draw(h.T, "runs "+string(uid)) {
			uids = append(uids, uid)
		}
	}
	generation := int64(h.next())
	w := &v1alpha1.Work{ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: v1alpha1.WorkNamespace(name), Generation: generation, UID: types.UID("work of " + name)}}
	w.Status.ObservedGeneration = generation - rapid.Int64Range(0, 1).Draw(h.T, "behind")
	for _, uid := range uids {
		of := h.placed()[uid]
		w.Spec.Manifests = append(w.Spec.Manifests, v1alpha1.Manifest{Revision: "1", WorkloadUID: uid, Object: runtime.RawExtension{
			Raw: fmt.Appendf(nil, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"namespace":"default","name":%q},"spec":{"replicas":1}}`, of)}})
		w.Status.Manifests = append(w.Status.Manifests, v1alpha1.ManifestStatus{
			ManifestReference: v1alpha1.ManifestReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: of, WorkloadUID: uid}, Revision: "1",
			Health: rapid.SampledFrom([]v1alpha1.Health{v1alpha1.HealthCurrent, v1alpha1.HealthInProgress, v1alpha1.HealthFailed}).Draw(h.T, "health"),
		})
	}
	h.edit(func(d *delivered) {
		if d.workspace.handOver != nil {
			d.works = append(slices.DeleteFunc(slices.Clone(d.works), func(o *v1alpha1.Work) bool { return o.Namespace == w.Namespace }), w)
		}
	})
}

// placed are the workloads with a decision.
func (h *histories) placed() map[types.UID]string {
	placed := map[types.UID]string{}
	for _, slice := range h.both[0].stored {
		for _, d := range slice.Decisions {
			placed[d.Workload.UID] = d.Workload.Name
		}
	}
	return placed
}

// place has a placement be there, or be another one.
func (h *histories) place(i int) {
	p := testPlacement(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(rapid.Int32Range(1, 2).Draw(h.T, "clusters")))})
	p.Name, p.UID = fmt.Sprintf("p%d", i), types.UID(fmt.Sprintf("p%d", i))
	p.Spec.Priority = rapid.Int32Range(0, 1).Draw(h.T, "priority")
	p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(i)}}
	p.Spec.Constraints = []v1alpha1.Constraint{{Name: "tier", Expression: `cluster.labels.?tier.orValue("") != "low"`, RequiredDuringExecution: rapid.Bool().Draw(h.T, "required during execution")}}
	p.Spec.Tolerations = []corev1.Toleration{{Key: evict.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](8)}}
	kind := rapid.SampledFrom([]string{"", "", "", "all", "fallback", "divided", "selects more", "selects nothing known", "invalid", "affinity", "near", "apart"}).Draw(h.T, "kind")
	switch kind {
	case "all":
		p.Spec.NumberOfClusters = ptr.To(intstr.FromString(v1alpha1.AllClusters))
	case "fallback":
		p.Spec.Fallback = []v1alpha1.ClusterGroup{
			{Name: "first", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a"}}, ReturnAfter: &metav1.Duration{Duration: 5 * time.Second}}, {Name: "any"},
		}
	case "divided":
		p.Spec.ReplicaScheduling = &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Partial: true}
	case "selects more":
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"0", "1", "3"}}}}
	case "selects nothing known":
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Sometimes"}}}
	case "invalid":
		p.Spec.Constraints[0].Expression = "cluster.nothing"
	case "affinity":
		p.Spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{TopologyKey: "cluster", Scope: v1alpha1.SpreadWorkloads, WhenUnsatisfiable: corev1.ScheduleAnyway, Weight: 20}}
	case "near", "apart":
		p.Spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{
			Type: map[bool]v1alpha1.WorkloadAffinityType{true: v1alpha1.WorkloadsAttract, false: v1alpha1.WorkloadsRepel}[kind == "near"], Required: rapid.Bool().Draw(h.T, "required"),
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": rapid.SampledFrom([]string{"0", "1", "3"}).Draw(h.T, "others")}},
		}}
		if !p.Spec.WorkloadAffinity[0].Required {
			p.Spec.WorkloadAffinity[0].Weight = 30
		}
	}
	version := fmt.Sprint("edit", h.next())
	h.edit(func(d *delivered) {
		mine := p.DeepCopy()
		mine.ResourceVersion = version
		for _, before := range d.placements {
			if before.Name == mine.Name {
				mine.Status, mine.Generation = before.Status, before.Generation+1
			}
		}
		d.placements = append(slices.DeleteFunc(slices.Clone(d.placements), func(o *v1alpha1.WorkloadPlacement) bool { return o.Name == mine.Name }), mine)
	})
}

// pass makes passes until no other is due at once, and compares what has come of them.
func (h *histories) pass() {
	var results [2]result
	var errs [2]sets.Set[string]
	for i, d := range h.both {
		errs[i] = sets.New[string]()
		for n := 0; n == 0 || results[i].again; n++ {
			if n == 100 {
				h.Fatal("passes do not come to an end")
			}
			if i == 1 && !h.shadowed {
				d.workspace.index.anew()
				d.workspace.related = affinityBasis{}
			}
			results[i] = d.workspace.reconcile(context.Background(), d.cacheView)
			for _, err := range results[i].errs {
				errs[i].Insert(err.Error())
			}
		}
	}
	a, b := h.both[0], h.both[1]
	differ := func(what string, of func(d *delivered) any) {
		if one, other := of(a), of(b); !equality.Semantic.DeepEqual(one, other) {
			h.Fatalf("%s:\n%v\nby a pass over what is due, by a pass over all, or with shadow policies:\n%v", what, one, other)
		}
	}
	differ("decisions", func(d *delivered) any { return d.stored })
	differ("handed over", func(d *delivered) any {
		var all []string
		for _, r := range d.round.Assignments {
			all = append(all, fmt.Sprint(r.Reference, r.State, r.Targets, r.Leaving, r.DecidedAt))
		}
		slices.Sort(all)
		return all
	})
	if h.shadowed {
		return
	}
	differ("writes", func(d *delivered) any { return d.writes })
	differ("events", func(d *delivered) any { return d.events })
	for i := range a.placements {
		differ("status of "+a.placements[i].Name, func(d *delivered) any { return untimed(d.placements[i].Status) })
	}
	if results[0].after != results[1].after || !errs[0].Equal(errs[1]) {
		h.Fatalf("the next pass: in %s, %v by a pass over what is due, in %s, %v by a pass over all", results[0].after, errs[0], results[1].after, errs[1])
	}
}

// untimed is a status without the times of conditions, which are not of the worlds' clocks.
func untimed(status v1alpha1.WorkloadPlacementStatus) v1alpha1.WorkloadPlacementStatus {
	status = *status.DeepCopy()
	for i := range status.Conditions {
		status.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	return status
}
