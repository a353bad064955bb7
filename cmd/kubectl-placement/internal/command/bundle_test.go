package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/offline/bundle"
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
			written, err := bundle.ConfigMap("policies", "default", data, format)
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

// TestBundleSizes: what the workspace may not hold is refused, and what kubectl apply cannot keep a copy of is told.
func TestBundleSizes(t *testing.T) {
	const module = 250 << 10
	for _, test := range []struct {
		files, size, code int
		want              string
	}{
		{files: 1, size: 1 << 10},
		{files: 2, size: module, want: "use kubectl apply --server-side"},
		{files: 4, size: module, want: "use kubectl apply --server-side"},
		{files: 5, size: module, code: 1, want: "the modules of the workspace have 1280000 bytes together, more than 1048576"},
		{files: 1, size: 300 << 10, code: 1, want: "the module has 307200 bytes, more than 262144"},
	} {
		t.Run(fmt.Sprintf("%d of %d bytes", test.files, test.size), func(t *testing.T) {
			dir := t.TempDir()
			for i := range test.files {
				text := fmt.Sprintf("package placement.library.p%d\nrule := 1\n# ", i)
				text += strings.Repeat("x", test.size-len(text)-1) + "\n"
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%d.rego", i)), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs strings.Builder
			if code := Run(context.Background(), []string{"bundle", dir}, strings.NewReader(""), &out, &errs); code != test.code {
				t.Errorf("the exit code is %d, want %d", code, test.code)
			}
			if (out.Len() > 0) != (test.code == 0) {
				t.Errorf("%d bytes are written", out.Len())
			}
			if said := errs.String(); test.want == "" && said != "" || !strings.Contains(said, test.want) {
				t.Errorf("it says %.500q, want %q", said, test.want)
			}
		})
	}
}
