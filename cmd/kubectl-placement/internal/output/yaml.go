package output

import (
	"io"

	"sigs.k8s.io/yaml"
)

// writeYAML writes the JSON of an answer as YAML.
func writeYAML(w io.Writer, answer any) error {
	text, err := yaml.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
