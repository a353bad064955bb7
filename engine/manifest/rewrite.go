package manifest

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Rewrite returns the text of a file with every module of Rego in it replaced by what rewrite makes of it: the file as
// a whole, or in objects the modules of ConfigMaps that are written as literal blocks. All else stays as it is.
func Rewrite(f *File, rewrite func(name, module string) (string, error)) (string, error) {
	if strings.HasSuffix(f.Name, ".rego") {
		return rewrite(f.Name, f.Text)
	}
	if f.Name == "-" && !strings.Contains(f.Text, "apiVersion") {
		return rewrite("standard input", f.Text)
	}
	workspaces, errs := Read([]*File{f})
	if len(errs) > 0 {
		return "", Join(errs)
	}
	lines := strings.SplitAfter(f.Text, "\n")
	for _, w := range workspaces {
		for name, m := range w.Modules {
			n := m.object.find(m.path)
			if n.Style&yaml.LiteralStyle == 0 {
				continue
			}
			text, err := rewrite(name, m.Text)
			if err != nil {
				return "", fmt.Errorf("%s: %w", m.object.position(n), err)
			}
			m.object.replaceBlock(n, lines, text)
		}
	}
	return strings.Join(lines, ""), nil
}

// replaceBlock puts a text in the place of a literal block. The lines of the file keep their number, so that other
// blocks are found by theirs: the first line of the block holds all of its text, the others nothing.
func (o *Object) replaceBlock(n *yaml.Node, lines []string, text string) {
	first := o.above + n.Line // the line after the indicator, counted from 0
	last := first + strings.Count(strings.TrimRight(n.Value, "\n"), "\n")
	indent := strings.Repeat(" ", o.indent(n))
	var block strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		if strings.TrimSpace(line) != "" {
			block.WriteString(indent)
		}
		block.WriteString(line)
	}
	if !strings.HasSuffix(lines[last], "\n") {
		lines[first] = strings.TrimSuffix(block.String(), "\n")
	} else {
		lines[first] = block.String()
	}
	clear(lines[first+1 : last+1])
}
