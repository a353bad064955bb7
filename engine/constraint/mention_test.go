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
		`cluster.location == "eu" && "us" != cluster.location`:               {`1:21 cluster.location == "eu"`, `1:29 cluster.location != "us" or not`},
		`cluster.name in ["a", "b"]`:                                         {`1:18 cluster.name == "a" or another`, `1:23 cluster.name == "b" or another`},
		`cluster.labels["tier"] == "gold"`:                                   {`1:27 cluster.labels[tier] == "gold"`, `1:16 cluster.labels[tier]`},
		`cluster.labels.tier == "gold"`:                                      {`1:24 cluster.labels[tier] == "gold"`, `1:16 cluster.labels[tier]`},
		`cluster.labels.?tier.orValue("") == "gold"`:                         {`1:37 cluster.labels[?tier] == "gold"`, `1:17 cluster.labels[?tier]`},
		`"tier" in cluster.labels`:                                           {`1:1 cluster.labels[?tier]`},
		`has(cluster.labels.tier) && cluster.labels.tier != "x"`:             {`1:4 cluster.labels[?tier]`, `1:52 cluster.labels[?tier] != "x" or not`, `1:44 cluster.labels[?tier]`},
		`capacity.free["gpu"] > 1`:                                           {`1:24 capacity.free[gpu] > 1`, `1:15 capacity.free[gpu]`},
		`capacity.free.memry > workload.requests.memory`:                     {`1:15 capacity.free[memry]`, `1:41 workload.requests[memory]`},
		`cluster.capabilities.exists(c, c.type == "gpu" && !c.available)`:    {`1:42 capability.type == "gpu"`},
		`cluster.capabilities.exists(c, c.attributes.?m.orValue("") == "x")`: {`1:63 capability.attributes[?m] == "x"`, `1:46 capability.attributes[?m]`},
		`cluster.taints.all(t, t.key != "k" || t.effect in ["NoSchedule"])`:  {`1:32 taint.key != "k" or not`, `1:52 taint.effect == "NoSchedule"`},
		`{"a": "b"}["a"] == "b" && "x" == "x" && workload.replicas == 3`:     {`1:62 workload.replicas == 3`},

		`cluster.name == "a" || cluster.location == "b"`:     {`1:17 cluster.name == "a" or another`, `1:44 cluster.location == "b" or another`},
		`workload.kind != "a" || cluster.location == "b"`:    {`1:18 workload.kind != "a" or not or another`, `1:45 cluster.location == "b"`}, // an implication
		`!(cluster.name in ["a"]) && !(cluster.name != "b")`: {`1:20 cluster.name == "a" or not`, `1:47 cluster.name != "b"`},
		`cluster.name == "a" ? true : cluster.name == "b"`:   {`1:17 cluster.name == "a" or not`, `1:46 cluster.name == "b"`},
		`cluster.name.startsWith("a") && !cluster.labels.a.matches("b")`: {
			`1:25 cluster.name startsWith "a"`, `1:59 cluster.labels[a] matches "b" or not`, `1:49 cluster.labels[a]`},
		`64 < capacity.free.memory && capacity.utilization.cpu <= 8`: {
			`1:1 capacity.free[memory] > 64`, `1:20 capacity.free[memory]`, `1:58 capacity.utilization[cpu] <= 8`, `1:51 capacity.utilization[cpu]`},
		`capacity.free.cpu - workload.requests.cpu - 1 >= quantity("2")`: {
			`1:58 capacity.free[cpu] >= 2`, `1:15 capacity.free[cpu]`, `1:39 workload.requests[cpu]`},
		`capacity.free.memory - workload.requests.cpu > 2`: {`1:15 capacity.free[memory]`, `1:42 workload.requests[cpu]`},
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
			if m.Operator != "" {
				text += fmt.Sprintf(" %s %#v", m.Operator, m.Value)
			}
			if m.Unlike {
				text += " or not"
			}
			if m.Alternative {
				text += " or another"
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
}
