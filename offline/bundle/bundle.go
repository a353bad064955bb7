// Package bundle writes policies as the ConfigMap in which they are applied.
package bundle

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// ConfigMap returns a ConfigMap with policies, by key, as yaml or json. The same policies give the same bytes.
func ConfigMap(name, namespace string, data map[string]string, format string) (string, error) {
	metadata := map[string]any{"name": name, "labels": map[string]string{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	object := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
	if format == "json" {
		object["data"] = data
		text, err := json.MarshalIndent(object, "", "  ")
		return string(text) + "\n", err
	}
	head, err := yaml.Marshal(object)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.Write(head)
	text.WriteString("data:\n")
	for _, key := range slices.Sorted(maps.Keys(data)) {
		text.WriteString("  " + key + ": " + block(data[key]))
	}
	return text.String(), nil
}

// block writes a text as a YAML literal block indented by four, or in quotes if a block cannot hold it.
func block(text string) string {
	lines := strings.TrimRight(text, "\n")
	cannot := lines == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r != '\n' && r != '\t' && (!unicode.IsPrint(r) && r != '\u00a0' && r != '\u3000' || r == '\ufeff' || r == unicode.ReplacementChar)
	})
	if cannot {
		return strconv.QuoteToASCII(text) + "\n" // YAML has all escapes of Go
	}
	header := "|"
	if strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n") || strings.HasPrefix(text, "\t") {
		header += "2" // otherwise the first line would determine the indentation
	}
	ending := "\n"
	switch trailing := text[len(lines):]; len(trailing) {
	case 0:
		header += "-"
	case 1:
	default:
		header, ending = header+"+", trailing
	}
	var b strings.Builder
	b.WriteString(header + "\n")
	for i, line := range strings.Split(lines, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if line != "" {
			b.WriteString("    " + line)
		}
	}
	return b.String() + ending
}
