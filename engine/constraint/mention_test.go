package constraint_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMentions: each literal that is held against a field is found, with its place, in all of CEL's notations.
func TestMentions(t *testing.T) {
	c := compiler(t)
	for expression, want := range map[string][]string{
		`cluster.location == "eu" && "us" != cluster.location`:               {`1:21 cluster.location == "eu"`, `1:29 cluster.location != "us"`},
		`cluster.name in ["a", "b"]`:                                         {`1:18 cluster.name == "a"`, `1:23 cluster.name == "b"`},
		`cluster.labels["tier"] == "gold"`:                                   {`1:27 cluster.labels[tier] == "gold"`, `1:16 cluster.labels[tier]`},
		`cluster.labels.tier == "gold"`:                                      {`1:24 cluster.labels[tier] == "gold"`, `1:16 cluster.labels[tier]`},
		`cluster.labels.?tier.orValue("") == "gold"`:                         {`1:37 cluster.labels[?tier] == "gold"`, `1:17 cluster.labels[?tier]`},
		`"tier" in cluster.labels`:                                           {`1:1 cluster.labels[?tier]`},
		`has(cluster.labels.tier) && cluster.labels.tier != "x"`:             {`1:4 cluster.labels[?tier]`, `1:52 cluster.labels[?tier] != "x"`, `1:44 cluster.labels[?tier]`},
		`capacity.free["gpu"] > 1`:                                           {`1:15 capacity.free[gpu]`},
		`capacity.free.memry > workload.requests.memory`:                     {`1:15 capacity.free[memry]`, `1:41 workload.requests[memory]`},
		`cluster.capabilities.exists(c, c.type == "gpu" && !c.available)`:    {`1:42 capability.type == "gpu"`},
		`cluster.capabilities.exists(c, c.attributes.?m.orValue("") == "x")`: {`1:63 capability.attributes[?m] == "x"`, `1:46 capability.attributes[?m]`},
		`cluster.taints.all(t, t.key != "k" || t.effect in ["NoSchedule"])`:  {`1:32 taint.key != "k"`, `1:52 taint.effect == "NoSchedule"`},
		`{"a": "b"}["a"] == "b" && "x" == "x" && workload.replicas == 3`:     nil,
	} {
		program, err := c.Compile(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		var got []string
		for _, m := range program.Mentions() {
			text := fmt.Sprintf("%d:%d %s", m.Line, m.Column, m.Field)
			if m.Keyed {
				text += map[bool]string{true: "[?", false: "["}[m.Optional] + m.Key + "]"
			}
			if m.Compared {
				text += fmt.Sprintf(" %s %q", map[bool]string{true: "!=", false: "=="}[m.Unlike], m.Value)
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
}
