package engine_test

import (
	"os/exec"
	"strings"
	"testing"
)

// imports are the packages of other modules that the engine imports, by path or parent path, and why. A program that
// embeds the engine links them with everything that they import.
var imports = map[string]string{
	"github.com/google/cel-go":                                 "constraints",
	"github.com/antlr4-go/antlr/v4":                            "constraints: the tokens of CEL, by which the text of a part is found",
	"k8s.io/apiserver/pkg/cel/library":                         "constraints: quantities, and the costs of functions as Kubernetes estimates them",
	"github.com/open-policy-agent/opa/v1":                      "policies",
	"golang.org/x/sys/unix":                                    "policies: the processor time of a thread",
	"github.com/hashicorp/golang-lru/v2":                       "caches",
	"github.com/google/btree":                                  "workloads that affinity is about: a copy of many costs what differs",
	"k8s.io/api/core/v1":                                       "the API: taints, tolerations, resource lists",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1": "the API: a value of any type in an override",
	"k8s.io/apimachinery/pkg":                                  "the API: quantities, selectors, field errors",
	"k8s.io/component-helpers/resource":                        "requests of pods",
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity":  "nodes that pods select",
	"k8s.io/klog/v2":                                           "an argument of Toleration.ToleratesTaint",
	"github.com/kcp-dev/logicalcluster/v3":                     "names of workspaces",
	"github.com/agnivade/levenshtein":                          "kinds: what a misspelt one is likely to mean",
	"github.com/robfig/cron/v3":                                "stability: schedules, as a CronJob has them",
	"sigs.k8s.io/yaml":                                         "kinds: the table",
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1": "the API: the type of conditions",
}

// unwanted are parts of import paths that a library has no use for, even as indirect dependencies: clients, informers,
// servers, generators.
var unwanted = []string{
	"k8s.io/client-go", "kcp-dev/client-go", "kcp/sdk/client", "informers", "k8s.io/apiserver/pkg/server", "k8s.io/apiserver/pkg/admission",
	"sigs.k8s.io/controller-", "k8s.io/code-generator", "google.golang.org/grpc", "go.etcd.io",
	"opa/v1/rego", "opa/v1/plugins", "opa/v1/server", "opa/v1/runtime", "opa/v1/sdk", "opa/v1/bundle/",
}

// mostPackages bounds how many packages of other modules the engine links. OPA, cel-go and what Kubernetes has for CEL account for nearly
// all of them.
const mostPackages = 310

// TestImports: a program that embeds the engine gets nothing but an engine.
func TestImports(t *testing.T) {
	const own = "github.com/kcp-placement/placement/"
	list := func(args ...string) []string {
		out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	all := list("-deps", ".")
	for _, path := range all {
		for _, part := range unwanted {
			if strings.Contains(path, part) {
				t.Errorf("the engine links %s", path)
			}
		}
	}
	used, others := map[string]bool{}, 0
	for _, path := range all {
		if !strings.HasPrefix(path, own) {
			if domain, _, _ := strings.Cut(path, "/"); strings.Contains(domain, ".") {
				others++
			}
			continue
		}
		if strings.Contains(path, "/internal/controller") || strings.Contains(path, "/offline/") {
			t.Errorf("the engine imports %s", path)
		}
		for _, imported := range list("-f", `{{join .Imports "\n"}}`, path) {
			if domain, _, _ := strings.Cut(imported, "/"); !strings.Contains(domain, ".") || strings.HasPrefix(imported, own) {
				continue // in the standard library, or our own
			}
			known := false
			for allowed := range imports {
				if imported == allowed || strings.HasPrefix(imported, allowed+"/") {
					known, used[allowed] = true, true
				}
			}
			if !known {
				t.Errorf("%s imports %s: is it needed?", path, imported)
			}
		}
	}
	for allowed := range imports {
		if !used[allowed] {
			t.Errorf("nothing imports %s any more", allowed)
		}
	}
	if others > mostPackages {
		t.Errorf("the engine links %d packages of other modules, and may link %d: what brings the last ones along?", others, mostPackages)
	}
}
