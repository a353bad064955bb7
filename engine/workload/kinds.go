package workload

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/agnivade/levenshtein"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/internal/spelling"
)

// Table is the kinds of workload. It is immutable, and safe for concurrent use.
type Table struct {
	kinds []*Definition
	byGK  map[schema.GroupKind]*Definition
}

// Definition is one workload kind: the paths of its pod templates, and how many pods they make. Expressions are CEL over the object;
// kinds.yaml describes what they can read.
type Definition struct {
	// Group and Kind identify the kind; the group of Pods is empty.
	Group string `json:"group"`
	Kind  string `json:"kind"`
	// Resource is the plural name under which it is watched, for example deployments.
	Resource string `json:"resource"`
	// Versions whose objects have this form, the preferred one first.
	Versions []string `json:"versions"`
	// PodSets all go to the same clusters. What a workload requests is their sum.
	PodSets []PodSetDefinition `json:"podSets"`
	// PerNode means that the pod sets run on each usable node of a cluster, instead of once per cluster.
	PerNode bool `json:"perNode,omitempty"`
	// Finished and Suspended are when the workload needs nothing any more, or nothing for now; never if they are empty.
	Finished  string `json:"finished,omitempty"`
	Suspended string `json:"suspended,omitempty"`

	finished, suspended *expression
}

// PodSetDefinition is the pods that are made of one template, or of a template in each element of a list or map.
type PodSetDefinition struct {
	// Each is the path of a list or map with a pod set in each element. The other paths then start at the element, which
	// expressions read as each, and its name in a map as key.
	Each string `json:"each,omitempty"`
	// Template is the path of the pod template; "." is the object itself. A pod set without pods needs none.
	Template string `json:"template"`
	// Count is how many pods there are, 1 if empty.
	Count string `json:"count,omitempty"`
	// VolumeClaims is the path of a list of templates of PersistentVolumeClaims, which each pod has.
	VolumeClaims string `json:"volumeClaims,omitempty"`
	// Divided are the paths of the numbers of which each cluster gets a part when replicas are divided: the first one is the
	// replicas that it gets, and others are divided in proportion. If left out, it is the only field that count reads.
	Divided []string `json:"divided,omitempty"`

	count *expression
}

//go:embed kinds.yaml
var builtin []byte

// Kinds returns the built-in workload kinds.
var Kinds = sync.OnceValue(func() *Table {
	t, err := ParseKinds("kinds.yaml", builtin)
	if err != nil {
		panic(err) // the table is part of the program
	}
	return t
})

