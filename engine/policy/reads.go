package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/kcp-placement/placement/engine/workload"
)

// readsOf derives from compiled modules which fields of the workload they can read. Whatever is not a plain reference
// to one field, as when a function is handed the whole workload, counts as reading all.
func readsOf(modules map[string]*ast.Module) (fields workload.Fields) {
	for _, module := range modules {
		for _, rule := range module.Rules {
			fields |= readsIn(rule)
		}
	}
	return fields
}

func readsIn(x any) (fields workload.Fields) {
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if v[0].Equal(ast.InputRootDocument) {
				fields |= readsBy(v)
			} else {
				fields |= readsIn(v[0])
			}
			for _, element := range v[1:] {
				fields |= readsIn(element)
			}
			return true
		case ast.Var:
			if v.Equal(ast.InputRootDocument.Value) {
				fields = workload.AllFields
			}
		}
		return false
	})
	return fields
}

// readsBy is what input.workload.labels and its like read.
func readsBy(ref ast.Ref) workload.Fields {
	if len(ref) < 2 {
		return workload.AllFields
	}
	switch document, _ := ref[1].Value.(ast.String); document {
	case "workspace", "placement":
		return 0
	case "workload":
		if len(ref) > 2 {
			if name, ok := ref[2].Value.(ast.String); ok {
				return workload.FieldNamed(string(name))
			}
		}
	}
	return workload.AllFields
}
