package crds_test

import (
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds"
	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func definitions(t *testing.T) (all []*apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	files, err := fs.Glob(crds.Manifests, "manifests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(crds.Manifests, file)
		if err != nil {
			t.Fatal(err)
		}
		definition := new(apiextensionsv1.CustomResourceDefinition)
		if err := yaml.UnmarshalStrict(text, definition); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, definition)
	}
	return all
}

// TestServersAcceptTheSchemas: a server refuses a definition whose CEL rules may cost too much, or that is not structural.
func TestServersAcceptTheSchemas(t *testing.T) {
	for _, d := range definitions(t) {
		var internal apiextensions.CustomResourceDefinition
		apiextensionsv1.SetDefaults_CustomResourceDefinition(d)
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d, &internal, nil); err != nil {
			t.Fatal(err)
		}
		internal.Status.StoredVersions = []string{d.Spec.Versions[0].Name}
		if errs := validation.ValidateCustomResourceDefinition(t.Context(), &internal); len(errs) > 0 {
			t.Errorf("%s: %v", d.Name, errs.ToAggregate())
		}
	}
}

// foreign are the types of others in our API, with what bounds them instead: their schemas are not ours to write.
var foreign = map[reflect.Type]string{
	reflect.TypeFor[metav1.LabelSelector]():         "its texts are labels: one that has others is refused in a condition",
	reflect.TypeFor[corev1.Taint]():                 "its texts are labels: no server gives a node others",
	reflect.TypeFor[corev1.Toleration]():            "its texts are labels: others tolerate nothing",
	reflect.TypeFor[conditionsv1alpha1.Condition](): "our programs write them, and shorten them",
	reflect.TypeFor[resource.Quantity]():            "one that is long is not read",
	reflect.TypeFor[apiextensionsv1.JSON]():         "it is as large as its author needs it, in an object that nobody else writes",
	reflect.TypeFor[runtime.RawExtension]():         "it is what a server has taken, packed by size",
}

// TestEverythingIsBounded: no list, map or text that our types define can be so long that etcd takes no object with it.
func TestEverythingIsBounded(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	types := scheme.KnownTypes(v1alpha1.SchemeGroupVersion)
	for _, d := range definitions(t) {
		schema := d.Spec.Versions[0].Schema.OpenAPIV3Schema
		for name, property := range schema.Properties {
			if !slices.Contains([]string{"apiVersion", "kind", "metadata"}, name) {
				for _, path := range unbounded(t, "."+name, member(t, types[d.Spec.Names.Kind], name), &property) {
					t.Errorf("%s%s has no bound", d.Spec.Names.Kind, path)
				}
			}
		}
	}
}

// member is the type of a member of a JSON object.
func member(t *testing.T, of reflect.Type, name string) reflect.Type {
	t.Helper()
	for _, f := range reflect.VisibleFields(of) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f.Type
		}
	}
	t.Fatalf("%s has no field %s", of, name)
	return nil
}

// long is a text that no bound lets pass.
var long = strings.Repeat("9", 1<<20)

// unbounded are the paths of what may be of any size in a value of a type.
func unbounded(t *testing.T, path string, of reflect.Type, s *apiextensionsv1.JSONSchemaProps) (paths []string) {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case foreign[of] != "":
	case s.XPreserveUnknownFields != nil:
		paths = append(paths, path)
	case s.Type == "array":
		if s.MaxItems == nil {
			paths = append(paths, path)
		}
		paths = append(paths, unbounded(t, path+"[]", of.Elem(), s.Items.Schema)...)
	case s.Type == "object" && s.AdditionalProperties != nil:
		if s.MaxProperties == nil {
			paths = append(paths, path)
		}
		if !refuses(t, s, map[string]any{"k": long}) { // as a rule may, since a schema of values takes a Go type of its own
			paths = append(paths, unbounded(t, path+"{}", of.Elem(), s.AdditionalProperties.Schema)...)
		}
	case s.Type == "object":
		for name, property := range s.Properties {
			paths = append(paths, unbounded(t, path+"."+name, member(t, of, name), &property)...)
		}
	case s.Type != "boolean" && s.Type != "integer" && !refuses(t, s, long):
		paths = append(paths, path)
	}
	return paths
}

func refuses(t *testing.T, s *apiextensionsv1.JSONSchemaProps, value any) bool {
	t.Helper()
	schema := &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"value": *s}}
	return len(refusals(t, schema, map[string]any{"value": value})) > 0
}

// TestEverythingIsExplained: `kubectl explain` says something about each field.
func TestEverythingIsExplained(t *testing.T) {
	for _, d := range definitions(t) {
		schema := d.Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, path := range unexplained(d.Spec.Names.Kind, schema) {
			t.Errorf("%s has no description", path)
		}
	}
}

func unexplained(path string, s *apiextensionsv1.JSONSchemaProps) (paths []string) {
	if s.Items != nil {
		return unexplained(path+"[]", s.Items.Schema)
	}
	for name, property := range s.Properties {
		if name == "metadata" {
			continue
		}
		if property.Description == "" {
			paths = append(paths, path+"."+name)
		}
		paths = append(paths, unexplained(path+"."+name, &property)...)
	}
	return paths
}

