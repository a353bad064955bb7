package constraint_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/constraint"
)

// TestSpan: each part that fails is found where it stands in what the author wrote, however it is written. « and » are around those
// parts, and no part of the expressions.
func TestSpan(t *testing.T) {
	for name, marked := range map[string]string{
		"the whole":                     `«cluster.name == "beta"»`,
		"one of two":                    `cluster.name == "alpha" && «cluster.location == "us"»`,
		"the same part twice":           `«cluster.name == "beta"» && cluster.name == "alpha" && «cluster.name == "beta"»`,
		"a part that is within another": `(«cluster.name == "beta"») && «(cluster.name == "beta") == true»`,
		"white space":                   "  «cluster.name==\"beta\"»  &&\t«cluster . name   ==  'beta'» ",
		"several lines":                 "cluster.name == \"alpha\" &&\n  «cluster.location\n    == \"us\"» &&\r\n\n«cluster.name == 'beta'»\n",
		"comments":                      "// a && b\n«cluster.name == 'beta'» // first (\n && // second )\n «cluster.location == 'us'» // && end",
		"parentheses":                   `(( «cluster.name == "beta"» )) && (cluster.name == "alpha" && («cluster.location == "us"» && («(1 + 2) * (3 + 4) == 0»)))`,
		"parentheses that are no pair":  `«(cluster.name) == ("beta")» && («(cluster.name == "beta") || (cluster.name == "gamma")»)`,
		"parentheses around all":        `(((«cluster.name == "beta"» && «cluster.location == "us"»)))`,
		"not ASCII":                     `"é" != "è" && «cluster.name == "köln-日本-🚀"» && «cluster.location == "🚀"»`,
		"signs of the language in text": `«cluster.name == ") && ("» && «cluster.name == r'\'» && «cluster.location == """" && ' ("""» && «b'(' == b"//"»`,
		"&& that joins no parts":        `(«(cluster.name == "alpha" && cluster.location == "us") || cluster.name == "beta"») && «!(cluster.name == "alpha" && true)»`,
		"macros":                        `«cluster.labels.exists(k, k == "zone" && k == "(")» && «has(cluster.labels.zone)» && «capacity.free.cpu > quantity("4Gi")»`,
		"lists and maps":                `«cluster.name in ["beta", "gamma",]» && «{"a": [1, 2,]}["a"][0] == 2» && «cluster.labels[?"zone"].orValue("") == "z"»`,
		"an error":                      `cluster.name == "alpha" && «cluster.labels["zone"] == "a"»`,
		"many":                          strings.Repeat(`«cluster.name == "beta"» && `, 8) + `cluster.name == "alpha" && ` + strings.Repeat(`«cluster.location=="us"»&&`, 7) + `«false»`,
	} {
		t.Run(name, func(t *testing.T) { checkSpans(t, marked) })
	}
}

// TestSpanOfAnything does it with parts put together at random.
func TestSpanOfAnything(t *testing.T) {
	space := rapid.SampledFrom([]string{"", " ", "\n", "\t ", "\r\n", " // ) && (\n"})
	part := rapid.SampledFrom([]string{
		`cluster.name == "alpha"`, `true`, `«cluster.name == "beta"»`, `«cluster.name=='🚀 && ('»`, `«(cluster.name) == ("ß")»`, `«!true»`, `«false»`,
		"«cluster.name //)\n == 'beta'»", `«cluster.labels.all(k, k == "(" && k == ")")»`, `«cluster.labels["none"] == "a"»`,
	})
	var expression func(t *rapid.T, depth int) string
	expression = func(t *rapid.T, depth int) string {
		switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
		case depth == 0 || kind == 0:
			return part.Draw(t, "part")
		case kind == 1:
			return "(" + space.Draw(t, "space") + expression(t, depth-1) + space.Draw(t, "space") + ")"
		}
		parts := make([]string, rapid.IntRange(2, 4).Draw(t, "parts"))
		for i := range parts {
			parts[i] = space.Draw(t, "space") + expression(t, depth-1) + space.Draw(t, "space")
		}
		return strings.Join(parts, "&&")
	}
	rapid.Check(t, func(t *rapid.T) { checkSpans(t, expression(t, 3)) })
}

func checkSpans(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, marked string) {
	t.Helper()
	var want []constraint.Span
	var text []rune
	for _, r := range marked {
		switch r {
		case '«':
			want = append(want, constraint.Span{Start: len(text)})
		case '»':
			want[len(want)-1].End = len(text)
		default:
			text = append(text, r)
		}
	}
	c, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	program, err := c.Compile(string(text))
	if err != nil {
		t.Fatalf("%s: %v", string(text), err)
	}
	var got []constraint.Span
	for _, cause := range program.Explain(variables()) {
		got = append(got, cause.Span)
	}
	slices.SortFunc(got, func(a, b constraint.Span) int { return a.Start - b.Start })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: -want +got:\n%s", marked, diff)
	}
}
