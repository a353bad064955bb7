package apply

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds"
	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// refusals are what a server has against a Work with a status.
func refusals(t *testing.T) func(status any) []string {
	text, err := fs.ReadFile(crds.Manifests, "manifests/tmc.kcp.io_works.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &definition); err != nil {
		t.Fatal(err)
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		t.Fatal(err)
	}
	return func(status any) (all []string) {
		for _, err := range validation.ValidateCustomResource(nil, map[string]any{"status": status}, validator) {
			all = append(all, err.Error())
		}
		return all
	}
}

// TestStatusIsBounded: whatever manifests, the cluster and its errors say, the server takes the status, and it is small enough. All
// workloads have room.
func TestStatusIsBounded(t *testing.T) {
	refused := refusals(t)
	rapid.Check(t, func(t *rapid.T) {
		text := func(what string) string {
			return strings.Repeat(rapid.SampledFrom([]string{"x", "é", "\xff", "\x00", "<", "\u2028", rapid.String().Draw(t, "text")}).Draw(t, what), rapid.SampledFrom([]int{1, 60, 300, 1100}).Draw(t, "times"))
		}
		s := newState(settings{workspace: "w", cluster: "c", namespaceTemplate: "{workspace}-{namespace}"}, []v1alpha1.WorkloadType{{APIVersion: "v1", Kind: "ConfigMap"}})
		for _, k := range s.kinds {
			k.known, k.synced = true, true
		}
		w := &work{name: "a", generation: 7}
		kind, name, message, revision, uid, there, origin := text("kind"), text("name"), text("message"), text("revision"), text("uid"), text("live revision"), text("origin")
		known := rapid.Bool().Draw(t, "known")
		if known {
			kind = "ConfigMap"
		}
		workloads, others := rapid.IntRange(0, 100).Draw(t, "workloads"), rapid.SampledFrom([]int{0, 5, 200}).Draw(t, "others")
		for i := range workloads + others {
			object, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": fmt.Sprint(i, name), "namespace": "n"}})
			if err != nil {
				t.Fatal(err)
			}
			d := &wanted{work: w, manifest: &v1alpha1.Manifest{Revision: revision, Since: int64(i + 1), Object: runtime.RawExtension{Raw: object}}}
			if i < workloads {
				d.manifest.WorkloadUID = types.UID(fmt.Sprint(i) + uid)
			}
			d.problem = d.read()
			w.manifests = append(w.manifests, d)
		}
		s.putWork(w)
		s.rebuild()
		for _, d := range w.manifests {
			if d.kind == nil {
				continue
			}
			m := s.memoryOf(d.id)
			m.tried, m.problem = revision, message
			s.live[d.id] = &live{id: d.id, revision: there, message: message, complaint: message, workloadUID: "other", work: "a", origin: origin, apiVersion: "v1"}
		}
		status := s.statuses()["a"]
		var content bytes.Buffer
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(status.WorkStatus); err != nil {
			t.Fatal(err)
		}
		if content.Len() > 310<<10 || !utf8.Valid(content.Bytes()) {
			t.Errorf("%d bytes", content.Len())
		}
		var object map[string]any
		if err := json.Unmarshal(content.Bytes(), &object); err != nil {
			t.Fatal(err)
		}
		if errs := refused(object); len(errs) > 0 {
			t.Errorf("%.300v", errs)
		}
		told := 0
		for _, m := range status.Manifests {
			if m.WorkloadUID != "" {
				if told++; m.Since != int64(told) {
					t.Errorf("of the manifest since %d it is told as of one since %d", told, m.Since)
				}
			}
		}
		if told != workloads {
			t.Errorf("%d of %d workloads are told", told, workloads)
		}
	})
}

// FuzzRead: whatever objects contain, reading them neither panics nor takes long, and says what it could not read.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"metadata": {"name": "a", "generation": 1}, "spec": {"manifests": [{"revision": "r", "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}}}]}}`,
		`{"spec": {"manifests": [{"revision": 7, "wave": 1e10, "object": []}, 5]}, "status": {"manifests": "x"}}`,
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"tmc.kcp.io/workload-uid": "u"}}, "status": {"phase": "Running", "containerStatuses": [{"state": {"waiting": 7}}]}}`,
		`{"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running", "containerStatuses": [7, {"name": 7}]}}`,
		`{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": [{"manager": "placement-agent", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": 7}}}]}, "spec": {"replicas": "x"}, "status": []}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		object := &unstructured.Unstructured{}
		if json.Unmarshal(content, &object.Object) != nil || object.Object == nil {
			t.Skip("no object")
		}
		liveOf(object)
		podOf(object)
		w := workOf(object)
		for _, d := range w.manifests {
			if d.problem == "" && (d.name == "" || d.Kind == "" || d.manifest.Revision == "") {
				t.Errorf("%+v is taken for readable", d)
			}
			if d.problem != "" && !w.doubtful {
				t.Errorf("the Work is not doubtful, though %s", d.problem)
			}
		}
	})
}
