package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/sharing"
)

// setReport is the state of a ClusterSet.
type setReport struct {
	sharing.Set
	unreadable decode.Problems
	// has is the capacity of the set's clusters.
	has capacity.Resources
	// accounts are those of the fleet; waiting returns how many workloads of a workspace wait.
	accounts []engine.Account
	waiting  func(logicalcluster.Name) int
	// unresolved returns why it is not known which workspace is at a path, if that discloses nothing about what is there.
	unresolved func(v1alpha1.WorkspaceReference) error
	// first reports whether the set is the first that reports on a workspace. orphaned reports whether something is kept for a workspace that
	// does not use the clusters. homeless: there is no namespace to keep slices in.
	first    func(logicalcluster.Name) bool
	orphaned func(logicalcluster.Name) bool
	homeless bool
}

// keeps reports whether a workspace is promised anything in the set, or on clusters that are in none of its sets.
func (s *setReport) keeps(of *sharing.Workspace, set string) bool {
	return of != nil && (!accountOf(s.accounts, of.Name, set).Promised.IsZero() || !accountOf(s.accounts, of.Name, "").Promised.IsZero())
}

// orphanMessage describes what happens to what is kept for a workspace that does not use the clusters.
func orphanMessage(of string) string {
	return fmt.Sprintf("the workspace does not use these clusters any more and has placements still: what it had stays reserved until its team binds the set again or deletes them; "+
		"if nothing of it runs here, delete the PlacementDecisions with label %s=%s in namespace %s", v1alpha1.LabelWorkspace, of, v1alpha1.DecisionNamespace)
}

// accountOf returns the account of a workspace in a set.
func accountOf(accounts []engine.Account, workspace logicalcluster.Name, set string) engine.Account {
	i := slices.IndexFunc(accounts, func(a engine.Account) bool { return a.Workspace == workspace && a.Set == set })
	if i < 0 {
		return engine.Account{Workspace: workspace, Set: set}
	}
	return accounts[i]
}

