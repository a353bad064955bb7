package placement

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Affinity is a compiled term of affinity between workloads.
type Affinity struct {
	// Others are the workloads that it is about: those of Namespaces with such labels.
	Others Others
	Key    snapshot.TopologyKey
	Repels bool
	// Required: it has to hold. Otherwise it weighs Weight points of the score.
	Required bool
	Weight   int64
}

// Others selects workloads of a workspace.
type Others struct {
	// Selector is the text of the label selector, empty where it selects all.
	Selector string
	// Namespaces is nil for all namespaces.
	Namespaces []string

	labels labels.Selector
	id     string
	// home is the namespace of the placement.
	home string
}

// ID is the same for those that select the same.
func (o *Others) ID() string { return o.id }

// String is for example "workloads with app=db of namespace shop".
func (o *Others) String() string {
	text := "workloads"
	if o.Selector != "" {
		text += " with " + o.Selector
	}
	switch {
	case o.Namespaces == nil:
		text += " of any namespace"
	case len(o.Namespaces) == 1 && o.Namespaces[0] != o.home:
		text += " of namespace " + o.Namespaces[0]
	case len(o.Namespaces) > 1:
		text += " of namespaces " + strings.Join(o.Namespaces, ", ")
	}
	return text
}

// Match reports whether a workload of a namespace with these labels is one of the others.
func (o *Others) Match(namespace string, of map[string]string) bool {
	return (o.Namespaces == nil || slices.Contains(o.Namespaces, namespace)) && o.labels.Matches(labels.Set(of))
}

func (p *Placement) compileAffinity(path *field.Path, terms []v1alpha1.WorkloadAffinityTerm) (errs field.ErrorList) {
	for i, t := range terms {
		at := path.Index(i)
		a := Affinity{
			Key: snapshot.TopologyKey(cmp.Or(t.TopologyKey, v1alpha1.TopologyKeyCluster)), Required: t.Required,
			Repels: t.Type == v1alpha1.WorkloadsRepel, Weight: int64(cmp.Or(t.Weight, defaultWeight)),
		}
		if t.Type != v1alpha1.WorkloadsAttract && t.Type != v1alpha1.WorkloadsRepel {
			errs = append(errs, field.NotSupported(at.Child("type"), t.Type, []v1alpha1.WorkloadAffinityType{v1alpha1.WorkloadsAttract, v1alpha1.WorkloadsRepel}))
		}
		errs = append(errs, validateTopologyKey(at.Child("topologyKey"), string(a.Key))...)
		var err *field.Error
		if a.Others, err = CompileOthers(at, &t, p.Namespace); err != nil {
			errs = append(errs, err)
			continue
		}
		p.Affinity = append(p.Affinity, a)
	}
	return errs
}

// CompileOthers compiles what workloads a term at a path is about, in a placement of a namespace.
func CompileOthers(path *field.Path, t *v1alpha1.WorkloadAffinityTerm, namespace string) (o Others, err *field.Error) {
	path = path.Child("labelSelector")
	if t.LabelSelector == nil {
		return o, field.Required(path, "write {} to select all workloads")
	}
	selector, err := compileLabels(path, t.LabelSelector)
	if err != nil {
		return o, err
	}
	o = Others{Selector: selector.String(), Namespaces: slices.Sorted(slices.Values(t.Namespaces)), labels: selector, home: namespace}
	switch {
	case slices.Contains(t.Namespaces, "*"):
		o.Namespaces = nil
	case len(t.Namespaces) == 0:
		o.Namespaces = []string{namespace}
	}
	o.id = "*\n" + o.Selector
	if o.Namespaces != nil {
		o.id = strings.Join(o.Namespaces, ",") + "\n" + o.Selector
	}
	return o, nil
}
