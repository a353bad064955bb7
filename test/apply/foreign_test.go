package apply

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

var (
	serviceAccounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	services        = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	secrets         = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	volumeClaims    = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
)

const keys = `
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {key: ours}
`

// TestForeignObjects: what the agent has not made it neither changes nor removes, unless the manifest takes it over.
func TestForeignObjects(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(settings))
	d.applied("a")
	d.inCluster(d.in(`
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {key: theirs, other: theirs}
`))
	d.work("a", manifest(settings), manifest(keys), manifest(web, placed("u-web")))
	d.told("a", "Secret/keys", fmt.Sprintf("Secret keys exists in namespace %s of the cluster and is not delivered by this agent: delete it, rename yours, "+
		`or annotate yours with tmc.kcp.io/take-over: "true"`, d.namespace()))
	d.healthy("Deployment/web")
	value := func(key string) string {
		text, _, _ := unstructured.NestedString(d.get(secrets, d.namespace(), "keys").Object, "data", key)
		return text
	}
	if got := value("key"); got != "dGhlaXJz" {
		t.Errorf("the key is %s", got)
	}

	t.Log("nor does it remove the object, nor the namespace that the object is in")
	d.work("a")
	d.gone(configMaps, d.namespace(), "settings")
	time.Sleep(2 * time.Second)
	if got := value("key"); got != "dGhlaXJz" {
		t.Errorf("the key is %s", got)
	}

	t.Log("taken over, it has what both say")
	d.work("a", manifest(keys, takeOver))
	d.applied("a")
	if value("key") != "b3Vycw==" || value("other") != "dGhlaXJz" {
		t.Errorf("%s, %s", value("key"), value("other"))
	}
	d.work("a")
	d.gone(namespaces, "", d.namespace())
}

// TestForeignNamespace: a namespace that the agent has not made it does not use, whatever a manifest says, until the cluster's operator
// hands it over. It stays as it is then.
func TestForeignNamespace(t *testing.T) {
	t.Parallel()
	d := start(t)
	in := d.namespace()
	d.inCluster("{apiVersion: v1, kind: Namespace, metadata: {name: " + in + "}}")
	d.work("a", manifest(settings, takeOver))
	d.told("a", "ConfigMap/settings", "the namespace "+in+" exists in the cluster and is not this agent's")
	d.patch(namespaces, "", in, fmt.Sprintf(`{"metadata": {"labels": {%q: %q, %q: %q}}}`, v1alpha1.LabelWorkspace, d.workspace, v1alpha1.LabelCluster, d.name))
	d.applied("a")
	d.work("a")
	d.gone(configMaps, in, "settings")
	time.Sleep(2 * time.Second)
	if n := d.get(namespaces, "", in); n == nil || n.GetLabels()["pod-security.kubernetes.io/enforce"] != "" || n.GetDeletionTimestamp() != nil {
		t.Errorf("the namespace is %v", n)
	}
}

// TestDefaultServiceAccount: the account that a controller makes in each namespace is no foreigner, since pods use it.
func TestDefaultServiceAccount(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(settings))
	d.applied("a")
	d.eventually("the account is made", func() bool { return d.get(serviceAccounts, d.namespace(), "default") != nil }, func() any { return nil })
	d.work("a", manifest(settings), manifest(`{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}, imagePullSecrets: [{name: registry}]}`))
	d.applied("a")
	if pull, _, _ := unstructured.NestedSlice(d.get(serviceAccounts, d.namespace(), "default").Object, "imagePullSecrets"); len(pull) != 1 {
		t.Errorf("imagePullSecrets are %v", pull)
	}
	d.work("a")
	d.gone(namespaces, "", d.namespace())
}

// TestVolumeClaims: what volumes hold would be lost, so they stay, and with them their namespace, unless the agent is told otherwise.
func TestVolumeClaims(t *testing.T) {
	t.Parallel()
	d := start(t)
	claim := manifest(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: shop},
		spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)
	d.work("a", claim, manifest(settings))
	d.applied("a")
	uid := d.get(volumeClaims, d.namespace(), "data").GetUID()
	d.work("a")
	d.gone(configMaps, d.namespace(), "settings")
	d.status("a", "nothing is being removed", func(s *v1alpha1.WorkStatus) bool { return len(s.Removing) == 0 })
	time.Sleep(2 * time.Second)
	d.work("a", claim)
	d.applied("a")
	if got := d.get(volumeClaims, d.namespace(), "data"); got.GetUID() != uid || got.GetDeletionTimestamp() != nil {
		t.Errorf("the claim is another, or leaves: %v", got)
	}
}

// TestEqualNames: two workspaces with the same names stay apart.
func TestEqualNames(t *testing.T) {
	t.Parallel()
	one, two := startAs(t, "one"), startAs(t, "two")
	for _, d := range []*delivery{one, two} {
		d.work("a", manifest(settings), manifest(web, placed("u-"+d.name)))
		d.applied("a")
	}
	one.work("a")
	one.gone(namespaces, "", one.namespace())
	if two.get(deployments, two.namespace(), "web") == nil || two.get(services, two.namespace(), "web") != nil {
		t.Error("the other workspace's are touched")
	}
}
