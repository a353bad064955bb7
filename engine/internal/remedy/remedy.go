// Package remedy finds the changes that would admit a cluster, and tries them on a copy of it before they are reported.
package remedy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Change is one change, as text and as something to try.
type Change struct {
	Text string
	// Elsewhere marks a change of the placement or the policies, which leaves the cluster as it is.
	Elsewhere bool
	// More is set if more has to be free. Of several such changes for one resource, the largest counts.
	More *More
	// apply makes any other change; nil if it cannot be tried.
	apply func(*trial)
}

// More is how much more of a resource has to be free: in all, or on one node.
type More struct {
	Resource string
	OnNode   bool
	Amount   int64
}

// Tried reports whether Try makes the change.
func (c *Change) Tried() bool { return c.More != nil || c.apply != nil }

// Option is one way to admit a cluster: changes that are made together.
type Option []Change

// Tried reports whether Try makes all of the changes.
func (o Option) Tried() bool {
	return !slices.ContainsFunc(o, func(c Change) bool { return !c.Tried() })
}

// Any joins the texts of options by "or".
func Any(options []Option) string {
	texts := make([]string, len(options))
	for i, o := range options {
		texts[i] = Text(o)
	}
	return strings.Join(texts, " or ")
}

// Words returns a change that cannot be tried.
func Words(text string) Change { return Change{Text: text} }

// Elsewhere returns a change of the placement or the policies.
func Elsewhere(text string) Change { return Change{Text: text, Elsewhere: true} }

// Free returns the change that more of a resource is free, as much as the text states, which is rounded up.
func Free(more More) Change {
	text, amount := rounded(more.Resource, more.Amount)
	more.Amount = amount
	text += " more " + more.Resource + " free"
	if more.OnNode {
		text += " on one node"
	}
	return Change{Text: text, More: &more}
}

// FreeAs is Free with another text.
func FreeAs(text string, more More) Change { return Change{Text: text, More: &more} }

// Amount returns the change that another field of a resource grows, or shrinks if the difference is negative:
// "allocatable", "allocated" or "reserved", or "free", which only shrinks.
func Amount(field, name string, difference int64) Change {
	if difference < 0 {
		text, amount := rounded(name, -difference)
		return Change{Text: fmt.Sprintf("%s less %s %s", text, name, field), apply: grow(field, name, -amount)}
	}
	text, amount := rounded(name, difference)
	return Change{Text: fmt.Sprintf("%s more %s %s", text, name, field), apply: grow(field, name, amount)}
}

func grow(field, name string, by int64) func(*trial) {
	return func(t *trial) {
		switch amount := capacity.Of(name, by); field {
		case "allocatable":
			t.Allocatable = t.Allocatable.Add(amount)
		case "allocated":
			t.Allocated = t.Allocated.Add(amount)
		case "reserved":
			t.reserved = t.reserved.Add(amount)
		case "free": // less is free if more is in use
			t.Allocated = t.Allocated.Sub(amount)
		}
	}
}

// rounded formats an amount, rounded up, and returns the text and the amount that it states.
func rounded(name string, amount int64) (string, int64) {
	text := capacity.Format(name, amount, true)
	q, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
	case name == capacity.CPU:
		amount = q.MilliValue()
	default:
		amount = q.Value()
	}
	return text, amount
}

// Quota returns the change that the quota on the cluster leaves more of a resource.
func Quota(name string, more int64) Change {
	text, amount := rounded(name, more)
	return Change{Text: fmt.Sprintf("%s more %s of the clusterQuota", text, name), apply: func(t *trial) {
		if _, bounded := t.left[name]; bounded {
			t.left[name] += amount
		}
	}}
}

// Ready returns the change that the cluster is Ready.
func Ready() Change {
	return Change{Text: "Ready to be True", apply: func(t *trial) {
		t.Conditions = slices.DeleteFunc(t.Conditions, func(c snapshot.Condition) bool { return c.Type == snapshot.ReadyCondition })
		t.Conditions = append(t.Conditions, snapshot.Condition{Type: snapshot.ReadyCondition, Status: "True"})
	}}
}