// fill updates the status of a ClusterSet.
func (s *setReport) fill(set *v1alpha1.ClusterSet) {
	status := &set.Status
	before := status.Grants
	status.ObservedGeneration, status.Clusters, status.Granted, status.Bound = set.Generation, int32(len(s.Clusters)), int32(len(set.Spec.Grants)), 0
	status.Grants = nil
	var unbound, unresolved []string
	named, charged := map[string]bool{}, map[string]bool{}
	for i := range set.Spec.Grants {
		g := &set.Spec.Grants[i]
		named[g.Name] = true
		grant := s.Grants[i]
		one := v1alpha1.ClusterSetGrantStatus{Name: g.Name, Path: g.Workspace.Path, Bound: grant.Bound, Message: shortenTo(grant.Message, maxGrantMessage), Quota: quantities(grant.Limits)}
		if err := s.unresolved(g.Workspace); err != nil {
			one.Message = shortenTo(err.Error(), maxGrantMessage)
			unresolved = append(unresolved, fmt.Sprintf("spec.grants[%d].workspace: %v", i, err))
		} else if grant.Unanswered && !s.keeps(grant.Workspace, set.Name) {
			// Invariant: the message is the same whether the workspace exists or not.
			one.Message = fmt.Sprintf("no ClusterSetBinding of workspace %s names this set: check spec.grants[%d].workspace, and have its team create one", g.Workspace, i)
		} else {
			// Invariant: what a workspace has is reported once, however many grants name it.
			if one.Cluster = grant.Workspace.Name.String(); charged[one.Cluster] {
				one.Quota = nil
			} else if s.charge(&one, set.Name); s.orphaned(grant.Workspace.Name) {
				one.Message = orphanMessage(one.Cluster)
			}
			charged[one.Cluster] = true
		}
		if one.Bound {
			status.Bound++
		} else {
			unbound = append(unbound, fmt.Sprintf("grant %s: %s", g.Name, one.Message))
		}
		status.Grants = append(status.Grants, one)
	}
	for _, one := range before {
		if one.Cluster == "" || charged[one.Cluster] || s.stillFor(&one) {
			continue
		}
		for n := 1; named[one.Name]; n++ { // the grant of this name now belongs to another workspace
			one.Name = fmt.Sprintf("former-%d", n)
		}
		named[one.Name], charged[one.Cluster] = true, true
		one.Bound, one.Quota, one.Message = false, nil, "the grant was taken away: what runs stays until it has another place, and nothing new comes"
		if s.orphaned(logicalcluster.Name(one.Cluster)) {
			one.Message = orphanMessage(one.Cluster)
		}
		if s.charge(&one, set.Name, ""); len(one.Used) > 0 && len(status.Grants) < 2*v1alpha1.MaxGrants {
			status.Grants = append(status.Grants, one)
		}
	}

	var wrong, over []sharing.Problem
	for _, p := range s.unreadable {
		wrong = append(wrong, sharing.Problem{Reason: "InvalidSpec", Field: p.Field, Message: p.Message})
	}
	for _, p := range s.Problems {
		switch p.Reason {
		case sharing.QuotaOvercommitted, sharing.GuaranteeOvercommitted:
			over = append(over, p)
		case sharing.WorkspaceNotFound: // treated like any grant that is not bound
		case sharing.NoClusters:
			if len(s.unreadable) == 0 { // otherwise that is why it has none
				wrong = append(wrong, p)
			}
		default:
			wrong = append(wrong, p)
		}
	}
	if s.homeless {
		wrong = append(wrong, sharing.Problem{Reason: v1alpha1.NamespaceMissingReason, Field: "namespace " + v1alpha1.DecisionNamespace, Message: "is missing in this workspace, and the controller cannot make it: " +
			"nothing new is placed for other workspaces until you run kubectl create namespace " + v1alpha1.DecisionNamespace})
	}
	ready := conditions.TrueCondition(conditionsv1alpha1.ReadyCondition)
	switch {
	case len(wrong) > 0:
		severity := conditionsv1alpha1.ConditionSeverityWarning
		if slices.Contains([]string{"InvalidSpec", sharing.InvalidSelector, sharing.InvalidQuantity}, wrong[0].Reason) {
			severity = conditionsv1alpha1.ConditionSeverityError
		}
		ready = conditions.FalseCondition(conditionsv1alpha1.ReadyCondition, wrong[0].Reason, severity, "%s", shorten(examples(problems(wrong))))
	case len(unresolved) > 0:
		ready = conditions.FalseCondition(conditionsv1alpha1.ReadyCondition, v1alpha1.WorkspaceUnknownReason, conditionsv1alpha1.ConditionSeverityWarning, "%s", shorten(examples(unresolved)))
	}
	conditions.Set(set, ready)

	bound := conditions.TrueCondition(v1alpha1.BoundCondition)
	if len(unbound) > 0 {
		bound = conditions.FalseCondition(v1alpha1.BoundCondition, v1alpha1.GrantsNotBoundReason, conditionsv1alpha1.ConditionSeverityInfo, "%s", shorten(examples(unbound)))
	}
	conditions.Set(set, bound)

	overcommitted := conditions.FalseCondition(v1alpha1.OvercommittedCondition, v1alpha1.WithinCapacityReason, conditionsv1alpha1.ConditionSeverityInfo, "")
	if len(over) > 0 {
		overcommitted = conditions.TrueCondition(v1alpha1.OvercommittedCondition)
		overcommitted.Reason = over[0].Reason
		overcommitted.Message = shorten("reservations are exact all the same, and who comes first has the room: " + examples(problems(over)))
	}
	conditions.Set(set, overcommitted)
}

// stillFor reports whether the grant under which a workspace was reported may still be for it: it is not known which workspace that names.
func (s *setReport) stillFor(reported *v1alpha1.ClusterSetGrantStatus) bool {
	i := slices.IndexFunc(s.Spec.Grants, func(g v1alpha1.ClusterSetGrant) bool { return g.Name == reported.Name })
	if i < 0 || s.Grants[i].Workspace != nil {
		return false
	}
	of := s.Spec.Grants[i].Workspace
	return s.unresolved(of) != nil || of.Cluster == reported.Cluster || of.Path != "" && of.Path == reported.Path
}

// maxGrantMessage bounds the message of one grant.
const maxGrantMessage = 1000

// charge sets what a workspace has of a set. What it has on clusters that are in none of its sets is reported separately, unless sets
// includes the empty name: then its grant was taken away, and all that it has counts.
func (s *setReport) charge(one *v1alpha1.ClusterSetGrantStatus, sets ...string) {
	of := logicalcluster.Name(one.Cluster)
	var promised, reserved capacity.Resources
	for _, set := range sets {
		if set == "" && !s.first(of) {
			continue
		}
		account := accountOf(s.accounts, of, set)
		promised, reserved = promised.Add(account.Promised), reserved.Add(account.Reserved)
	}
	one.Used, one.Reserved, one.Outside = promised.ResourceList(), reserved.ResourceList(), nil
	if !slices.Contains(sets, "") && s.first(of) {
		one.Outside = accountOf(s.accounts, of, "").Promised.ResourceList()
	}
	share, _ := sharing.DominantShare(promised, s.has)
	one.DominantShare, one.Waiting = int32(min(share, maxShare)), int32(s.waiting(of))
}

