package manifest

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds"
	"github.com/kcp-placement/placement/internal/spelling"
)

// kind validates objects of one of our kinds as the API server does.
type kind struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// kinds are the kinds of our API by name, from the manifests that are installed in a server.
var kinds = sync.OnceValues(func() (map[string]*kind, error) {
	kinds := map[string]*kind{}
	files, err := fs.Glob(crds.Manifests, "manifests/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := fs.ReadFile(crds.Manifests, file)
		if err != nil {
			return nil, err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &definition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if kinds[definition.Spec.Names.Kind], err = newKind(&definition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return kinds, nil
})

func newKind(definition *apiextensionsv1.CustomResourceDefinition) (*kind, error) {
	var props apiextensions.JSONSchemaProps
	version := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version, &props, nil); err != nil {
		return nil, err
	}
	structural, err := schema.NewStructural(&props)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return nil, err
	}
	return &kind{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// validate validates an object against its schema as the API server does, and sets defaults.
func (k *kind) validate(o *Object) (errs []*Error) {
	unknown := pruning.PruneWithOptions(o.whole.Object, k.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		message := "unknown field" + spelling.DidYouMean(lastOf(path), k.siblings(path))
		errs = append(errs, &Error{Position: o.PositionOfKey(path), Object: o.String(), Field: path, Message: message})
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(o.whole.Object, k.structural)
	defaulting.Default(o.whole.Object, k.structural)
	wrong := validation.ValidateCustomResource(nil, o.whole.Object, k.validator)
	wrong = append(wrong, listtype.ValidateListSetsAndMaps(nil, k.structural, o.whole.Object)...)
	if len(wrong) == 0 {
		wrong, _ = k.rules.Validate(context.Background(), nil, k.structural, o.whole.Object, nil, celconfig.RuntimeCELCostBudget)
	}
	for _, e := range wrong {
		message := e.ErrorBody()
		if e.Type == field.ErrorTypeTypeInvalid {
			message += k.asMember(o, e.Field)
		}
		errs = append(errs, &Error{Position: o.Position(e.Field), Object: o.String(), Field: strings.TrimPrefix(e.Field, "<nil>"), Message: message})
	}
	slices.SortFunc(errs, func(a, b *Error) int { // the validators return the order of a map
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return errs
}

// asMember suggests an object with one required field if a value of that field is written in place of the object.
func (k *kind) asMember(o *Object, path string) string {
	elements := split(path)
	s := k.at(elements)
	value, found, err := unstructured.NestedString(o.whole.Object, elements...)
	if s == nil || s.ValueValidation == nil || len(s.ValueValidation.Required) != 1 || !found || err != nil {
		return ""
	}
	return fmt.Sprintf(", did you mean {%s: %s}?", s.ValueValidation.Required[0], value)
}

// at returns the schema of a field; nil if there is none.
func (k *kind) at(elements []string) *schema.Structural {
	s := k.structural
	for _, element := range elements {
		next, found := s.Properties[element]
		switch {
		case found:
			s = &next
		case s.Items != nil:
			s = s.Items
		default:
			return nil
		}
	}
	return s
}

// siblings returns the names of the fields that the schema has next to the one at a path.
func (k *kind) siblings(path string) (names []string) {
	elements := split(path)
	s := k.at(elements[:len(elements)-1])
	if s == nil {
		return nil
	}
	if s.Items != nil {
		s = s.Items
	}
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func lastOf(path string) string {
	elements := split(path)
	return elements[len(elements)-1]
}
