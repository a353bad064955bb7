package constraint_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/engine/constraint"
)

const page = "../../docs/cel.md"

// example is an expression of the page, and what the page says that it gives: true, false, "error: " and the error of
// its evaluation, or "refused: " and how the error of its compilation begins.
type example struct {
	line             int
	expression, want string
}

// row is a row of a table of examples: its last two cells are the expression and what it gives.
var row = regexp.MustCompile("^\\|.* \\| `([^`]+)` \\| (true|false|error: .+|refused: .+) \\|$")

// examples of the page. Whatever looks like one and cannot be read fails the test, so that none is passed over.
func examples(t *testing.T) (found []example) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var block []string // nil outside a block of CEL
	inBlock, inTable := false, false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case line == "```cel":
			inBlock, block = true, nil
		case inBlock && line == "```":
			inBlock = false
			last := len(block) - 1
			want, ok := "", last > 0
			if ok {
				want, ok = strings.CutPrefix(block[last], "// ")
			}
			if !ok {
				t.Fatalf("line %d: the block does not end in what it gives", i+1)
			}
			found = append(found, example{i + 1, strings.Join(block[:last], "\n"), want})
		case inBlock:
			block = append(block, line)
		case strings.HasSuffix(line, "| example | result |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|---"):
			cells := row.FindStringSubmatch(line)
			if cells == nil {
				t.Fatalf("line %d: the row has no example with what it gives", i+1)
			}
			found = append(found, example{i + 1, strings.ReplaceAll(cells[1], `\|`, "|"), cells[2]})
		}
	}
	return found
}

// TestDocumentedFixture: the examples are evaluated for what the page says.
func TestDocumentedFixture(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, fixture, _ := strings.Cut(string(text), "```yaml\ncluster:")
	fixture, _, _ = strings.Cut("cluster:"+fixture, "```")
	var described map[string]map[string]any
	if err := yaml.Unmarshal([]byte(fixture), &described); err != nil || len(described) != 4 {
		t.Fatal(described, err)
	}
	c := compiler(t)
	same := func(path string, value any) {
		literal, _ := json.Marshal(value) // which CEL reads
		program, err := c.Compile(fmt.Sprintf("%s == %s", path, literal))
		if err != nil {
			t.Error(err)
			return
		}
		if holds, err := program.Eval(variables()); !holds || err != nil {
			t.Errorf("%s is not %s: %v", path, literal, err)
		}
	}
	for variable, fields := range described {
		for field, value := range fields {
			path := variable + "." + field
			elements, ok := value.([]any)
			if !ok {
				same(path, value)
				continue
			}
			same(path+".size()", len(elements))
			for i, element := range elements {
				for field, value := range element.(map[string]any) {
					same(fmt.Sprintf("%s[%d].%s", path, i, field), value)
				}
			}
		}
	}
}

// TestDocumentedExamples: what docs/cel.md shows gives what it says.
func TestDocumentedExamples(t *testing.T) {
	found := examples(t)
	if len(found) < 60 {
		t.Errorf("%d examples", len(found))
	}
	c := compiler(t)
	for _, e := range found {
		program, err := c.Compile(e.expression)
		if err != nil {
			if want, ok := strings.CutPrefix(e.want, "refused: "); !ok || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("line %d: %s\nis refused: %v\nwant %s", e.line, e.expression, err, e.want)
			}
			continue
		}
		holds, err := program.Eval(variables())
		got := fmt.Sprint(holds)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != e.want {
			t.Errorf("line %d: %s\ngives %s\nwant  %s", e.line, e.expression, got, e.want)
		}
	}
}

// refused are functions of the environment that no expression can use, each with one that tries to. The page must show
// a function as soon as it can be used.
var refused = map[string]string{
	"join": `["eu", "west"].join("-") == "eu-west"`,
}

// TestDocumentationIsComplete: docs/cel.md shows whatever an expression can name, and states the limits.
func TestDocumentationIsComplete(t *testing.T) {
	c := compiler(t)
	shown := map[string]bool{}
	for _, e := range examples(t) {
		if _, err := c.Compile(e.expression); err == nil {
			for _, name := range c.Uses(e.expression) {
				shown[name] = true
			}
		}
	}
	for _, name := range c.Vocabulary() {
		if expression, ok := refused[name]; ok {
			if _, err := c.Compile(expression); err == nil {
				t.Errorf("%s can be used", name)
			}
		} else if !shown[name] {
			t.Errorf("%s has no example", name)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(string(text), ",", "")
	for _, stated := range []string{
		fmt.Sprintf("at most %d characters", constraint.MaxExpressionLength),
		fmt.Sprintf("above %d it is refused", constraint.DefaultCostLimit),
		fmt.Sprintf("%d entries of a map %d of a list", constraint.MaxEntries, constraint.MaxItems),
		fmt.Sprintf("at most %d steps", constraint.MaxPatternSteps),
		fmt.Sprintf("`constraint.Version` currently %d", constraint.Version),
	} {
		if !strings.Contains(plain, stated) {
			t.Errorf("the page does not say %q", stated)
		}
	}
}
