package crds_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds"
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

// The types of others in our API. Their own servers bound some of their fields, ours cannot.
var foreign = []string{".conditions[]", ".taints[]", ".tolerations[]", "abelSelector", ".locationSelector"}

// TestEverythingIsBounded: no list, map or text that our types define can be so long that etcd takes no object with it.
func TestEverythingIsBounded(t *testing.T) {
	for _, d := range definitions(t) {
		schema := d.Spec.Versions[0].Schema.OpenAPIV3Schema
		for name, property := range schema.Properties {
			if !slices.Contains([]string{"apiVersion", "kind", "metadata"}, name) {
				for _, path := range unbounded("."+name, &property) {
					t.Errorf("%s%s has no bound", d.Spec.Names.Kind, path)
				}
			}
		}
	}
}

func unbounded(path string, s *apiextensionsv1.JSONSchemaProps) (paths []string) {
	for _, part := range foreign {
		if strings.HasSuffix(path, part) {
			return nil
		}
	}
	switch s.Type {
	case "string":
		if s.MaxLength == nil && len(s.Enum) == 0 && s.Format != "date-time" {
			paths = append(paths, path)
		}
	case "array":
		if s.MaxItems == nil {
			paths = append(paths, path)
		}
		paths = append(paths, unbounded(path+"[]", s.Items.Schema)...)
	case "object":
		for name, property := range s.Properties {
			paths = append(paths, unbounded(fmt.Sprintf("%s.%s", path, name), &property)...)
		}
		if values := s.AdditionalProperties; values != nil && s.MaxProperties == nil {
			paths = append(paths, path)
		}
	}
	return paths
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