// TestOneFaultOneMessage: a value that is out of its bounds is told once, and not by the rules that compare it with others, too.
func TestOneFaultOneMessage(t *testing.T) {
	for _, test := range []struct {
		spec string
		want []string
	}{
		{"{}", nil},
		{"{numberOfClusters: 0}", []string{"spec.numberOfClusters: must be from 1 to 1000, or All"}},
		{"{numberOfClusters: -1, strategy: {type: RoundRobin}}", []string{"spec.numberOfClusters: must be from 1 to 1000, or All"}},
		{"{numberOfClusters: 1001, minClusters: 5}", []string{"spec.numberOfClusters: must be from 1 to 1000, or All"}},
		{"{numberOfClusters: some, strategy: {type: Affinity}}", []string{"spec.numberOfClusters: must be from 1 to 1000, or All"}},
		{"{numberOfClusters: 2, strategy: {type: Affinity}}", []string{"spec: numberOfClusters above 1 needs strategy Spread, BinPack or Weighted"}},
		{"{numberOfClusters: All, strategy: {type: Affinity}}", []string{"spec: numberOfClusters above 1 needs strategy Spread, BinPack or Weighted"}},
		{"{numberOfClusters: All, minClusters: 1000}", nil},
		{"{minClusters: 4}", []string{"spec: minClusters must not be above numberOfClusters"}},
		{"{minClusters: 2, strategy: {type: Affinity}}", []string{"spec: minClusters must not be above numberOfClusters"}},
		{"{minClusters: 1001}", []string{"spec.minClusters: spec.minClusters in body should be less than or equal to 1000"}},
		{"{replicaScheduling: {type: Divided, maxPerCluster: 0}}", []string{"spec.replicaScheduling.maxPerCluster: spec.replicaScheduling.maxPerCluster in body should be greater than or equal to 1"}},
		{"{replicaScheduling: {type: Divided, maxPerCluster: 2, minPerCluster: 3}}", []string{"spec.replicaScheduling: minPerCluster must not be above maxPerCluster"}},
	} {
		t.Run(test.spec, func(t *testing.T) {
			if got := refusedSpec(t, "WorkloadPlacement", test.spec); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestSetsAreRefusedFieldByField: a mistake in one grant is told at that grant.
func TestSetsAreRefusedFieldByField(t *testing.T) {
	const exactlyOne, negative = "exactly one of path and cluster must be set", "amounts must not be negative"
	for _, test := range []struct {
		kind, spec string
		want       []string
	}{
		{"ClusterSet", "{}", nil},
		{"ClusterSet", "{clusterSelector: {}, grants: [{name: a, workspace: {path: 'root:teams:a'}, quota: {cpu: 1500m, memory: 4Gi, pods: 10}}]}", nil},
		{"ClusterSet", "{grants: [{name: a, workspace: {}}]}", []string{"spec.grants[0].workspace: " + exactlyOne}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root, cluster: root}}]}", []string{"spec.grants[0].workspace: " + exactlyOne}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root}}, {name: a, workspace: {cluster: b}}]}", []string{"spec.grants[1]: "}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root}, quota: {cpu: -1}}]}", []string{"spec.grants[0].quota: " + negative}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root}, clusterQuota: {cpu: '-1'}}]}", []string{"spec.grants[0].clusterQuota: " + negative}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root}, guaranteed: {cpu: '-1'}, borrowingLimit: {cpu: '-1m'}}]}", []string{
			"spec.grants[0].borrowingLimit: " + negative, "spec.grants[0].guaranteed: " + negative,
		}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root}, weight: 0}]}", []string{"spec.grants[0].weight: spec.grants[0].weight in body should be greater than or equal to 1"}},
		{"ClusterSet", "{grants: [{name: a, workspace: {path: root}, weight: 1000001}]}", []string{"spec.grants[0].weight: spec.grants[0].weight in body should be less than or equal to 1000000"}},
		{"ClusterSetBinding", "{clusterSet: gold, workspace: {path: 'root:platform'}}", nil},
		{"ClusterSetBinding", "{clusterSet: gold, workspace: {path: root, cluster: b}}", []string{"spec.workspace: " + exactlyOne}},
	} {
		t.Run(test.spec, func(t *testing.T) {
			got := refusedSpec(t, test.kind, test.spec)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// refusedSpec is what a server has against an object of a kind with a spec.
func refusedSpec(t *testing.T, kind, spec string) []string {
	t.Helper()
	all := definitions(t)
	schema := all[slices.IndexFunc(all, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.Spec.Names.Kind == kind })].Spec.Versions[0].Schema
	text, err := yaml.YAMLToJSON([]byte("spec: " + spec))
	if err != nil {
		t.Fatal(err)
	}
	object := map[string]any{}
	if err := json.Unmarshal(text, &object); err != nil { // whole numbers are int64, as a server has them
		t.Fatal(err)
	}
	if kind == "WorkloadPlacement" {
		object["spec"].(map[string]any)["workloadSelector"] = map[string]any{}
	}
	return refusals(t, schema.OpenAPIV3Schema, object)
}

// refusals are what a server has against an object.
func refusals(t *testing.T, schema *apiextensionsv1.JSONSchemaProps, object map[string]any) (refusals []string) {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(schema, &internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := structuralschema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := schemavalidation.NewSchemaValidator(&internal)
	if err != nil {
		t.Fatal(err)
	}
	defaulting.Default(object, structural)
	errs := schemavalidation.ValidateCustomResource(nil, object, validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, structural, object)...)
	more, _ := cel.NewValidator(structural, true, celconfig.PerCallLimit).Validate(t.Context(), nil, structural, object, nil, celconfig.RuntimeCELCostBudget)
	for _, err := range append(errs, more...) {
		refusals = append(refusals, err.Field+": "+err.Detail)
	}
	return refusals
}
