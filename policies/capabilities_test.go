package policies_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/kcp-placement/placement/policies"
)

// allowed is what tenants' Rego may call. Left out is everything with access to the outside, to the clock or to randomness, and
// everything that can make a large value of a small one in one uninterruptible call: sprintf, concat, replace, array.concat, numbers.range,
// product, bits.lsh, json and yaml, regular expressions, graph walks and templates.
var allowed = []string{
	// comparison and assignment
	"assign", "eq", "equal", "neq", "lt", "lte", "gt", "gte",
	// arithmetic
	"plus", "minus", "mul", "div", "rem", "abs", "ceil", "floor", "round",
	// aggregates
	"count", "sum", "max", "min", "sort",
	// sets
	"and", "or", "intersection", "union", "internal.member_2", "internal.member_3",
	// objects
	"object.get", "object.keys",
	// strings
	"contains", "startswith", "endswith", "lower", "upper", "trim_prefix", "trim_suffix", "trim_space", "split", "indexof",
	// matching and units
	"glob.match", "semver.compare", "semver.is_valid", "units.parse", "units.parse_bytes",
	// types
	"is_string", "is_number", "is_boolean", "is_array", "is_set", "is_object", "to_number",
	// people's eyes, and suites
	"print", "internal.print", "internal.test_case",
}

// TestCapabilities holds capabilities.json to the list above and to the declarations of the OPA that we build with.
// With UPDATE_CAPABILITIES=1 it writes the file.
func TestCapabilities(t *testing.T) {
	want := ast.CapabilitiesForThisVersion()
	want.Builtins = slices.DeleteFunc(want.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(allowed, b.Name) })
	want.Features = []string{ast.FeatureRefHeads, ast.FeatureRegoV1}
	want.FutureKeywords = []string{}
	want.WasmABIVersions = nil
	text, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	// The encoder drops an empty list, and where there is none every host is allowed.
	text = bytes.Replace(text, []byte("{\n"), []byte("{\n  \"allow_net\": [],\n"), 1)
	text = append(text, '\n')
	if os.Getenv("UPDATE_CAPABILITIES") != "" {
		if err := os.WriteFile("capabilities.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(text, policies.Capabilities) {
		t.Error("capabilities.json is stale: run UPDATE_CAPABILITIES=1 go test ./policies")
	}
	if got := len(want.Builtins); got != len(allowed) {
		t.Errorf("%d of %d allowed functions are known to this OPA", got, len(allowed))
	}
	loaded, err := ast.LoadCapabilitiesJSON(bytes.NewReader(policies.Capabilities))
	if err != nil || loaded.AllowNet == nil || len(loaded.AllowNet) != 0 {
		t.Errorf("no host must be allowed: %v, %v", loaded.AllowNet, err)
	}
}
