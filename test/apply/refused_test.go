package apply

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/apply"
)

const report = `
apiVersion: batch/v1
kind: Job
metadata: {name: report, namespace: shop}
spec:
  template:
    metadata: {labels: {tmc.kcp.io/workload-uid: u-report}}
    spec: {restartPolicy: Never, containers: [{name: c, image: "x:1"}]}
`

// TestRefused: what the cluster does not take is told on the object in words, and everything else is delivered.
func TestRefused(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(settings), manifest(report, placed("u-report")))
	d.applied("a")
	in := d.namespace()
	d.inCluster(d.in(`
apiVersion: v1
kind: ResourceQuota
metadata: {name: few, namespace: shop}
spec: {hard: {services: "0"}}
`))
	d.inCluster(fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets]}]
  validations: [{expression: "has(object.metadata.labels) && 'owner' in object.metadata.labels", message: "every Secret needs the label owner"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s, validationActions: [Deny]}
`, in))
	probes := 0
	d.eventually("the policy holds", func() bool {
		probes++
		probe := strings.Replace(keys, "name: keys", fmt.Sprintf("name: probe-%d", probes), 1)
		return strings.Contains(fmt.Sprint(physical.Apply(t.Context(), []byte(d.in(probe)))), "needs the label")
	}, func() any { return nil })

	const stateful = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, tmc.kcp.io/workload-uid: u-db}}
    spec: {hostNetwork: true, containers: [{name: db, image: x}]}
`
	const privileged = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: host, namespace: shop}
spec:
  selector: {matchLabels: {app: host}}
  template:
    metadata: {labels: {app: host, tmc.kcp.io/workload-uid: u-host}}
    spec: {hostNetwork: true, containers: [{name: c, image: x}]}
`
	const large = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: large, namespace: shop}
spec:
  selector: {matchLabels: {app: large}}
  template:
    metadata: {labels: {app: large, tmc.kcp.io/workload-uid: u-large}}
    spec: {containers: [{name: c, image: x, resources: {requests: {cpu: 1k}}}]}
`
	config := func(n string) v1alpha1.Manifest {
		return manifest(strings.Replace(settings, "name: settings", "name: "+n, 1))
	}
	broken := manifest(settings)
	broken.Object = runtime.RawExtension{Raw: []byte(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "broken", "namespace": "shop"}, "data": 7}`)}
	homeless := manifest("{apiVersion: v1, kind: ConfigMap, metadata: {name: homeless}}")
	d.work("a", manifest(settings), manifest(strings.Replace(report, "x:1", "x:2", 1), placed("u-report")),
		manifest(web, placed("u-web")), manifest(keys), manifest(stateful, placed("u-db")), manifest(privileged, placed("u-host")), manifest(large, placed("u-large")),
		manifest("{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}"),
		manifest("{apiVersion: v1, kind: Service, metadata: {name: Wrong_, namespace: shop}, spec: {ports: [{port: 80}]}}"),
		manifest("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: all, namespace: shop}}"),
		manifest("{apiVersion: example.com/v1, kind: Widget, metadata: {name: w, namespace: shop}}"),
		broken, homeless, config("last"))
	for object, message := range map[string]string{
		"Job/report":         "To change that, delete it in the workspace and create it again",
		"Secret/keys":        "every Secret needs the label owner",
		"StatefulSet/db":     `violates PodSecurity "baseline:latest": host namespaces`,
		"Deployment/host":    `violates PodSecurity "baseline:latest": host namespaces`,
		"Deployment/large":   "1 of 1 pods: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu",
		"Service/web":        "exceeded quota: few",
		"Service/Wrong_":     "the cluster refuses it: Service \"Wrong_\" is invalid",
		"NetworkPolicy/all":  "the agent of the cluster does not apply NetworkPolicy of networking.k8s.io/v1: its flag --deliver-kinds does not list it",
		"Widget/w":           "does not apply Widget of example.com/v1",
		"ConfigMap/broken":   "the cluster refuses it: ",
		"ConfigMap/homeless": "only objects in namespaces are delivered",
	} {
		d.told("a", object, message)
	}
	d.healthy("Deployment/web")
	status := d.status("a", "all is told", func(s *v1alpha1.WorkStatus) bool { return s.Applied == "6/14" && s.Failed == 11 })
	if len(status.Manifests) != 12 { // those, and the Deployment that is well
		t.Errorf("%d are listed", len(status.Manifests))
	}
	if d.get(configMaps, in, "last") == nil {
		t.Error("what comes last is not applied")
	}

	t.Log("what can be applied later is")
	if err := physical.Apply(t.Context(), []byte(d.in(`{apiVersion: v1, kind: ResourceQuota, metadata: {name: few, namespace: shop}, spec: {hard: {services: "3"}}}`))); err != nil {
		t.Fatal(err)
	}
	d.status("a", "the Service is applied", func(s *v1alpha1.WorkStatus) bool { return s.Applied == "7/14" })
}

// TestUnknownKind: a kind that the cluster learns later is applied then.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	d := start(t, func(c *apply.Config) {
		c.Cluster = physical.Config()
		c.Delivery.Kinds = append(c.Delivery.Kinds, v1alpha1.WorkloadType{APIVersion: "example.com/v1", Kind: "Gadget"})
	})
	d.work("a", manifest(settings), manifest("{apiVersion: example.com/v1, kind: Gadget, metadata: {name: g, namespace: shop}}"))
	d.told("a", "Gadget/g", "the cluster does not know Gadget of example.com/v1")
	d.inCluster(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: gadgets, kind: Gadget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`)
	d.applied("a")
}

// TestSameObjectTwice: of two Works with the same object the first by name has it, and the other says so.
func TestSameObjectTwice(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("b", manifest(strings.Replace(settings, "red", "blue", 1)))
	d.applied("b")
	d.work("a", manifest(settings))
	d.applied("a")
	d.told("b", "ConfigMap/settings", "Work a has ConfigMap settings in namespace "+d.namespace()+" of the cluster as well")

	t.Log("it passes from one Work to the other without being removed")
	uid := d.get(configMaps, d.namespace(), "settings").GetUID()
	d.work("a")
	d.applied("b")
	if got := d.get(configMaps, d.namespace(), "settings").GetUID(); got != uid {
		t.Error("the object is another")
	}
}
