package policy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/policies"
)

// example are modules that docs/policies.md shows, and what it says that they give.
type example struct {
	line    int // of the end
	modules map[string]string
	// Empty where the page does not say.
	weights, terms, scheduling string
	err                        string
}

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// examples of the page: a block of Rego is a module, and ends in comments on what it gives. Blocks that begin with the
// name of a file are modules of one workspace, up to the first that says what they give together.
func examples(t *testing.T) (found []example) {
	t.Helper()
	var block []string
	inBlock := false
	e := example{modules: map[string]string{}}
	for i, line := range strings.Split(page(t), "\n") {
		switch {
		case line == "```rego":
			inBlock, block = true, nil
		case inBlock && line == "```":
			inBlock = false
			for _, last := range block[max(0, len(block)-2):] {
				for prefix, to := range map[string]*string{"# weights: ": &e.weights, "# terms: ": &e.terms, "# scheduling: ": &e.scheduling, "# error: ": &e.err} {
					if said, ok := strings.CutPrefix(last, prefix); ok {
						*to = said
					}
				}
			}
			file, named := strings.CutPrefix(block[0], "# ")
			if !named {
				file = "example.rego"
			}
			e.modules[file] = strings.Join(block, "\n") + "\n"
			if e.line = i + 1; e.weights+e.terms+e.scheduling+e.err != "" {
				found = append(found, e)
				e = example{modules: map[string]string{}}
			} else if !named {
				t.Fatalf("line %d: the block does not end in what it gives", i+1)
			}
		case inBlock:
			block = append(block, line)
		}
	}
	if len(e.modules) > 0 {
		t.Fatalf("nothing says what %v give", slices.Sorted(maps.Keys(e.modules)))
	}
	return found
}

// TestDocumentedExamples: what docs/policies.md shows gives what it says.
func TestDocumentedExamples(t *testing.T) {
	found := examples(t)
	if len(found) < 30 {
		t.Errorf("%d examples", len(found))
	}
	library, err := filepath.Glob("../../policies/library/*/*.rego")
	if err != nil || len(library) == 0 {
		t.Fatal(library, err)
	}
	c := compiler(t)
	for _, e := range found {
		all := strings.Join(slices.Collect(maps.Values(e.modules)), "\n")
		if strings.Contains(all, "data.placement.library") {
			for _, file := range library {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				e.modules["library/"+filepath.Base(file)] = string(text)
			}
		}
		judgement, err := judge(c, e.modules)
		switch {
		case err != nil && e.err != "" && strings.Contains(err.Error(), e.err):
		case err != nil:
			t.Errorf("line %d: %s\nfails: %v\nwant   %s", e.line, all, err, e.err)
		case e.err != "":
			t.Errorf("line %d: %s\nis good, want %s", e.line, all, e.err)
		default:
			if got := weightsText(judgement.Weights); e.weights != "" && got != normalized(t, e.weights) {
				t.Errorf("line %d: %s\ngives the weights %s", e.line, all, got)
			}
			if e.scheduling != "" && normalized(t, judgement.Scheduling.String()) != normalized(t, e.scheduling) {
				t.Errorf("line %d: %s\ngives the scheduling %s", e.line, all, judgement.Scheduling)
			}
			if got := termsText(judgement.Terms); e.terms != "" && got != e.terms {
				t.Errorf("line %d: %s\ngives the terms %s", e.line, all, got)
			}
		}
	}
}

func judge(c *policy.Compiler, modules map[string]string) (*policy.Judgement, error) {
	set, err := c.Compile(modules)
	if err != nil {
		return nil, err
	}
	return set.Judge(context.Background(), input())
}

func weightsText(weights scoring.Weights) string {
	named := map[string]int64{}
	for factor, weight := range weights.Factors {
		if weight != 0 {
			named[scoring.Factor(factor).String()] = weight
		}
	}
	for _, score := range weights.Scores {
		named[score.String()] = score.Weight
	}
	text, _ := json.Marshal(named)
	return string(text)
}

func normalized(t *testing.T, text string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	normal, _ := json.Marshal(value)
	return string(normal)
}

func termsText(terms []scoring.Term) string {
	texts := make([]string, len(terms))
	for i, term := range terms {
		texts[i] = fmt.Sprintf("%s %+d otherwise %+d", term.Factor, term.OnMatch, term.Otherwise)
		if term.Score != "" {
			texts[i] += " by score " + term.Score
		}
		if term.Required {
			texts[i] += " required"
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "; ")
}

// TestDocumentedInput: the input that the examples are judged for is the one that the page shows.
func TestDocumentedInput(t *testing.T) {
	_, shown, _ := strings.Cut(page(t), "```json\n")
	shown, _, _ = strings.Cut(shown, "```")
	judgement, err := judge(compiler(t), map[string]string{"a.rego": "package placement.scoring\ndefault weights := {\"health\": 1}\n" +
		"weights := {\"health\": 2} if input == " + shown})
	if err != nil || judgement.Weights.Factors[scoring.Health] != 2 {
		t.Errorf("the input is another: %v, %v", judgement, err)
	}
}

// TestDocumentationIsComplete: docs/policies.md names every function, every policy of the library, and the limits.
func TestDocumentationIsComplete(t *testing.T) {
	text := page(t)
	var missing []string
	want := func(said string) {
		if !strings.Contains(text, said) {
			missing = append(missing, said)
		}
	}
	var capabilities struct {
		Builtins []struct{ Name, Infix string }
	}
	if err := json.Unmarshal(policies.Capabilities, &capabilities); err != nil {
		t.Fatal(err)
	}
	for _, b := range capabilities.Builtins {
		switch {
		case strings.HasPrefix(b.Name, "internal."): // what in and print become
		case b.Infix == "|": // would end the table's cell
			want("&#124;")
		case b.Infix != "":
			want("`" + b.Infix + "`")
		default:
			want("`" + b.Name + "`")
		}
	}
	library, err := os.ReadDir("../../policies/library")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range library {
		want("| `" + strings.ReplaceAll(entry.Name(), "-", "_") + "` |")
	}
	for what, limit := range map[string]int{
		"modules": policy.MaxModules, "bytes of a module": policy.MaxModuleBytes, "bytes of all modules": policy.MaxTotalBytes,
		"rules": policy.MaxRules, "nodes of the syntax trees": policy.MaxNodes, "depth of nesting": policy.MaxNesting,
		"digits of a number literal": policy.MaxDigits,
		"parts of the results of rules that use the results of other rules, expanded": policy.MaxTypeSize,
		"every 64 characters of a string":                                             policy.Budget,
	} {
		want(fmt.Sprintf("%s | %s |", what, grouped(limit)))
	}
	want(fmt.Sprintf("(Linux) | %d ms |", policy.MaxCPUTime.Milliseconds()))
	want(fmt.Sprintf("(`--policy-timeout`) | %d s |", int(policy.DefaultTimeout.Seconds())))
	want(fmt.Sprintf("at most %d terms", policy.MaxTerms))
	want(fmt.Sprintf("at most %d bytes", policy.MaxReason))
	if diff := cmp.Diff([]string(nil), missing); diff != "" {
		t.Errorf("not said: %s", diff)
	}
}

// grouped writes a number as people do, with commas.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}