// maxShare exceeds any meaningful share.
const maxShare = 1_000_000_000

func problems(all []sharing.Problem) (texts []string) {
	for _, p := range all {
		texts = append(texts, p.Field+": "+p.Message)
	}
	return texts
}

// bindingReport is the state of a ClusterSetBinding.
type bindingReport struct {
	sharing.Binding
	unreadable decode.Problems
	// grant is the grant of the set, nil if there is none. rows are the clusters as the workspace sees them, room is what is free there for it.
	grant   *engine.Grant
	rows    []*snapshot.Row
	room    map[string]capacity.Resources
	account engine.Account
	// unread is why nothing is decided on the clusters yet, unresolved why it is not known which workspace is at the path.
	unread, unresolved error
}

// fill updates the status of a ClusterSetBinding.
func (b *bindingReport) fill(binding *v1alpha1.ClusterSetBinding) {
	status := &binding.Status
	status.ObservedGeneration, status.Quota, status.Used, status.Clusters, status.OmittedClusters = binding.Generation, nil, nil, nil, 0
	no := func(kind conditionsv1alpha1.ConditionType, reason, at, message string) *conditionsv1alpha1.Condition {
		if at != "" {
			message = at + ": " + message
		}
		return conditions.FalseCondition(kind, reason, conditionsv1alpha1.ConditionSeverityError, "%s", shorten(message))
	}
	bound, usable := conditions.TrueCondition(v1alpha1.BoundCondition), conditions.TrueCondition(v1alpha1.UsableCondition)
	switch {
	case len(b.unreadable) > 0:
		bound = no(v1alpha1.BoundCondition, "InvalidSpec", "", b.unreadable.Error())
	case b.Fleet != "": // granted
	case b.unresolved != nil:
		bound = no(v1alpha1.BoundCondition, v1alpha1.WorkspaceUnknownReason, "spec.workspace.path", b.unresolved.Error())
	default:
		bound = no(v1alpha1.BoundCondition, b.Reason, b.Field, b.Message)
	}
	switch reason, at, message := b.Unusable(); {
	case bound.Status != corev1.ConditionTrue:
		usable = no(v1alpha1.UsableCondition, v1alpha1.NotBoundReason, "", "see condition Bound")
	case reason != "":
		usable = no(v1alpha1.UsableCondition, reason, at, message)
	case b.unread != nil:
		usable = no(v1alpha1.UsableCondition, v1alpha1.FleetNotReadReason, "", b.unread.Error())
	default:
		usable.Message = b.Message
	}
	conditions.Set(binding, bound)
	conditions.Set(binding, usable)

	ready := 0
	if b.grant != nil {
		status.Quota, status.Used = quantities(b.grant.Limits()), b.account.Promised.ResourceList()
		in := map[string]bool{}
		for _, name := range b.Clusters {
			in[name] = true
		}
		for _, row := range b.rows {
			if !in[row.Name] {
				continue
			}
			one := v1alpha1.SharedCluster{Name: row.Name, Location: row.Location, Ready: row.HealthScore == snapshot.Healthy && !row.Cordoned(), Free: corev1.ResourceList{}}
			if one.Ready {
				ready++
			}
			if len(status.Clusters) == v1alpha1.MaxBindingClusters {
				status.OmittedClusters++
				continue
			}
			for name, has := range row.Allocatable.Each {
				if has > 0 {
					one.Free[corev1.ResourceName(name)] = capacity.Quantity(name, max(0, b.room[row.Name].Get(name)))
				}
			}
			status.Clusters = append(status.Clusters, one)
		}
		slices.SortFunc(status.Clusters, func(a, b v1alpha1.SharedCluster) int { return cmp.Compare(a.Name, b.Name) })
	}
	status.Summary = fmt.Sprintf("%d/%d", ready, len(b.Clusters))
}

// quantities converts amounts to their API form.
func quantities(amounts map[string]int64) corev1.ResourceList {
	list := make(corev1.ResourceList, len(amounts))
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		list[corev1.ResourceName(name)] = capacity.Quantity(name, amounts[name])
	}
	return list
}

// writtenSharing is a ClusterSet or a ClusterSetBinding with its status as last written, which the informer may not show yet.
type writtenSharing[T conditions.Setter] struct {
	object  T
	basedOn string
	at      time.Time
}

