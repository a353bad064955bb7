package bundle

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/kcp-placement/placement/policies"
)

// Entries returns the modules, by file name, that combine policies of the library: terms add up; weights and scheduling come from the
// first policy that has any for a workload.
func Entries(library ...string) map[string]string {
	entries := map[string]string{}
	if names := Defining("terms", library); len(names) > 0 {
		entries["affinity.rego"] = termsOf(names)
	}
	if names := Defining("weights", library); len(names) > 0 {
		entries["scoring.rego"] = weightsOf(names)
	}
	if names := Defining("scheduling", library); len(names) > 0 {
		entries["scheduling.rego"] = schedulingOf(names)
	}
	return entries
}

// Defining returns the policies of the library that define a rule.
func Defining(rule string, library []string) (names []string) {
	for _, name := range library {
		text, _ := fs.ReadFile(policies.Library, path.Join("library", name, name+".rego")) // embedded
		module, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{})
		if err != nil {
			continue
		}
		for _, r := range module.Rules {
			if ref := r.Head.Ref(); len(ref) > 0 && ref[0].Value.Compare(ast.Var(rule)) == 0 {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// identifier returns the last part of a policy's package.
func identifier(name string) string { return strings.ReplaceAll(name, "-", "_") }

func termsOf(library []string) string {
	var imports, rules string
	for _, name := range library {
		imports += "import data.placement.library." + identifier(name) + "\n"
		rules += fmt.Sprintf("\nterms contains term if some term in %s.terms\n", identifier(name))
	}
	return "# The terms of these policies add up.\npackage placement.affinity\n\n" + imports + rules
}

func weightsOf(library []string) string {
	imports, rule := "import data.placement.builtin.scoring as builtin\n", ""
	for i, name := range library {
		imports += "import data.placement.library." + identifier(name) + "\n"
		start := "weights := "
		if i > 0 {
			start = " else := "
		}
		rule += fmt.Sprintf("%[1]s%[2]s.weights if {\n\t%[2]s.weights != builtin.weights\n}", start, identifier(name))
	}
	return "# Weights do not add up. For each workload those of the first of these policies count that has any but the built-in ones: the\n" +
		"# order decides.\npackage placement.scoring\n\n" + imports + "\n" + rule + " else := builtin.weights\n"
}

func schedulingOf(library []string) string {
	var imports, rule string
	for i, name := range library {
		imports += "import data.placement.library." + identifier(name) + "\n"
		if i > 0 {
			rule += " else "
		} else {
			rule += "scheduling "
		}
		rule += fmt.Sprintf(":= %s.scheduling", identifier(name))
	}
	return "# For each workload the first of these policies counts that schedules it.\npackage placement\n\n" + imports + "\n" + rule + "\n"
}