// Schedulable returns the change that the cluster is neither cordoned nor drained, and is granted.
func Schedulable(text string) Change {
	return Change{Text: text, apply: func(t *trial) { t.Unschedulable, t.Draining, t.Withdrawn = false, false, false }}
}

// Location returns the change that the cluster has another location.
func Location(text, location string) Change {
	return Change{Text: text, apply: func(t *trial) { t.Location = location }}
}

// Label returns the change that a label has a value.
func Label(text, key, value string) Change {
	return Change{Text: text, apply: func(t *trial) { t.Labels[key] = value }}
}

// NoLabel returns the change that there is no label with a key.
func NoLabel(text, key string) Change {
	return Change{Text: text, apply: func(t *trial) { delete(t.Labels, key) }}
}

// Capability returns the change that a capability is available.
func Capability(kind string) Change {
	return Change{Text: fmt.Sprintf("capability %s available", kind), apply: func(t *trial) {
		for i := range t.Capabilities {
			if t.Capabilities[i].Type == kind {
				t.Capabilities[i].Available = true
				return
			}
		}
		t.Capabilities = append(t.Capabilities, snapshot.Capability{Type: kind, Available: true})
	}}
}

// trial is a copy of a cluster. Its maps and slices are its own.
type trial struct {
	snapshot.Cluster
	reserved capacity.Resources
	// left is what a quota on the cluster leaves; nil where there is none.
	left map[string]int64
}

// Try returns the row of a cluster as it is after all changes that can be tried.
func Try(row *snapshot.Row, changes []Change) *snapshot.Row {
	t := &trial{*row.Cluster, row.Reserved, nil}
	t.Allocated = row.Allocated
	if row.Quota != nil {
		t.left = maps.Clone(row.Quota.Left)
	}
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	t.Capabilities, t.Conditions = slices.Clone(t.Capabilities), slices.Clone(t.Conditions)
	for i := range changes {
		if changes[i].apply != nil {
			changes[i].apply(t)
		}
	}
	for _, m := range largest(changes) {
		t.free(m)
	}
	tried := snapshot.NewRow(&t.Cluster, t.reserved)
	if t.left != nil {
		return tried.Within(t.left)
	}
	return tried
}

// largest returns what has to be free, one entry per resource.
func largest(changes []Change) (all []More) {
	for _, c := range changes {
		if c.More == nil {
			continue
		}
		i := slices.IndexFunc(all, func(m More) bool { return m.Resource == c.More.Resource && m.OnNode == c.More.OnNode })
		if i < 0 {
			all = append(all, *c.More)
		} else {
			all[i].Amount = max(all[i].Amount, c.More.Amount)
		}
	}
	return all
}

// free frees more of a resource: first by reducing what is in use, then what is reserved, then by adding capacity.
func (t *trial) free(m More) {
	if m.OnNode {
		if t.LargestFree != nil {
			largest := t.LargestFree.Add(capacity.Of(m.Resource, m.Amount))
			t.LargestFree = &largest
		}
		return
	}
	left := m.Amount
	for _, used := range []*capacity.Resources{&t.Allocated, &t.reserved} {
		less := min(left, max(0, used.Get(m.Resource)))
		*used = used.Sub(capacity.Of(m.Resource, less))
		left -= less
	}
	t.Allocatable = t.Allocatable.Add(capacity.Of(m.Resource, left))
}

// Add returns the change that more is free in addition to what the changes free.
func Add(changes []Change, more More) Change {
	for _, m := range largest(changes) {
		if m.Resource == more.Resource && m.OnNode == more.OnNode {
			more.Amount += m.Amount
		}
	}
	return Free(more)
}

// Text joins changes that are made together.
func Text(changes []Change) string { return TextAmong(changes, changes) }

// TextAmong joins the texts of changes, leaving out those for which a change among all frees more of the same resource.
func TextAmong(changes, all []Change) string {
	var texts []string
	freed := largest(all)
	for _, c := range changes {
		if c.More != nil && !slices.Contains(freed, *c.More) {
			continue
		}
		if !slices.Contains(texts, c.Text) {
			texts = append(texts, c.Text)
		}
	}
	return strings.Join(texts, " and ")
}