// sharingStatus writes the status of a ClusterSet or a ClusterSetBinding if it has changed: at once if a condition transitions, otherwise
// at most once per every.
func sharingStatus[T conditions.Setter](w *workspace, kept map[types.UID]writtenSharing[T], shown T, every time.Duration, fill func(T), write func(T) (T, error), r *result) {
	last, found := kept[shown.GetUID()]
	current := shown
	if found && last.basedOn == shown.GetResourceVersion() {
		current = last.object
	}
	updated := current.DeepCopyObject().(T)
	fill(updated)
	if equality.Semantic.DeepEqual(current, updated) {
		return
	}
	turned := conditionsTransitioned(current.GetConditions(), updated.GetConditions())
	if wait := last.at.Add(every).Sub(w.now()); found && wait > 0 && !turned {
		r.within(wait)
		return
	}
	after, err := write(updated)
	if err != nil {
		r.fail(fmt.Errorf("status of %s %s: %w", updated.GetObjectKind().GroupVersionKind().Kind, updated.GetName(), err))
		return
	}
	kept[shown.GetUID()] = writtenSharing[T]{object: after, basedOn: shown.GetResourceVersion(), at: w.now()}
	for _, c := range updated.GetConditions() {
		before := conditions.Get(current, c.Type)
		if before != nil && before.Status == c.Status && before.Reason == c.Reason {
			continue
		}
		if kind, reason := sharingEvent(&c); reason != "" {
			w.event(updated, kind, reason, cmp.Or(c.Message, "both sides agree"))
		}
	}
}

// sharingEvent returns the event for a condition that has transitioned; an empty reason means none.
func sharingEvent(c *conditionsv1alpha1.Condition) (kind, reason string) {
	switch {
	case c.Type == v1alpha1.OvercommittedCondition && c.Status == corev1.ConditionTrue:
		return corev1.EventTypeWarning, c.Reason
	case c.Type == v1alpha1.OvercommittedCondition || c.Reason == v1alpha1.NotBoundReason || c.Reason == v1alpha1.GrantsNotBoundReason:
		return "", "" // nothing is wrong, or another condition reports what is
	case c.Status != corev1.ConditionTrue:
		return corev1.EventTypeWarning, c.Reason
	case c.Type == v1alpha1.BoundCondition:
		return corev1.EventTypeNormal, string(c.Type)
	}
	return "", ""
}

