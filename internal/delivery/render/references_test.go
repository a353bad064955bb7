package render_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

// followed are the fields of a pod that name an object of its namespace, with its kind.
var followed = map[string]string{
	"volumes[].secret.secretName":                       "Secret",
	"volumes[].configMap.name":                          "ConfigMap",
	"volumes[].persistentVolumeClaim.claimName":         "PersistentVolumeClaim",
	"volumes[].projected.sources[].secret.name":         "Secret",
	"volumes[].projected.sources[].configMap.name":      "ConfigMap",
	"volumes[].csi.nodePublishSecretRef.name":           "Secret",
	"volumes[].azureFile.secretName":                    "Secret",
	"volumes[].cephfs.secretRef.name":                   "Secret",
	"volumes[].cinder.secretRef.name":                   "Secret",
	"volumes[].flexVolume.secretRef.name":               "Secret",
	"volumes[].iscsi.secretRef.name":                    "Secret",
	"volumes[].rbd.secretRef.name":                      "Secret",
	"volumes[].scaleIO.secretRef.name":                  "Secret",
	"volumes[].storageos.secretRef.name":                "Secret",
	"*ontainers[].envFrom[].configMapRef.name":          "ConfigMap",
	"*ontainers[].envFrom[].secretRef.name":             "Secret",
	"*ontainers[].env[].valueFrom.configMapKeyRef.name": "ConfigMap",
	"*ontainers[].env[].valueFrom.secretKeyRef.name":    "Secret",
	"imagePullSecrets[].name":                           "Secret",
	"serviceAccountName":                                "ServiceAccount",
	"serviceAccount":                                    "ServiceAccount",
}

// notFollowed are those that look as if they named one, and why they do not.
var notFollowed = map[string]string{
	"volumes[].name": "of the pod",
	"volumes[].*.resourceFieldRef.containerName":                   "of the pod",
	"*ontainers[].name":                                            "of the pod",
	"*ontainers[].ports[].name":                                    "of the pod",
	"*ontainers[].envFrom[].prefix":                                "text",
	"*ontainers[].env[].name":                                      "text",
	"*ontainers[].env[].valueFrom.resourceFieldRef.containerName":  "of the pod",
	"*ontainers[].env[].valueFrom.fileKeyRef.volumeName":           "of the pod",
	"*ontainers[].volumeMounts[].name":                             "of the pod",
	"*ontainers[].volumeDevices[].name":                            "of the pod",
	"*ontainers[].resizePolicy[].resourceName":                     "a resource",
	"*ontainers[].*httpHeaders[].name":                             "text",
	"*ontainers[].targetContainerName":                             "of the pod",
	"*resources.claims[].name":                                     "of the pod",
	"resourceClaims[].name":                                        "of the pod",
	"resourceClaims[].resourceClaimName":                           "devices are of one cluster; the label brings ResourceClaims",
	"resourceClaims[].resourceClaimTemplateName":                   "devices are of one cluster; the label brings ResourceClaimTemplates",
	"volumes[].ephemeral.volumeClaimTemplate.metadata.*":           "of the claim itself",
	"volumes[].ephemeral.volumeClaimTemplate.spec.volumeName":      "a PersistentVolume, which is of one cluster",
	"volumes[].ephemeral.volumeClaimTemplate.spec.dataSource.name": "snapshots and volumes are of one cluster",
	"volumes[].ephemeral.volumeClaimTemplate.spec.dataSourceRef.*": "snapshots and volumes are of one cluster",
	"volumes[].ephemeral.volumeClaimTemplate.spec.*ClassName":      "of the cluster",
	"volumes[].glusterfs.endpoints":                                "addresses of one cluster; gone from Kubernetes 1.26",
	"volumes[].projected.sources[].clusterTrustBundle.*":           "of the cluster",
	"volumes[].projected.sources[].podCertificate.signerName":      "of the cluster",
	"volumes[].gcePersistentDisk.pdName":                           "a disk",
	"volumes[].iscsi.initiatorName":                                "a node",
	"volumes[].cephfs.secretFile":                                  "a file of the node",
	"volumes[].flocker.datasetName":                                "a data set",
	"volumes[].azureFile.shareName":                                "a share",
	"volumes[].azureDisk.diskName":                                 "a disk",
	"volumes[].vsphereVolume.storagePolicyName":                    "of the cluster",
	"volumes[].scaleIO.volumeName":                                 "a volume",
	"volumes[].storageos.volumeName":                               "a volume",
	"volumes[].storageos.volumeNamespace":                          "a volume",
	"volumes[].image.reference":                                    "an image",
	"*windowsOptions.*Name":                                        "of the node",
	"securityContext.sysctls[].name":                               "of the node",
	"nodeName":                                                     "a node",
	"hostname*":                                                    "text",
	"hostAliases[].hostnames[]":                                    "text",
	"dnsConfig.*":                                                  "text",
	"affinity.*.namespaces[]":                                      "namespaces, not objects",
	"schedulerName":                                                "of the cluster",
	"schedulingGates[].name":                                       "text",
	"schedulingGroup.podGroupName":                                 "of the cluster; the label brings PodGroups",
	"priorityClassName":                                            "of the cluster",
	"runtimeClassName":                                             "of the cluster",
	"os.name":                                                      "text",
}