// ParseKinds reads a table as YAML: a list of Definitions under kinds. Errors begin with the name and include the field.
func ParseKinds(name string, text []byte) (*Table, error) {
	content, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var file struct {
		Kinds []json.RawMessage `json:"kinds"`
	}
	if err := decodeStrictly(content, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(file.Kinds) == 0 {
		return nil, fmt.Errorf("%s: kinds: there are none", name)
	}
	t := &Table{byGK: map[schema.GroupKind]*Definition{}}
	var errs []error
	for i, content := range file.Kinds {
		d, at := &Definition{}, fmt.Sprintf("%s: kinds[%d]", name, i)
		if err := decodeStrictly(content, d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
			continue
		}
		if d.Kind != "" {
			at += fmt.Sprintf(" (%s)", d.GroupKind())
		}
		for _, err := range d.compile() {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		if _, twice := t.byGK[d.GroupKind()]; twice {
			errs = append(errs, fmt.Errorf("%s: is there twice", at))
		}
		t.add(d)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// decodeStrictly decodes JSON, and fails if it has fields that the type does not have.
func decodeStrictly(content []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func (t *Table) add(d *Definition) {
	t.kinds = append(t.kinds, d)
	t.byGK[d.GroupKind()] = d
}

// With returns a table with more kinds, which replace those of the same group and kind.
func (t *Table) With(more *Table) *Table {
	both := &Table{byGK: map[schema.GroupKind]*Definition{}}
	for _, d := range t.kinds {
		if _, replaced := more.byGK[d.GroupKind()]; !replaced {
			both.add(d)
		}
	}
	for _, d := range more.kinds {
		both.add(d)
	}
	return both
}

// All returns the kinds in the order of the table. The caller must not modify them.
func (t *Table) All() []*Definition { return slices.Clone(t.kinds) }

// Find returns the definition of a kind. If there is none, the error is an *UnknownKindError.
func (t *Table) Find(apiVersion, kind string) (*Definition, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err == nil {
		if d := t.byGK[gv.WithKind(kind).GroupKind()]; d != nil && slices.Contains(d.Versions, gv.Version) {
			return d, nil
		}
	}
	return nil, &UnknownKindError{APIVersion: apiVersion, Kind: kind, table: t}
}

// Resource returns the kind of a watched resource; nil if there is none.
func (t *Table) Resource(resource schema.GroupVersionResource) *Definition {
	for _, d := range t.kinds {
		if d.Group == resource.Group && d.Resource == resource.Resource && slices.Contains(d.Versions, resource.Version) {
			return d
		}
	}
	return nil
}

// DefaultResources are the resources of the kinds that are watched by default.
var DefaultResources = []string{"deployments.v1.apps", "statefulsets.v1.apps", "jobs.v1.batch"}

// Resources returns the resources for names such as deployments.v1.apps. Each is of a kind in the table.
func (t *Table) Resources(names []string) ([]schema.GroupVersionResource, error) {
	if len(names) == 0 {
		return nil, errors.New("must name at least one kind")
	}
	known := make([]string, 0, len(t.kinds))
	for _, d := range t.kinds {
		for _, version := range d.Versions {
			known = append(known, strings.TrimSuffix(d.Resource+"."+version+"."+d.Group, "."))
		}
	}
	resources := make([]schema.GroupVersionResource, len(names))
	for i, name := range names {
		parts := strings.SplitN(name, ".", 3)
		if len(parts) < 2 || slices.Contains(parts, "") {
			return nil, fmt.Errorf("%q is not resource.version.group, for example deployments.v1.apps", name)
		}
		resources[i] = schema.GroupVersionResource{Resource: parts[0], Version: parts[1], Group: strings.Join(parts[2:], "")}
		if t.Resource(resources[i]) == nil {
			return nil, fmt.Errorf("%s is no resource of a kind of workload%s; --kinds-file adds kinds", name, spelling.DidYouMean(name, known))
		}
	}
	return resources, nil
}

// UnknownKindError means that objects of an apiVersion and kind are not placed.
type UnknownKindError struct {
	APIVersion, Kind string
	table            *Table
}

// Error names the kind that is likely meant.
func (e *UnknownKindError) Error() string {
	message := fmt.Sprintf("%s of %s is not a kind of workload", e.Kind, e.APIVersion)
	if near := e.table.Nearest(e.APIVersion, e.Kind); near != nil {
		return fmt.Sprintf("%s, did you mean %s of %s?", message, near.Kind, near.APIVersions()[0])
	}
	return message + ": kubectl placement kinds lists them, and --kinds-file adds more"
}

// Nearest returns the kind that is likely meant by a misspelt one, or by one of another version or group; nil if none is near.
func (t *Table) Nearest(apiVersion, kind string) (near *Definition) {
	least := 1 << 10
	for _, d := range t.kinds {
		spelling := levenshtein.ComputeDistance(strings.ToLower(kind), strings.ToLower(d.Kind))
		if strings.EqualFold(kind, d.Resource) {
			spelling = 0
		}
		group, _, _ := strings.Cut(apiVersion, "/")
		elsewhere := 0
		if group != d.Group && (d.Group != "" || strings.Contains(apiVersion, "/")) {
			elsewhere = 1
		}
		if distance := 2*spelling + elsewhere; spelling <= max(2, len(kind)/3) && distance < least {
			near, least = d, distance
		}
	}
	return near
}

// GroupKind returns the group and the kind.
func (d *Definition) GroupKind() schema.GroupKind {
	return schema.GroupKind{Group: d.Group, Kind: d.Kind}
}

// APIVersions returns the versions with the group, as in apiVersion.
func (d *Definition) APIVersions() []string {
	all := make([]string, len(d.Versions))
	for i, version := range d.Versions {
		all[i] = schema.GroupVersion{Group: d.Group, Version: version}.String()
	}
	return all
}

var (
	kindName     = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	resourceName = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	groupName    = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`)
	pathName     = regexp.MustCompile(`^[A-Za-z][-A-Za-z0-9_]*(\.[A-Za-z][-A-Za-z0-9_]*)*$`)
)

// compile compiles the expressions and returns the errors in the definition.
func (d *Definition) compile() (errs []error) {
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf(field+": "+format, args...))
	}
	matches := func(field, value string, pattern *regexp.Regexp, example string) {
		if !pattern.MatchString(value) {
			wrong(field, "%q, must be for example %s", value, example)
		}
	}
	compile := func(field, text string, result resultType) *expression {
		if text == "" {
			return nil
		}
		e, err := compileExpression(text, result)
		if err != nil {
			wrong(field, "%v", err)
		}
		return e
	}
	matches("kind", d.Kind, kindName, "Deployment")
	matches("group", d.Group, groupName, "apps")
	matches("resource", d.Resource, resourceName, "deployments")
	if len(d.Versions) == 0 {
		wrong("versions", "there are none, must be for example [v1]")
	}
	for i, version := range d.Versions {
		matches(fmt.Sprintf("versions[%d]", i), version, resourceName, "v1")
	}
	if len(d.PodSets) == 0 {
		wrong("podSets", "there are none")
	}
	for i := range d.PodSets {
		p, at := &d.PodSets[i], fmt.Sprintf("podSets[%d].", i)
		if p.Template != "." {
			matches(at+"template", p.Template, pathName, "spec.template")
		}
		for field, path := range map[string]string{"each": p.Each, "volumeClaims": p.VolumeClaims} {
			if path != "" {
				matches(at+field, path, pathName, "spec."+field)
			}
		}
		p.count = compile(at+"count", p.Count, count)
		for i, path := range p.Divided {
			matches(fmt.Sprintf("%sdivided[%d]", at, i), path, pathName, "spec.replicas")
		}
	}
	d.finished = compile("finished", d.Finished, truth)
	d.suspended = compile("suspended", d.Suspended, truth)
	return errs
}
