package apply

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestWorkspacesOnOneCluster: Works say of which workspace their objects are. Equal names are two objects in two namespaces, and where a
// template would have two workspaces meet, the other workspace waits: nothing of one is ever put beside, or in place of, what is another's.
func TestWorkspacesOnOneCluster(t *testing.T) {
	for _, tc := range []struct {
		name, template string
		// works are "WORKSPACE/NAMESPACE", each with ConfigMap a; the workspace of the registration has no name here.
		works []string
		want  []string
	}{
		{"each has its own namespace", "{workspace}-{namespace}", []string{"/shop", "red/shop", "green/shop"}, []string{"w-shop", "red-shop", "green-shop"}},
		{"namespaces that would be called the same", "{workspace}-{namespace}", []string{"a/b-c", "a-b/c"}, []string{"a-b-c", "namespace a-b-c of the cluster is that of another workspace"}},
		{"the workspace of the registration comes first", "{workspace}-{namespace}", []string{"w/shop", "/shop"}, []string{"namespace w-shop of the cluster is that of another workspace", "w-shop"}},
		{"a template that does not keep workspaces apart", "t-{namespace}", []string{"/shop", "red/shop"}, []string{"t-shop", "{workspace} has to be in its flag"}},
		{"one that keeps nothing apart, in a namespace of the cluster", "{namespace}", []string{"red/kube-system"}, []string{"{workspace} has to be in its flag"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newState(settings{workspace: "w", cluster: "c", namespaceTemplate: tc.template}, []v1alpha1.WorkloadType{{APIVersion: "v1", Kind: "ConfigMap"}})
			s.kinds[schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}].known = true
			for i, of := range tc.works {
				workspace, namespace, _ := strings.Cut(of, "/")
				w := &work{name: fmt.Sprint("work-", i), workspace: workspace}
				d := &wanted{work: w, manifest: &v1alpha1.Manifest{Revision: "r", Object: runtime.RawExtension{
					Raw: fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": %q}}`, namespace),
				}}}
				if problem := d.read(); problem != "" {
					t.Fatal(problem)
				}
				w.manifests = []*wanted{d}
				s.works[w.name] = w
			}
			s.rebuild()
			applied := map[string]bool{}
			for i, want := range tc.want {
				d := s.works[fmt.Sprint("work-", i)].manifests[0]
				switch {
				case d.kind == nil && !strings.Contains(d.problem, want):
					t.Errorf("%s: %q", tc.works[i], d.problem)
				case d.kind != nil && d.namespace != want:
					t.Errorf("%s is in %s", tc.works[i], d.namespace)
				case d.kind != nil && applied[d.namespace]:
					t.Errorf("%s of two workspaces", d.namespace)
				case d.kind != nil:
					applied[d.namespace] = true
				}
			}
		})
	}
}
