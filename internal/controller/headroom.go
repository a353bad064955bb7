package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/headroom"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// A headroom check takes at most rehearseFor of one pass and continues in the next. Then it rests for restFactor times as long as it took
// in all, and at least restLeast, so that it never takes more than a small share of the time.
const (
	rehearseFor = 50 * time.Millisecond
	restFactor  = 20
	restLeast   = 10 * time.Second
)

// foresight determines, in the background of passes, whether workloads survive the losses that their placements ask to survive.
type foresight struct {
	// basis is what found is based on; check is the check that is under way.
	basis headroomBasis
	found map[types.UID]headroom.Outlook
	check *headroomCheck
	// restUntil is when the next check begins at the earliest.
	restUntil time.Time
}

// headroomBasis is what headroom depends on: the revision of the workspace, and what each placement asks for.
type headroomBasis struct {
	revision int64
	asked    string
}

// headroomCheck is a check that spans passes.
type headroomCheck struct {
	headroomBasis
	wanted  map[snapshot.TopologyKey][]*placementState
	domains []headroom.Domain
	found   map[types.UID]headroom.Outlook
	// rehearsal is that of the first domain, with the workloads that are not decided there yet and the findings so far.
	rehearsal *engine.Rehearsal
	left      []*workItem
	losses    map[*placementState]*headroom.Loss
	took      time.Duration
}

// checkHeadroom continues a check, or begins one if anything has changed.
func (w *workspace) checkHeadroom(ctx context.Context, placements []*placementState, r *result) {
	h, began := &w.headroom, time.Now()
	basis, wanted := w.headroomBasis(placements)
	switch {
	case len(wanted) == 0:
		*h = foresight{}
		return
	case h.check != nil && h.check.asked == basis.asked:
	case h.found != nil && h.basis == basis:
		return
	case w.now().Before(h.restUntil):
		r.within(h.restUntil.Sub(w.now()))
		return
	default:
		c := &headroomCheck{headroomBasis: basis, wanted: wanted, found: map[types.UID]headroom.Outlook{}}
		h.check = c
		rows := w.engine.Snapshot(w.name).Rows()
		for _, key := range slices.Sorted(maps.Keys(wanted)) {
			domains := headroom.Domains(rows, key)
			c.domains = append(c.domains, domains...)
			for _, s := range wanted[key] {
				c.found[s.object.UID] = headroom.Outlook{Domains: len(domains)}
			}
		}
	}
	c := h.check
	for len(c.domains) > 0 && time.Since(began) < rehearseFor {
		if err := w.rehearse(ctx, c, began.Add(rehearseFor)); err != nil {
			klog.FromContext(ctx).V(2).Info("Headroom is not known", "reason", err.Error())
			h.check, h.restUntil = nil, w.now().Add(restLeast)
			w.restIfSlow(err)
			r.within(restLeast)
			return
		}
	}
	c.took += time.Since(began)
	if len(c.domains) > 0 {
		r.within(time.Millisecond)
		return
	}
	h.restUntil = w.now().Add(max(restLeast, restFactor*c.took))
	if !maps.Equal(h.found, c.found) {
		r.within(time.Millisecond) // for the statuses
	}
	h.basis, h.found, h.check = c.headroomBasis, c.found, nil
}

func (w *workspace) headroomBasis(placements []*placementState) (headroomBasis, map[snapshot.TopologyKey][]*placementState) {
	var asked strings.Builder
	wanted := map[snapshot.TopologyKey][]*placementState{}
	for _, s := range placements {
		if s.placement == nil {
			continue
		}
		if survive := s.object.Spec.Headroom; survive != nil {
			key := snapshot.TopologyKey(survive.Survive.TopologyKey)
			wanted[key] = append(wanted[key], s)
			fmt.Fprintf(&asked, "%s/%d ", s.object.UID, s.object.Generation)
		}
	}
	return headroomBasis{w.engine.Revision(w.name), asked.String()}, wanted
}

// rehearse continues with the first domain of a check until a deadline, and removes the domain once it is done. All workloads there are
// placed anew in the order of failover, whatever placement they belong to.
func (w *workspace) rehearse(ctx context.Context, c *headroomCheck, until time.Time) error {
	d := &c.domains[0]
	if c.rehearsal == nil {
		c.losses = map[*placementState]*headroom.Loss{}
		for _, s := range c.wanted[d.Key] {
			c.losses[s] = &headroom.Loss{Domain: d.Name}
		}
		if c.left = w.affected(d, c.losses); len(c.left) == 0 {
			c.domains = c.domains[1:]
			return nil
		}
		c.rehearsal = w.engine.Rehearse(w.name, d.Clusters)
	}
	for ; len(c.left) > 0; c.left = c.left[1:] {
		if time.Now().After(until) {
			return nil
		}
		item := c.left[0]
		if item.object == nil || item.owner == nil || item.owner.placement == nil || !item.found {
			continue // it has gone meanwhile
		}
		request := (&pass{workspace: w}).request(item)
		request.Return = ""
		ctx, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
		decision, err := c.rehearsal.Decide(ctx, request)
		done()
		if err != nil {
			return err
		}
		if loss := c.losses[item.owner]; loss != nil {
			loss.Add(item.object.workload, decision)
		}
	}
	for s, loss := range c.losses {
		f := c.found[s.object.UID]
		f.Add(*loss)
		c.found[s.object.UID] = f
	}
	c.domains, c.rehearsal = c.domains[1:], nil
	return nil
}

// affected returns the workloads on the clusters of a domain in the order of failover, or none if no placement that asks has workloads there.
func (w *workspace) affected(d *headroom.Domain, asking map[*placementState]*headroom.Loss) []*workItem {
	rest := headroom.Rest(w.engine.Snapshot(w.name).Rows(), d.Clusters...)
	type displaced struct {
		*workItem
		size float64
	}
	var all []displaced
	seen, concerns := map[*workItem]bool{}, false
	for _, name := range d.Clusters {
		for item := range w.index.on[name] {
			if seen[item] || item.object == nil || item.object.end != "" || item.owner == nil || item.owner.placement == nil || !item.found || item.stale {
				continue
			}
			seen[item], concerns = true, concerns || asking[item.owner] != nil
			all = append(all, displaced{item, headroom.Size(item.object.workload.Requests, rest)})
		}
	}
	if !concerns {
		return nil
	}
	slices.SortFunc(all, func(a, b displaced) int {
		x, y := a.turn, b.turn
		x.Displaced, x.Size, y.Displaced, y.Size = true, a.size, true, b.size
		return x.Compare(y)
	})
	items := make([]*workItem, len(all))
	for i := range all {
		items[i] = all[i].workItem
	}
	return items
}

// headroomCondition reports whether the workloads of a placement would survive what it asks to survive; nil if it asks for nothing.
func (w *workspace) headroomCondition(p *placementState) *conditionsv1alpha1.Condition {
	if p.object.Spec.Headroom == nil {
		return nil
	}
	key := snapshot.TopologyKey(p.object.Spec.Headroom.Survive.TopologyKey)
	f, known := w.headroom.found[p.object.UID]
	switch {
	case !known:
		return conditions.UnknownCondition(v1alpha1.HeadroomAvailableCondition, "NotChecked", "It is not known yet what the loss of a domain of %s would do.", key)
	case f.Survives():
		c := conditions.TrueCondition(v1alpha1.HeadroomAvailableCondition)
		c.Message = f.Describe(key)
		return c
	}
	return conditions.FalseCondition(v1alpha1.HeadroomAvailableCondition, "HeadroomShort", conditionsv1alpha1.ConditionSeverityWarning, "%s", shorten(f.Describe(key)))
}