// grantOf returns the grant of a set, nil if there is none.
func grantOf(all []engine.Grant, set string) *engine.Grant {
	i := slices.IndexFunc(all, func(g engine.Grant) bool { return g.Set == set })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// sharingStatuses are the statuses of ClusterSets and ClusterSetBindings of a workspace.
type sharingStatuses struct {
	sets     map[types.UID]writtenSharing[*v1alpha1.ClusterSet]
	bindings map[types.UID]writtenSharing[*v1alpha1.ClusterSetBinding]
	// evaluatedAt is when they were last made, for that version of the declarations and those shown objects.
	evaluatedAt time.Time
	version     int64
	shown       string
	// waited is how many workloads wait, as last reported to the host.
	waited int
}

const (
	// bindingsEvery is how often free capacity is reported anew: its changes cause no passes. bindingsEach is added for each
	// cluster, since a thousand of them make a large status.
	bindingsEvery, bindingsEach = 30 * time.Second, 30 * time.Millisecond
)

// updateSharing writes the statuses of ClusterSets and ClusterSetBindings.
func (w *workspace) updateSharing(ctx context.Context, o *cacheView, r *result) {
	s := &w.sharing
	if w.host != nil && s.waited != w.waitingNow() {
		s.waited = w.waitingNow()
		w.fleets.reportWaiting(w.name, w.host.name, s.waited)
	}
	if w.fleets == nil || len(o.sets)+len(o.setBindings) == 0 {
		w.metrics.accounts.put(w.name, nil)
		*s = sharingStatuses{waited: s.waited}
		return
	}
	if s.sets == nil {
		s.sets, s.bindings = map[types.UID]writtenSharing[*v1alpha1.ClusterSet]{}, map[types.UID]writtenSharing[*v1alpha1.ClusterSetBinding]{}
	}
	shown, every := fmt.Sprint(sharingShown(o), w.fleet.homeless.Load(), len(w.orphans), w.currentFleet().published.Load() != nil), countsEvery
	if len(o.sets) == 0 {
		every = bindingsEvery + time.Duration(len(o.clusters))*bindingsEach
	}
	version := w.fleets.said()
	if wait := s.evaluatedAt.Add(every).Sub(w.now()); wait > 0 && s.version == version && s.shown == shown {
		r.within(wait)
		return
	}
	s.evaluatedAt, s.version, s.shown = w.now(), version, shown
	r.within(every)
	w.updateSets(ctx, o, r)
	w.updateBindings(ctx, o, every, r)
}

// sharingShown identifies the shown sets and bindings, apart from their statuses.
func sharingShown(o *cacheView) (shown string) {
	for _, set := range o.sets {
		shown += fmt.Sprintf("%s %d ", set.UID, set.Generation)
	}
	for _, b := range o.setBindings {
		shown += fmt.Sprintf("%s %d ", b.UID, b.Generation)
	}
	return fmt.Sprint(shown, len(o.unreadable))
}

func (w *workspace) updateSets(ctx context.Context, o *cacheView, r *result) {
	allocatable := map[string]capacity.Resources{}
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		allocatable[row.Name] = row.Allocatable
	}
	accounts := w.engine.Accounts(w.name)
	all := w.fleets.sets(w.name, func(name string) capacity.Resources { return allocatable[name] })
	kept := map[types.UID]writtenSharing[*v1alpha1.ClusterSet]{}
	var charged []chargedAccount
	reported := map[logicalcluster.Name]string{}
	orphaned := func(name logicalcluster.Name) bool {
		orphan := w.orphans[name]
		return orphan != nil && orphan.stays
	}
	for i := range all {
		at := slices.IndexFunc(o.sets, func(s *v1alpha1.ClusterSet) bool { return s.UID == all[i].UID })
		if at < 0 {
			continue
		}
		shown := o.sets[at]
		report := setReport{Set: all[i], unreadable: specProblems(o.unreadable[shown.UID]), accounts: accounts, waiting: w.fleets.waitingIn, unresolved: w.fleets.unresolved, orphaned: orphaned, homeless: w.fleet.homeless.Load()}
		report.first = func(of logicalcluster.Name) bool {
			if reported[of] == "" {
				reported[of] = shown.Name
			}
			return reported[of] == shown.Name
		}
		for _, name := range all[i].Clusters {
			report.has = report.has.Add(allocatable[name])
		}
		if last, found := w.sharing.sets[shown.UID]; found {
			kept[shown.UID] = last
		}
		if !w.fleets.resolving(workspacesOf(shown)...) {
			sharingStatus(w, kept, shown, countsEvery, report.fill, func(s *v1alpha1.ClusterSet) (*v1alpha1.ClusterSet, error) { return w.writeSet(ctx, s) }, r)
		}
		charged = append(charged, report.charged()...)
	}
	w.sharing.sets = kept
	var whole capacity.Resources
	for _, has := range allocatable {
		whole = whole.Add(has)
	}
	for _, a := range accounts {
		if a.Set == "" && a.Workspace != w.name && !a.Promised.IsZero() {
			charged = append(charged, chargedAccount{Account: a, has: whole})
		}
	}
	w.metrics.accounts.put(w.name, charged)
}

func (w *workspace) updateBindings(ctx context.Context, o *cacheView, every time.Duration, r *result) {
	if len(o.setBindings) == 0 {
		return
	}
	view := w.fleets.view(w.name)
	var rows []*snapshot.Row
	var room map[string]capacity.Resources
	var accounts []engine.Account
	if w.host != nil {
		rows, room, accounts = w.engine.Snapshot(w.name).Rows(), w.engine.Room(w.name), w.engine.AccountsOf(w.name)
	}
	kept := map[types.UID]writtenSharing[*v1alpha1.ClusterSetBinding]{}
	for _, b := range view.Bindings {
		at := slices.IndexFunc(o.setBindings, func(s *v1alpha1.ClusterSetBinding) bool { return s.UID == b.UID })
		if at < 0 {
			continue
		}
		shown := o.setBindings[at]
		report := bindingReport{Binding: b, unreadable: specProblems(o.unreadable[shown.UID]), rows: rows, room: room, unresolved: w.fleets.unresolved(b.Spec.Workspace)}
		if b.Reason == sharing.Bound {
			report.grant = grantOf(view.Grants, b.Spec.ClusterSet)
			report.account = accountOf(accounts, w.name, b.Spec.ClusterSet)
			report.unread = w.fleets.notOpen(view.Fleet)
		}
		if last, found := w.sharing.bindings[shown.UID]; found {
			kept[shown.UID] = last
		}
		if w.fleets.resolving(b.Spec.Workspace) {
			continue
		}
		sharingStatus(w, kept, shown, every, report.fill, func(s *v1alpha1.ClusterSetBinding) (*v1alpha1.ClusterSetBinding, error) {
			return w.writeSetBinding(ctx, s)
		}, r)
	}
	w.sharing.bindings = kept
}
