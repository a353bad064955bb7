package constraint

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// Sizes up to which expressions are costed. An expression is not evaluated over a larger object.
const (
	maxEntries   = 256 // of a map
	maxItems     = 64  // of a list
	maxKey       = 317 // characters of a name, or of a label's or annotation's key
	maxLabel     = 63  // characters of a label's value
	maxAttribute = 256 // characters of an attribute of a capability
	maxText      = 4096
)

// check verifies that one field is no larger than assumed in the cost of expressions that read it.
type check struct {
	field string
	check func(field string, v *Variables) error
}

// sizeChecks lists the fields that can be too large, whether or not the API server limits them as well.
var sizeChecks = []check{
	{"cluster.name", func(f string, v *Variables) error { return short(f, v.Row.Name, maxKey) }},
	{"cluster.location", func(f string, v *Variables) error { return short(f, v.Row.Location, maxKey) }},
	{"cluster.labels", func(f string, v *Variables) error { return small(f, v.Row.Labels, maxLabel) }},
	{"cluster.capabilities", func(f string, v *Variables) error {
		return each(f, v.Row.Capabilities, func(c *snapshot.Capability) error {
			if err := small("cluster.capabilities attributes", c.Attributes, maxAttribute); err != nil {
				return err
			}
			return short("cluster.capabilities type", c.Type, maxText)
		})
	}},
	{"cluster.taints", func(f string, v *Variables) error {
		return each(f, v.Row.Taints, func(t *corev1.Taint) error { return short(f, longest(t.Key, t.Value, string(t.Effect)), maxText) })
	}},
	{"cluster.conditions", func(f string, v *Variables) error {
		return each(f, v.Row.Conditions, func(c *snapshot.Condition) error {
			return short(f, longest(c.Type, c.Status, c.Reason, c.Message), maxText)
		})
	}},
	{"capacity.allocatable", resources}, {"capacity.allocated", resources}, {"capacity.reserved", resources},
	{"capacity.free", resources}, {"capacity.utilization", resources},
	{"workload.apiVersion", func(f string, v *Variables) error { return short(f, v.Workload.APIVersion, maxKey) }},
	{"workload.kind", func(f string, v *Variables) error { return short(f, v.Workload.Kind, maxKey) }},
	{"workload.namespace", func(f string, v *Variables) error { return short(f, v.Workload.Namespace, maxKey) }},
	{"workload.name", func(f string, v *Variables) error { return short(f, v.Workload.Name, maxKey) }},
	{"workload.labels", func(f string, v *Variables) error { return small(f, v.Workload.Labels, maxLabel) }},
	{"workload.annotations", func(f string, v *Variables) error { return small(f, v.Workload.Annotations, maxText) }},
	{"workload.requests", func(f string, v *Variables) error { return names(f, v.Workload.Requests.Extended) }},
	{"placement.name", func(f string, v *Variables) error { return short(f, v.Placement.Name, maxKey) }},
	{"placement.namespace", func(f string, v *Variables) error { return short(f, v.Placement.Namespace, maxKey) }},
	{"placement.labels", func(f string, v *Variables) error { return small(f, v.Placement.Labels, maxLabel) }},
}

// within returns the first failure of an expression's checks.
func within(bounds []check, v *Variables) error {
	for i := range bounds {
		if err := bounds[i].check(bounds[i].field, v); err != nil {
			return err
		}
	}
	return nil
}

func resources(field string, v *Variables) error {
	// free has every resource that allocatable, allocated or reserved has, if only with a negative amount.
	return names(field, v.Row.Free.Extended)
}

func names(field string, amounts map[string]int64) error {
	if err := entries(field, len(amounts), maxEntries); err != nil {
		return err
	}
	var longest string
	for name := range amounts {
		if len(name) > len(longest) {
			longest = name
		}
	}
	return short(field, longest, maxKey)
}

func entries(field string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s has %d entries, constraints are evaluated over at most %d", field, n, most)
	}
	return nil
}

func short(field, text string, most int) error {
	if len(text) > most && utf8.RuneCountInString(text) > most {
		return fmt.Errorf("%s has a text of %d characters, constraints are evaluated over at most %d", field, utf8.RuneCountInString(text), most)
	}
	return nil
}

func small(field string, m map[string]string, most int) error {
	if err := entries(field, len(m), maxEntries); err != nil {
		return err
	}
	var key, value string // the longest ones, so that the message does not depend on the order of the map
	for k, v := range m {
		if len(k) > len(key) {
			key = k
		}
		if len(v) > len(value) {
			value = v
		}
	}
	if err := short(field, key, maxKey); err != nil {
		return err
	}
	return short(field, value, most)
}

func each[T any](field string, items []T, check func(*T) error) error {
	if err := entries(field, len(items), maxItems); err != nil {
		return err
	}
	for i := range items {
		if err := check(&items[i]); err != nil {
			return err
		}
	}
	return nil
}

func longest(texts ...string) string {
	return slices.MaxFunc(texts, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
}
