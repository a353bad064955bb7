package output

import (
	"io"

	"sigs.k8s.io/yaml"
)

// Documents is an answer that consists of objects, to be applied. Its YAML is a document for each, and the default.
type Documents interface {
	Documents(w io.Writer) error
}

// writeYAML writes the JSON of an answer as YAML.
func writeYAML(w io.Writer, answer any) error {
	if d, ok := answer.(Documents); ok {
		return d.Documents(w)
	}
	text, err := yaml.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