// TestReferences: every field of Kubernetes' type of pods that may name an object is followed, or it is said why not. A field that
// Kubernetes adds fails here.
func TestReferences(t *testing.T) {
	used := map[string]bool{}
	find := func(patterns map[string]string, path string) (string, bool) {
		for pattern, value := range patterns {
			expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$"
			if regexp.MustCompile(expression).MatchString(path) {
				used[pattern] = true
				return value, true
			}
		}
		return "", false
	}
	namingFields(reflect.TypeFor[corev1.PodSpec](), nil, "", func(index []int, path string) {
		want, follow := find(followed, path)
		if _, not := find(notFollowed, path); !follow && !not {
			t.Errorf("%s may name an object: is it to be followed?", path)
			return
		}
		var got []string
		for _, object := range withPod(t, index) {
			got = append(got, object.GetKind())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s brings %v, want %q", path, got, want)
		}
	})
	for _, patterns := range []map[string]string{followed, notFollowed} {
		for pattern := range patterns {
			if !used[pattern] {
				t.Errorf("no field is %s any more", pattern)
			}
		}
	}
}

var naming = regexp.MustCompile(`(?i)(name|ref|secret|account|claim|endpoints)[^.]*$`)

// namingFields yields the fields of text whose path says that they may be names, each with the indices of Go's fields.
func namingFields(of reflect.Type, index []int, path string, yield func([]int, string)) {
	switch of.Kind() {
	case reflect.Pointer:
		namingFields(of.Elem(), index, path, yield)
	case reflect.Slice:
		namingFields(of.Elem(), index, path+"[]", yield)
	case reflect.Struct:
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			at := path
			if name != "" {
				at = strings.TrimPrefix(path+"."+name, ".")
			}
			if f.IsExported() && (strings.HasPrefix(of.PkgPath(), "k8s.io/api/") || of.Name() == "ObjectMeta") {
				namingFields(f.Type, append(index[:len(index):len(index)], i), at, yield)
			}
		}
	case reflect.String:
		if naming.MatchString(path) {
			yield(index, path)
		}
	}
}

// withPod returns what goes with a pod that says x at one field, of objects of that name.
func withPod(t *testing.T, index []int) []*unstructured.Unstructured {
	var spec corev1.PodSpec
	at := reflect.ValueOf(&spec).Elem()
	descend := func() {
		for at.Kind() == reflect.Pointer || at.Kind() == reflect.Slice {
			if at.Kind() == reflect.Pointer {
				at.Set(reflect.New(at.Type().Elem()))
				at = at.Elem()
			} else {
				at.Set(reflect.MakeSlice(at.Type(), 1, 1))
				at = at.Index(0)
			}
		}
	}
	for _, i := range index {
		descend()
		at = at.Field(i)
	}
	descend()
	at.SetString("x")
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		t.Fatal(err)
	}
	objects := render.NewObjects(workload.Kinds())
	for apiVersion, kinds := range map[string][]string{
		"v1": {"ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim", "Service", "Endpoints"}, "resource.k8s.io/v1": {"ResourceClaim", "ResourceClaimTemplate"},
	} {
		for _, kind := range kinds {
			objects.Put(object(apiVersion, kind, "x"))
		}
	}
	pod := object("v1", "Pod", "p")
	pod.Object["spec"] = content
	needs, err := render.NeedsOf(workload.Kinds(), pod)
	if err != nil {
		t.Fatal(err)
	}
	with, _ := objects.With(needs)
	return with
}

func object(apiVersion, kind, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name, "namespace": "shop"},
	}}
}
