package policy_test

import (
	"strings"
	"testing"

	"github.com/kcp-placement/placement/engine/policy"
)

// TestSameRules: comments and layout do not count, and what cannot be parsed within the limits is the same as nothing.
func TestSameRules(t *testing.T) {
	c, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const text = "package placement.scoring\n\nweights := {\"capacity\": 10, \"location\": 5} if input.workload.name == \"a\"\n"
	for name, test := range map[string]struct {
		a, b map[string]string
		same bool
	}{
		"no modules":         {nil, map[string]string{}, true},
		"a comment":          {map[string]string{"a": text}, map[string]string{"a": "# why\n" + text}, true},
		"the layout":         {map[string]string{"a": text}, map[string]string{"a": strings.ReplaceAll(text, " if ", " if {\n") + "}\n"}, true},
		"a number":           {map[string]string{"a": text}, map[string]string{"a": strings.Replace(text, "10", "11", 1)}, false},
		"a text":             {map[string]string{"a": text}, map[string]string{"a": strings.Replace(text, `"a"`, `"# a"`, 1)}, false},
		"a rule more":        {map[string]string{"a": text}, map[string]string{"a": text + "x := 1\n"}, false},
		"another package":    {map[string]string{"a": text}, map[string]string{"a": strings.Replace(text, "scoring", "affinity", 1)}, false},
		"another file":       {map[string]string{"a": text}, map[string]string{"b": text}, false},
		"a file more":        {map[string]string{"a": text}, map[string]string{"a": text, "b": text}, false},
		"a file less":        {map[string]string{"a": text, "b": text}, map[string]string{"a": text}, false},
		"no Rego":            {map[string]string{"a": text}, map[string]string{"a": text + "}"}, false},
		"more than may be":   {map[string]string{"a": text}, map[string]string{"a": text + strings.Repeat("#\n", policy.MaxModuleBytes)}, false},
		"deeper than may be": {map[string]string{"a": text}, map[string]string{"a": text + "x := " + strings.Repeat("[", 1<<16)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if same := c.SameRules(test.a, test.b); same != test.same {
				t.Errorf("same: %t, want %t", same, test.same)
			}
			if same := c.SameRules(test.b, test.a); same != test.same {
				t.Errorf("the other way round: same: %t, want %t", same, test.same)
			}
		})
	}
}
