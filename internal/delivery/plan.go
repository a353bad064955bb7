package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/panics"
)

// DefaultMoveTimeout is the default of the API.
const DefaultMoveTimeout = 10 * time.Minute

// MoveType returns the order in which the workload moves. An annotation with any other value is ignored.
func (a *Assignment) MoveType() v1alpha1.MoveType {
	if t, err := v1alpha1.MoveOf(a.Annotations); err == nil && t != "" {
		return t
	}
	switch {
	case a.Placement != nil && a.Placement.Spec.Delivery.Move.Type != "":
		return a.Placement.Spec.Delivery.Move.Type
	case a.Kind == "StatefulSet":
		return v1alpha1.BreakBeforeMake
	default:
		return v1alpha1.MakeBeforeBreak
	}
}

// MoveBy returns until when old copies wait for new ones.
func (a *Assignment) MoveBy() time.Time {
	timeout := DefaultMoveTimeout
	if a.Placement != nil && a.Placement.Spec.Delivery.Move.Timeout != nil {
		timeout = a.Placement.Spec.Delivery.Move.Timeout.Duration
	}
	return a.DecidedAt.Add(timeout)
}

// objectKey identifies an object in a cluster.
type objectKey struct {
	schema.GroupKind
	types.NamespacedName
}

func keyOfReference(m v1alpha1.ManifestReference) objectKey {
	gv, _ := schema.ParseGroupVersion(m.APIVersion) // if it cannot be parsed, the kind identifies it
	return objectKey{gv.WithKind(m.Kind).GroupKind(), types.NamespacedName{Namespace: m.Namespace, Name: m.Name}}
}

// index lists the objects of a Work in order.
type index []objectKey

// indexOf reads a Work. An object that cannot be read gets a unique key, and so is removed.
func indexOf(w *v1alpha1.Work) index {
	keys := make(index, len(w.Spec.Manifests))
	for i := range w.Spec.Manifests {
		var object metav1.PartialObjectMetadata
		if err := json.Unmarshal(w.Spec.Manifests[i].Object.Raw, &object); err != nil {
			keys[i] = objectKey{NamespacedName: types.NamespacedName{Namespace: w.Name, Name: fmt.Sprint(i)}}
			continue
		}
		keys[i] = objectKey{object.GroupVersionKind().GroupKind(), types.NamespacedName{Namespace: object.Namespace, Name: object.Name}}
	}
	return keys
}

// clusterPlan is what a cluster is to have.
type clusterPlan struct {
	*Cluster
	slots []*slot
	// has is where each object is, among the slots.
	has map[objectKey]*v1alpha1.Manifest
	// wanted are the objects that the cluster is to have. units are the workloads among them, each with its companions.
	wanted map[objectKey]*wish
	units  []unit
	// names are the names of the Works.
	names  map[string]bool
	limits *workLimits
}

// wish is an object that a cluster is to have.
type wish struct {
	*v1alpha1.Manifest
	// by is the assignment that it is rendered for; nil if it stays as it is.
	by *Assignment
}

// unit is a workload with its companions.
type unit struct {
	uid  types.UID
	keys []objectKey
}

// planning is the plan of one round.
type planning struct {
	*Deliverer
	round    *Round
	copies   *Copies
	clusters map[string]*clusterPlan
	result   *Result
	// unsure are companions of workloads that are neither shown nor known to be gone.
	unsure []unsure
	// asked are the departures that have been asked about.
	asked map[departure]bool
}

type unsure struct {
	cluster *clusterPlan
	v1alpha1.ManifestReference
	workload *v1alpha1.Manifest
}

// plan determines what each cluster is to have.
func (p *planning) plan(ctx context.Context) {
	for i := range p.round.Clusters {
		c := p.newClusterPlan(&p.round.Clusters[i])
		p.clusters[c.Name] = c
	}
	for _, a := range byAge(p.round.Assignments) {
		p.assign(a)
	}
	p.keepUnsure(ctx)
	for name, c := range p.clusters {
		for uid := range c.leaves() {
			if !slices.Contains(p.left[uid], name) {
				p.left[uid] = append(p.left[uid], name)
			}
		}
	}
}

