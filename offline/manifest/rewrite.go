package manifest

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// Rewrite returns the text of a file with rewrite applied to its Rego: to a Rego file as a whole, or to the modules of
// ConfigMaps that are written as literal blocks. Everything else stays as it is. Rewrite fails if that is impossible,
// for example if two objects share a module by an alias.
func Rewrite(f *File, rewrite func(name, module string) (string, error)) (string, error) {
	if f.Err != nil {
		return "", f.Err
	}
	if strings.HasSuffix(f.Name, ".rego") {
		return rewrite(f.Name, f.Text)
	}
	if f.Name == "-" && !strings.Contains(f.Text, "apiVersion") {
		return rewrite("standard input", f.Text)
	}
	workspaces, wrong := Read([]*File{f})
	if len(wrong) > 0 {
		return "", Join(wrong)
	}
	lines := strings.SplitAfter(f.Text, "\n")
	var errs []error
	changed := map[string]string{} // new texts of modules, by old text
	for _, w := range workspaces {
		for _, name := range slices.Sorted(maps.Keys(w.Modules)) {
			m := w.Modules[name]
			n := m.object.find(m.path)
			if n.Style&yaml.LiteralStyle == 0 {
				continue
			}
			text, err := rewrite(name, m.Text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.object.position(n), err))
				continue
			}
			if text = strings.TrimRight(text, "\n"); text != strings.TrimRight(m.Text, "\n") {
				changed[m.Text] = text
				m.object.replaceBlock(n, lines, text)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	text := strings.Join(lines, "")
	if !differOnlyIn(changed, f.Text, text) {
		return "", fmt.Errorf("%s: the modules cannot be replaced without changing other parts of the file, so nothing is changed", f.Name)
	}
	return text, nil
}

// replaceBlock replaces a literal block by a text. Line numbers must stay valid for finding other blocks: the first
// line of the block gets the whole text, the others become empty.
func (o *Object) replaceBlock(n *yaml.Node, lines []string, text string) {
	first := o.above + n.Line // the line after the indicator, counted from 0
	last := min(first+strings.Count(strings.TrimRight(n.Value, "\n"), "\n"), len(lines)-1)
	if first > last {
		return
	}
	ends := strings.HasSuffix(lines[last], "\n")
	ending := "\n"
	if strings.HasSuffix(lines[first], "\r\n") {
		ending = "\r\n"
	}
	indent := strings.Repeat(" ", o.indent(n))
	var block strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			block.WriteString(indent)
		}
		block.WriteString(line + ending)
	}
	written := block.String()
	if !ends {
		written = strings.TrimSuffix(written, ending)
	}
	lines[first] = written
	clear(lines[first+1 : last+1])
}

// differOnlyIn reports whether two YAML files are equal except for the changed modules.
func differOnlyIn(changed map[string]string, before, after string) bool {
	if before == after {
		return true
	}
	documents := func(text string) (all []any, ok bool) {
		for _, document := range separator.Split(text, -1) {
			var value any
			if err := kyaml.Unmarshal([]byte(document), &value); err != nil {
				return nil, false
			}
			all = append(all, value)
		}
		return all, true
	}
	was, ok := documents(before)
	is, fine := documents(after)
	return ok && fine && reflect.DeepEqual(replaced(was, changed), replaced(is, nil))
}

// replaced returns a value with the texts of modules replaced and without their trailing newlines.
func replaced(value any, by map[string]string) any {
	switch value := value.(type) {
	case map[string]any:
		for key, entry := range value {
			if text, ok := entry.(string); ok && strings.HasSuffix(key, ".rego") {
				if other, found := by[text]; found {
					text = other
				}
				value[key] = strings.TrimRight(text, "\n")
			} else {
				value[key] = replaced(entry, by)
			}
		}
	case []any:
		for i := range value {
			value[i] = replaced(value[i], by)
		}
	}
	return value
}
