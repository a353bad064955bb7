package command_test

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
	"github.com/kcp-placement/placement/internal/reference"
	"github.com/kcp-placement/placement/policies"
)

func printed(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut strings.Builder
	if code := command.Run(t.Context(), append([]string{"reference"}, args...), strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, &errOut)
	}
	return out.String()
}

// properties are the names of all fields of a JSON schema.
func properties(schema any) (names []string) {
	switch s := schema.(type) {
	case map[string]any:
		if fields, ok := s["properties"].(map[string]any); ok {
			for name := range fields {
				names = append(names, name)
			}
		}
		for _, part := range s {
			names = append(names, properties(part)...)
		}
	case []any:
		for _, part := range s {
			names = append(names, properties(part)...)
		}
	}
	return names
}

// TestSchemasAreInTheReference: whatever field policies see, or can say, the reference names.
func TestSchemasAreInTheReference(t *testing.T) {
	for topic, file := range map[string]string{"input": "input.json", "terms": "affinity/terms.json", "weights": "scoring/weights.json"} {
		text, err := fs.ReadFile(policies.Schemas, "schemas/"+file)
		if err != nil {
			t.Fatal(err)
		}
		var schema any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		names := properties(schema)
		if len(names) < 5 {
			t.Errorf("%s has %d fields", file, len(names))
		}
		shown := printed(t, topic)
		for _, name := range names {
			if !regexp.MustCompile(`\b` + name + `\b`).MatchString(shown) {
				t.Errorf("reference %s does not mention %s of %s", topic, name, file)
			}
		}
	}
}

var span = regexp.MustCompile("`([^`]+)`")

// TestNothingIsLost: what the pages show as code is in the reference, character by character. The tests of the engine hold the
// pages complete, and run their examples.
func TestNothingIsLost(t *testing.T) {
	for _, topic := range reference.Topics() {
		if len(topic.Sections) == 0 {
			t.Errorf("%s is empty: the page has no such sections", topic.Name)
		}
		shown := printed(t, topic.Name)
		for _, s := range topic.Sections {
			if s.Text == "" {
				t.Errorf("%s: %s is empty", topic.Name, s.Title)
			}
			code := false
			for line := range strings.Lines(s.Text) {
				line = strings.TrimSpace(line)
				if strings.HasPrefix(line, "```") {
					code = !code
					continue
				}
				words := []string{line}
				if !code {
					words = nil
					for _, found := range span.FindAllStringSubmatch(line, -1) {
						words = append(words, strings.ReplaceAll(found[1], `\|`, "|"))
					}
				}
				for _, word := range words {
					// The header of a table is in capitals, and a paragraph may break anywhere.
					if !strings.Contains(shown, word) && !strings.Contains(strings.ToLower(shown), strings.ToLower(word)) {
						t.Errorf("reference %s lacks %q of %s", topic.Name, word, s.Title)
					}
				}
			}
		}
	}
}

// TestWords: a word leads to the section about it, or else to those that use it.
func TestWords(t *testing.T) {
	for _, test := range []struct{ topic, word, in, out string }{
		{"cel", "strings", "startsWith", "getHours"},
		{"cel", "optFlatMap", "OPTIONAL VALUES", "getHours"},
		{"cel", "Limits", "4,096 characters", "startsWith"},
		{"rego", "pitfalls", "Weights need a default", "THE SANDBOX"},
	} {
		shown := printed(t, test.topic, test.word)
		if !strings.Contains(shown, test.in) || strings.Contains(shown, test.out) {
			t.Errorf("reference %s %s shows\n%s", test.topic, test.word, shown)
		}
	}
}