// byAge sorts assignments by the age of their placements, those without one last.
func byAge(assignments []*Assignment) []*Assignment {
	of := map[*v1alpha1.WorkloadPlacement][]*Assignment{}
	for _, a := range assignments {
		of[a.Placement] = append(of[a.Placement], a)
	}
	placements := slices.SortedFunc(maps.Keys(of), func(a, b *v1alpha1.WorkloadPlacement) int {
		switch {
		case a == b:
			return 0
		case a == nil:
			return 1
		case b == nil:
			return -1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	sorted := make([]*Assignment, 0, len(assignments))
	for _, placement := range placements {
		sorted = append(sorted, of[placement]...)
	}
	return sorted
}

func (p *planning) newClusterPlan(cluster *Cluster) *clusterPlan {
	c := &clusterPlan{Cluster: cluster, has: map[objectKey]*v1alpha1.Manifest{}, wanted: map[objectKey]*wish{}, names: map[string]bool{}, limits: p.limits}
	for _, w := range p.copies.Works(cluster.Name) {
		k := p.works[nameOf(w)]
		if k.index == nil {
			k.index = indexOf(w)
		}
		s := newSlot(nameOf(w), w, k.index)
		c.slots, c.names[w.Name] = append(c.slots, s), true
		for i, key := range k.index {
			if c.has[key] == nil {
				c.has[key] = &w.Spec.Manifests[i]
			}
		}
	}
	return c
}

// assign determines what each cluster is to have of a workload.
func (p *planning) assign(a *Assignment) {
	if a.Deleting {
		return
	}
	here := p.copies.Of(types.UID(a.UID))
	switch a.State {
	case Decided:
		p.decide(a, p.asReported(here))
	case Waiting:
	case Unknown, Unselected:
		for _, cluster := range clustersOf(here) {
			if m := here[cluster].Manifest; m != nil && (a.State == Unknown || m.WhenUnselected != v1alpha1.RemoveUnselected) {
				p.keep(p.clusters[cluster], a, m)
			}
		}
	}
}

// asReported returns the copies without reports for a former registration of their cluster: its Works may be gone, which may not show yet.
func (p *planning) asReported(here map[string]*Copy) map[string]*Copy {
	var former []string
	for name, copied := range here {
		c, owner := p.clusters[name], metav1.GetControllerOfNoCopy(copied.Work)
		if c != nil && c.Delivers && (owner == nil || owner.UID != c.UID) {
			former = append(former, name)
		}
	}
	if len(former) == 0 {
		return here
	}
	result := maps.Clone(here)
	for _, name := range former {
		unreported := *here[name]
		unreported.Status = nil
		result[name] = &unreported
	}
	return result
}

// decide determines what the clusters of a decision are to have, and which of the others keep what they have until then.
func (p *planning) decide(a *Assignment, here map[string]*Copy) {
	targets := make(map[string]int32, len(a.Targets))
	var shares []Share
	for _, t := range a.Targets {
		targets[t.Cluster] = t.Replicas
		c, s := p.clusters[t.Cluster], Share{Replicas: t.Replicas}
		if copied := here[t.Cluster]; copied != nil {
			s.Before = copied.Manifest
		}
		switch {
		case c == nil:
		case c.Delivers:
			s.Cluster = c.Cluster
			shares = append(shares, s)
		case s.Before != nil: // its agent may deliver again
			p.keep(c, a, s.Before)
		}
	}
	breaks := a.MoveType() == v1alpha1.BreakBeforeMake
	if _, err := v1alpha1.MoveOf(a.Annotations); err != nil {
		p.result.problem(types.UID(a.UID), Problem{Reason: v1alpha1.NotAppliedReason,
			Message: fmt.Sprintf("annotation %s: %v; it moves as if there were none, %s", v1alpha1.AnnotationMove, err, a.MoveType())})
	}
	late := !p.Now().Before(a.MoveBy())
	if breaks {
		shares = p.breakFirst(a, shares, here, targets, late)
	} else if !late && p.shrinks(a, shares, here) {
		for i, s := range shares {
			if s.Before != nil && s.Before.Replicas != nil {
				shares[i].Replicas = max(s.Replicas, *s.Before.Replicas)
			}
		}
	}
	changes := false
	for i, rendered := range p.render(a, shares) {
		p.want(p.clusters[shares[i].Name], a, shares[i], rendered)
		changes = changes || rendered.Workload != nil && shares[i].Before != nil && rendered.Workload.Revision != shares[i].Before.Revision
	}
	ready := breaks || late || !changes && p.allReady(a, here)
	for _, cluster := range clustersOf(here) {
		c, m := p.clusters[cluster], here[cluster].Manifest
		if _, stays := targets[cluster]; stays || m == nil {
			continue
		}
		if !ready && c.Delivers && !c.Lost && len(a.Targets) > 0 {
			p.keep(c, a, m)
			p.result.within(a.MoveBy().Sub(p.Now()))
		}
	}
}

// render makes manifests. A panic affects only the workload that caused it.
func (p *planning) render(a *Assignment, shares []Share) (rendered []Rendered) {
	if err := panics.Recovered(func() { rendered = p.Render(a, shares) }); err != nil {
		p.result.problem(types.UID(a.UID), Problem{Reason: v1alpha1.FailedReason, Message: err.Error()})
		p.result.fail(fmt.Errorf("manifests of %s: %w", a.Reference, err))
		return make([]Rendered, len(shares))
	}
	return rendered
}

// breakFirst returns the shares without those that have to wait until the workload is gone from the clusters that it leaves and, if its
// replicas are divided, until no other cluster has more of them than its share. The latter wait ends once the move is late.
func (p *planning) breakFirst(a *Assignment, shares []Share, here map[string]*Copy, targets map[string]int32, late bool) []Share {
	waits := func(s Share, format, cluster string) {
		p.result.problem(types.UID(a.UID), Problem{Cluster: s.Name, Reason: v1alpha1.InProgressReason, Message: fmt.Sprintf(format, cluster)})
	}
	left, shrunk := p.stillOn(a, here, targets), ""
	if a.Divided && !late {
		shrunk = stillMore(shares, here)
	}
	if shrunk != "" {
		p.result.within(a.MoveBy().Sub(p.Now()))
	}
	if left == "" && shrunk == "" {
		return shares
	}
	var first []Share
	for _, s := range shares {
		switch grows := a.Divided && s.Before != nil && s.Before.Replicas != nil && *s.Before.Replicas < s.Replicas; {
		case s.Before == nil && left != "":
			waits(s, "it comes here once it is gone from %s, since it breaks before it makes", left)
			continue
		case s.Before == nil:
			waits(s, "it comes here once it has shrunk on %s, since it breaks before it makes", shrunk)
			continue
		case grows:
			waits(s, "it grows here once it is gone from, or has shrunk on, %s, since it breaks before it makes", cmp.Or(left, shrunk))
			s.Replicas = *s.Before.Replicas
		}
		first = append(first, s)
	}
	return first
}

// stillMore returns a cluster that has, or may have, more replicas than its share; empty if there is none.
func stillMore(shares []Share, here map[string]*Copy) string {
	for _, s := range shares {
		c := here[s.Name]
		if s.Lost || s.Before == nil || s.Before.Replicas == nil || s.Before.Scaled {
			continue
		}
		if *s.Before.Replicas > s.Replicas || c.Health() == v1alpha1.HealthPending || c.Status.Counts != nil && c.Status.Counts.Replicas > s.Replicas {
			return s.Name
		}
	}
	return ""
}

// stillOn returns a cluster that the workload leaves and where something of it may be left; empty if there is none.
func (p *planning) stillOn(a *Assignment, here map[string]*Copy, targets map[string]int32) string {
	uid := types.UID(a.UID)
	leaves := append(append(clustersOf(here), a.Leaving...), p.left[uid]...)
	slices.Sort(leaves)
	for _, cluster := range slices.Compact(leaves) {
		if _, stays := targets[cluster]; !stays && p.holds(uid, cluster) {
			return cluster
		}
	}
	return ""
}

// holds reports whether something of a workload may be left on a cluster from which it can be removed.
func (p *planning) holds(uid types.UID, cluster string) bool {
	c := p.clusters[cluster]
	if c == nil || !c.Delivers || c.Lost {
		return false
	}
	p.asked[departure{uid, cluster}] = true
	return !p.departures.Gone(p.copies, uid, cluster)
}

// allReady reports whether all wanted copies are ready.
func (p *planning) allReady(a *Assignment, here map[string]*Copy) bool {
	for _, t := range a.Targets {
		copied := here[t.Cluster]
		if c := p.clusters[t.Cluster]; c == nil || !c.Delivers || c.Lost || copied == nil || copied.Health() != v1alpha1.HealthCurrent ||
			copied.Manifest.Replicas != nil && *copied.Manifest.Replicas < t.Replicas {
			return false
		}
	}
	return true
}

// shrinks reports whether fewer replicas than wanted would be ready if each cluster got its share at once, because those that get fewer
// are ready and those that get more are not yet. Replicas that are not ready anywhere are no reason to wait.
func (p *planning) shrinks(a *Assignment, shares []Share, here map[string]*Copy) bool {
	var wanted, ready, left int32
	fewer := false
	for _, s := range shares {
		wanted += s.Replicas
		if copied := here[s.Name]; copied != nil && copied.Status != nil && copied.Status.Counts != nil {
			ready += copied.Status.Counts.Ready
			left += min(copied.Status.Counts.Ready, s.Replicas)
		}
		fewer = fewer || s.Before != nil && s.Before.Replicas != nil && *s.Before.Replicas > s.Replicas
	}
	if !fewer || left >= min(wanted, ready) {
		return false
	}
	p.result.within(a.MoveBy().Sub(p.Now()))
	return true
}

// keep leaves a copy and its companions as they are.
func (p *planning) keep(c *clusterPlan, a *Assignment, m *v1alpha1.Manifest) {
	u := unit{uid: types.UID(a.UID), keys: []objectKey{{schema.FromAPIVersionAndKind(a.APIVersion, a.Kind).GroupKind(), types.NamespacedName{Namespace: a.Namespace, Name: a.Name}}}}
	c.wish(u.keys[0], &wish{Manifest: m})
	for _, n := range m.Needs {
		n.Namespace = a.Namespace
		if key := keyOfReference(n); c.has[key] != nil {
			c.wish(key, &wish{Manifest: c.has[key]})
			u.keys = append(u.keys, key)
		}
	}
	c.units = append(c.units, u)
}

// want adds what is rendered for a workload to a cluster.
func (p *planning) want(c *clusterPlan, a *Assignment, s Share, rendered Rendered) {
	uid := types.UID(a.UID)
	for _, problem := range rendered.Problems {
		p.result.problem(uid, problem)
	}
	if why := p.refusal(rendered.Workload); why != "" {
		p.result.problem(uid, Problem{Cluster: c.Name, Reason: v1alpha1.NotAppliedReason, Message: fmt.Sprintf("%s %s: %s", a.Kind, a.Name, why)})
		rendered.Workload = nil
	}
	if rendered.Workload == nil {
		if s.Before != nil {
			p.keep(c, a, s.Before)
		}
		return
	}
	m := *rendered.Workload
	m.Needs = nil
	u := unit{uid: uid, keys: []objectKey{{schema.FromAPIVersionAndKind(a.APIVersion, a.Kind).GroupKind(), types.NamespacedName{Namespace: a.Namespace, Name: a.Name}}}}
	with := map[objectKey]bool{}
	for _, companion := range rendered.With {
		key := keyOfReference(companion.ManifestReference)
		with[key] = true
		if why := p.refusal(companion.Manifest); why != "" {
			p.result.problem(uid, Problem{Cluster: c.Name, Reason: v1alpha1.NotAppliedReason, Message: fmt.Sprintf("%s %s: %s", companion.Kind, companion.Name, why)})
			companion.Manifest = nil
		}
		manifest := wish{Manifest: companion.Manifest, by: a}
		if manifest.Manifest == nil { // the cluster keeps what it has
			manifest = wish{Manifest: c.has[key]}
		}
		if manifest.Manifest == nil {
			continue
		}
		if by := c.wish(key, &manifest); by.by != nil && by.by != a && companion.Manifest != nil && by.Revision != companion.Manifest.Revision {
			p.result.problem(uid, Problem{Cluster: c.Name, Reason: v1alpha1.ConflictReason, Message: fmt.Sprintf(
				"%s %s is delivered as %s needs it, whose placement %s is older", companion.Kind, companion.Name, by.by.Reference, by.by.Placement.Name)})
		}
		u.keys = append(u.keys, key)
		m.Needs = append(m.Needs, needed(companion.ManifestReference))
	}
	c.wish(u.keys[0], &wish{Manifest: &m, by: a})
	if s.Before != nil {
		for _, n := range s.Before.Needs {
			n.Namespace = a.Namespace
			if key := keyOfReference(n); !with[key] && c.has[key] != nil && !p.Shown(n) {
				p.unsure = append(p.unsure, unsure{c, n, &m})
			}
		}
	}
	slices.SortFunc(m.Needs, compareReferences)
	c.units = append(c.units, u)
}

// refusal returns why the server rejects a manifest; empty if it does not.
func (p *planning) refusal(m *v1alpha1.Manifest) string {
	if m == nil {
		return ""
	}
	return p.refused[m.Revision]
}

// wish adds an object to what a cluster is to have, and returns the version that counts. Invariant: of several different versions the
// first counts, which is for the oldest placement, except that a rendered version takes precedence over one that stays.
func (c *clusterPlan) wish(key objectKey, w *wish) *wish {
	if before := c.wanted[key]; before != nil && (before.by != nil || w.by == nil) {
		return before
	}
	c.wanted[key] = w
	return w
}

// needed returns the reference by which a manifest refers to an object of its namespace.
func needed(n v1alpha1.ManifestReference) v1alpha1.ManifestReference {
	return v1alpha1.ManifestReference{APIVersion: n.APIVersion, Kind: n.Kind, Name: n.Name}
}

func compareReferences(a, b v1alpha1.ManifestReference) int {
	return strings.Compare(a.APIVersion+"\x00"+a.Kind+"\x00"+a.Name, b.APIVersion+"\x00"+b.Kind+"\x00"+b.Name)
}

// askAtOnce bounds how many objects the server is asked about in a round.
const askAtOnce = 100

// keepUnsure keeps companions of workloads that are no longer shown, until the server confirms that they are gone.
func (p *planning) keepUnsure(ctx context.Context) {
	if len(p.unsure) == 0 {
		return
	}
	var ask []v1alpha1.ManifestReference
	for _, u := range p.unsure {
		if !slices.Contains(ask, u.ManifestReference) && len(ask) < askAtOnce {
			ask = append(ask, u.ManifestReference)
		}
	}
	var gone map[v1alpha1.ManifestReference]bool
	err := p.failures.try("objects", func() (err error) {
		gone, err = p.Gone(ctx, ask)
		return err
	})
	if err != nil {
		gone = nil
	}
	for _, u := range p.unsure {
		if gone[u.ManifestReference] {
			continue
		}
		key := keyOfReference(u.ManifestReference)
		u.cluster.wish(key, &wish{Manifest: u.cluster.has[key]})
		u.workload.Needs = append(u.workload.Needs, needed(u.ManifestReference))
		slices.SortFunc(u.workload.Needs, compareReferences)
		p.result.within(showWithin)
	}
}

// leaves returns the workloads that the cluster has and is no longer to have.
func (c *clusterPlan) leaves() map[types.UID]bool {
	stays := make(map[types.UID]bool, len(c.units))
	for _, w := range c.wanted {
		if w.WorkloadUID != "" {
			stays[w.WorkloadUID] = true
		}
	}
	leaves := map[types.UID]bool{}
	for _, m := range c.has {
		if m.WorkloadUID != "" && !stays[m.WorkloadUID] {
			leaves[m.WorkloadUID] = true
		}
	}
	return leaves
}

func clustersOf(here map[string]*Copy) []string { return slices.Sorted(maps.Keys(here)) }
