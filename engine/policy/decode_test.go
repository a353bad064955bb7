package policy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestDecode: null is as good as nothing, a set as good as an array, and what is wrong is named by where it stands.
func TestDecode(t *testing.T) {
	c := compiler(t)
	for _, test := range []struct{ term, want string }{
		{`{"factor": "affinity", "match": {"clusterNames": {"b", "a"}}, "onMatch": null, "reason": null, "required": null}`, "[a b]"},
		{`{"factor": "affinity", "match": {"clusterNames": ["b", "a"], "labelSelector": null, "location": null}}`, "[b a]"},
		{`{"factor": "affinity", "match": {"labelSelector": {}}}`, "[]"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchLabels": {"b": "c", "a": "b"}}}}`, "[] a=b,b=c"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchLabels": {1: "b"}}}}`, "[] 1=b"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchExpressions": {{"key": "a", "operator": "In", "values": {"y", "x"}}}}}}`, "[] a in (x,y)"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": null}]}}}`, "[] a"},
		{`"affinity"`, "a term cannot be a string"},
		{`{"factor": "affinity", "match": "a"}`, "match cannot be a string"},
		{`{"factor": "affinity", "match": null}`, "match says nothing"},
		{`{"factor": "affinity", "match": {"clusterNames": "a"}}`, "match.clusterNames cannot be a string"},
		{`{"factor": "affinity", "match": {"clusterNames": ["a", 1]}}`, "match.clusterNames cannot be a number"},
		{`{"factor": "affinity", "match": {"location": ["a"]}}`, "match.location cannot be a array"},
		{`{"factor": "affinity", "match": {"location": {"a"}}}`, "match.location cannot be a array"},
		{`{"factor": "affinity", "match": {"location": {"a": "b"}}}`, "match.location cannot be a object"},
		{`{"factor": "affinity", "match": {"region": "a"}}`, `unknown field "region"`},
		{`{"factor": "affinity", "match": {"location": "a"}, "OnMatch": 1}`, `unknown field "OnMatch"`},
		{`{"factor": "affinity", "match": {"location": "a"}, "onMatch": 1.5}`, "onMatch cannot be a number 1.5"},
		{`{"factor": "affinity", "match": {"location": "a"}, "onMatch": 99999999999999999999}`, "onMatch cannot be a number 99999999999999999999"},
		{`{"factor": "affinity", "match": {"location": "a"}, "otherwise": true}`, "otherwise cannot be a bool"},
		{`{"factor": "affinity", "match": {"location": "a"}, "required": "yes"}`, "required cannot be a string"},
		{`{"factor": null, "match": {"location": "a"}}`, `factor is ""`},
		{`{"factor": "affinity", "match": {"labelSelector": []}}`, "match.labelSelector cannot be a array"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchLabels": {"a": 1}}}}`, "match.labelSelector.matchLabels.a cannot be a number"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchExpressions": [{"key": 1}]}}}`, "match.labelSelector.matchExpressions.key cannot be a number"},
		{`{"factor": "affinity", "match": {"labelSelector": {"matchExpressions": [{"name": "a"}]}}}`, `unknown field "name"`},
	} {
		set, err := c.Compile(map[string]string{"a.rego": "package placement.affinity\nuse_builtin := false\nterms contains " + test.term})
		got := fmt.Sprint(err)
		if err == nil {
			judgement, err := set.Judge(context.Background(), input())
			if err != nil {
				t.Fatal(err)
			}
			match := judgement.Terms[0].Match
			got = fmt.Sprint(match.ClusterNames)
			if match.Labels != nil && !match.Labels.Empty() {
				got += " " + match.Labels.String()
			}
			if got != test.want {
				t.Errorf("%s: got %s, want %s", test.term, got, test.want)
			}
		} else if !strings.Contains(got, ": "+test.want) {
			t.Errorf("%s: got %s, want %s", test.term, got, test.want)
		}
	}
}
