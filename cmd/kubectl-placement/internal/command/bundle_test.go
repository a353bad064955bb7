package command

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

// TestBundleRoundTrip: whatever the text of a module, who reads the ConfigMap gets the same text.
func TestBundleRoundTrip(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune(" \n\t#:|-\"'\\a%@\u0085\u2028\r\ufeffé")), 0, 40, -1))
	rapid.Check(t, func(t *rapid.T) {
		data := map[string]string{"a.rego": text.Draw(t, "text"), "b.rego": text.Draw(t, "other"), "-c.rego": "package x\n"}
		for key := range data {
			data[key] = strings.ToValidUTF8(data[key], "")
		}
		for format, unmarshal := range map[string]func([]byte, any) error{
			"yaml": func(text []byte, into any) error { return yaml.UnmarshalStrict(text, into) }, "json": json.Unmarshal,
		} {
			written, err := configMap("policies", "default", data, format)
			if err != nil {
				t.Fatal(err)
			}
			var read corev1.ConfigMap
			if err := unmarshal([]byte(written), &read); err != nil {
				t.Fatalf("%v in\n%s", err, written)
			}
			for key, want := range data {
				if read.Data[key] != want {
					t.Fatalf("%s is %q, want %q, in\n%s", key, read.Data[key], want, written)
				}
			}
		}
	})
}
