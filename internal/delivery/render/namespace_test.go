package render_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/internal/delivery/render"
)

func TestNamespace(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, test := range []struct{ template, workspace, cluster, namespace, want string }{
		{render.DefaultNamespaceTemplate, "2hz9h3rj6y5l4h3q", "a", "shop", "2hz9h3rj6y5l4h3q-shop"},
		{"{cluster}-{namespace}", "w", "paris", "shop", "paris-shop"},
		{"{cluster}-{namespace}", "w", "paris.eu", "shop", "paris-eu-shop-39c03be06e281707"},
		{render.DefaultNamespaceTemplate, "2hz9h3rj6y5l4h3q", "a", long, "2hz9h3rj6y5l4h3q-" + long[:29] + "-4e3a66d50245c39c"},
	} {
		if got := render.Namespace(test.template, test.workspace, test.cluster, test.namespace); got != test.want {
			t.Errorf("%s with %s, %s, %s is %s, want %s", test.template, test.workspace, test.cluster, test.namespace, got, test.want)
		}
	}
	for template, want := range map[string]string{
		"{workspace}": "must contain {namespace}", "{namespace}_{workspace}": "must consist of", "{tenant}-{namespace}": "must consist of",
	} {
		if err := render.ValidateNamespaceTemplate(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", template, err)
		}
	}
}

// TestNamespaceIsAlwaysOne: whatever the workspace's names are, the cluster can have a namespace of the name.
func TestNamespaceIsAlwaysOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := render.Namespace(rapid.SampledFrom([]string{"{workspace}-{namespace}", "x-{cluster}-{namespace}", "{namespace}"}).Draw(t, "template"),
			rapid.String().Draw(t, "workspace"), rapid.String().Draw(t, "cluster"), rapid.String().Draw(t, "namespace"))
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			t.Errorf("%q: %v", name, problems)
		}
	})
}

// TestNamespacesDiffer: those of one workspace never meet in a cluster, though one is called as another would be there.
func TestNamespacesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		template := rapid.SampledFrom([]string{"{workspace}-{namespace}", "x-{cluster}-{namespace}", "{namespace}"}).Draw(t, "template")
		workspace := rapid.SampledFrom([]string{"w", "root:a", "2hz9h3rj6y5l4h3q"}).Draw(t, "workspace")
		in := func(namespace string) string { return render.Namespace(template, workspace, "paris.eu", namespace) }
		a := rapid.StringMatching("[a-z0-9]{1,3}(-[a-z0-9]{1,3}){0,20}").Draw(t, "a")
		others := map[string]bool{a + "-b": true, in(a): true, strings.TrimPrefix(in(a), workspace+"-"): true}
		for b := range others {
			if a != b && in(a) == in(b) {
				t.Errorf("%s and %s are both %s", a, b, in(a))
			}
		}
	})
}
