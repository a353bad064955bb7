package delivery

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// conditionList holds the conditions of a status in their JSON form. Conditions of other writers stay as they are.
type conditionList struct {
	all []any
	now string
	// updates is set if the conditions of the kind have a lastUpdateTime.
	updates bool
	// changed is set once a condition differs from before, turned if the change should be written without delay.
	changed, turned bool
}

func conditionsOf(status map[string]any, updates bool, now time.Time) conditionList {
	all, _ := status["conditions"].([]any)
	return conditionList{all: slices.Clone(all), now: stamp(now), updates: updates}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (c *conditionList) at(kind string) (int, map[string]any) {
	for i, value := range c.all {
		if condition, ok := value.(map[string]any); ok && condition["type"] == kind {
			return i, condition
		}
	}
	return -1, nil
}

// finding returns a condition; nil if there is none.
func (c *conditionList) finding(kind string) *Finding {
	_, condition := c.at(kind)
	if condition == nil {
		return nil
	}
	f := &Finding{}
	status, _ := condition["status"].(string)
	f.Status = corev1.ConditionStatus(status)
	f.Reason, _ = condition["reason"].(string)
	f.Message, _ = condition["message"].(string)
	return f
}

func (c *conditionList) findingReason(kind string) string {
	if f := c.finding(kind); f != nil {
		return f.Reason
	}
	return ""
}

func (c *conditionList) isTrue(kind string) bool {
	f := c.finding(kind)
	return f != nil && f.Status == corev1.ConditionTrue
}

// updated returns when a condition was last written; the zero time if it does not record that.
func (c *conditionList) updated(kind string) time.Time {
	_, condition := c.at(kind)
	text, _ := condition["lastUpdateTime"].(string)
	at, _ := time.Parse(time.RFC3339, text)
	return at
}

// set updates a condition that differs, and appends one that is missing.
func (c *conditionList) set(kind string, f Finding) {
	before := c.finding(kind)
	if before != nil && *before == f {
		return
	}
	i, condition := c.at(kind)
	if condition = maps.Clone(condition); condition == nil {
		condition = map[string]any{"type": kind}
	}
	condition["status"], condition["reason"], condition["message"] = string(f.Status), f.Reason, f.Message
	if before == nil || before.Status != f.Status {
		condition["lastTransitionTime"] = c.now
	}
	if c.updates {
		condition["lastUpdateTime"] = c.now
	}
	if c.changed = true; i < 0 {
		c.all = append(c.all, condition)
	} else {
		c.all[i] = condition
	}
}

// renew updates the time of a condition that still holds.
func (c *conditionList) renew(kind string) {
	i, condition := c.at(kind)
	if condition["lastUpdateTime"] == c.now {
		return
	}
	condition = maps.Clone(condition)
	condition["lastUpdateTime"] = c.now
	c.all[i], c.changed = condition, true
}
