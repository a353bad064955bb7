package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Affinity is a compiled term of affinity between workloads.
type Affinity struct {
	// Others are the workloads that the term is about.
	Others Others
	Key    snapshot.TopologyKey
	Repels bool
	// Required: the term has to hold. Otherwise it adds Weight points to the score.
	Required bool
	Weight   int64
	// Name is the path of the term, for example "workloadAffinity[0]".
	Name string
}

// KeepsOut reports whether workloads with the term keep others out of their domains.
func (a *Affinity) KeepsOut() bool { return a.Required && a.Repels }

// Repulsion is a group of terms by which workloads keep others out of their domains.
type Repulsion struct {
	// ID is empty for the terms of the placement itself. Repulsions by policies with equal IDs are equal.
	ID    string
	Terms []Affinity
}

// repelBy adds those of the terms that keep others out.
func (p *Placement) repelBy(id string, terms []Affinity) {
	r := Repulsion{ID: id}
	for i := range terms {
		if terms[i].KeepsOut() {
			r.Terms = append(r.Terms, terms[i])
		}
	}
	if len(r.Terms) > 0 {
		p.Repulsions = append(slices.Clip(p.Repulsions), r)
	}
}

// RepelsByPolicies returns the ID of the terms by which policies make workloads keep others out; empty if there are none.
func (p *Placement) RepelsByPolicies() string {
	if last := len(p.Repulsions) - 1; last >= 0 {
		return p.Repulsions[last].ID
	}
	return ""
}

// Others selects workloads of a workspace.
type Others struct {
	// Selector is the text of the label selector, empty if it selects everything.
	Selector string
	// Namespaces is nil for all namespaces.
	Namespaces []string

	labels labels.Selector
	id     string
	// home is the namespace of the placement; own is set if the others are in that namespace.
	home string
	own  bool
	// asks is a label that each of them has; its key is empty if none is known.
	asks Label
}

// Label is a label with its value.
type Label struct{ Key, Value string }

// Asks returns a label that each of the others has; known is false if there need not be one.
func (o *Others) Asks() (l Label, known bool) { return o.asks, o.asks.Key != "" }

// ID returns the same value for Others that select the same.
func (o *Others) ID() string { return o.id }

// String returns for example "workloads with app=db of namespace shop".
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

// Match reports whether a workload with these labels in a namespace is one of the others.
func (o *Others) Match(namespace string, of map[string]string) bool {
	return (o.Namespaces == nil || slices.Contains(o.Namespaces, namespace)) && o.labels.Matches(labels.Set(of))
}

func (p *Placement) compileAffinity(path *field.Path, terms []v1alpha1.WorkloadAffinityTerm) (errs field.ErrorList) {
	for i, t := range terms {
		at := path.Index(i)
		a := Affinity{
			Key: snapshot.TopologyKey(cmp.Or(t.TopologyKey, v1alpha1.TopologyKeyCluster)), Required: t.Required,
			Repels: t.Type == v1alpha1.WorkloadsRepel, Weight: int64(cmp.Or(t.Weight, defaultWeight)), Name: strings.TrimPrefix(at.String(), "spec."),
		}
		if t.Type != v1alpha1.WorkloadsAttract && t.Type != v1alpha1.WorkloadsRepel {
			errs = append(errs, field.NotSupported(at.Child("type"), t.Type, []v1alpha1.WorkloadAffinityType{v1alpha1.WorkloadsAttract, v1alpha1.WorkloadsRepel}))
		}
		errs = append(errs, validateTopologyKey(at.Child("topologyKey"), string(a.Key))...)
		if t.Weight < 0 || t.Weight > maxSpreadWeight {
			errs = append(errs, field.Invalid(at.Child("weight"), t.Weight, fmt.Sprintf("must be from 1 to %d", maxSpreadWeight)))
		}
		if n := len(t.Namespaces); n > maxNamespaces {
			errs = append(errs, field.TooMany(at.Child("namespaces"), n, maxNamespaces))
		}
		var err *field.Error
		if a.Others, err = CompileOthers(at, &t, p.Namespace); err != nil {
			errs = append(errs, err)
			continue
		}
		p.Affinity = append(p.Affinity, a)
	}
	return errs
}

// CompileOthers compiles the selection of workloads in a term at a path, for a placement in a namespace.
func CompileOthers(path *field.Path, t *v1alpha1.WorkloadAffinityTerm, namespace string) (o Others, err *field.Error) {
	path = path.Child("labelSelector")
	if t.LabelSelector == nil {
		return o, field.Required(path, "write {} to select all workloads")
	}
	selector, err := CompileLabels(path, t.LabelSelector)
	if err != nil {
		return o, err
	}
	o = Others{Selector: selector.String(), Namespaces: slices.Sorted(slices.Values(t.Namespaces)), labels: selector, own: len(t.Namespaces) == 0}
	if slices.Contains(t.Namespaces, "*") {
		o.Namespaces = nil
	}
	requirements, _ := selector.Requirements()
	for i := range requirements {
		if value, one := selector.RequiresExactMatch(requirements[i].Key()); one {
			o.asks = Label{requirements[i].Key(), value}
			break
		}
	}
	return o.of(namespace), nil
}

// of returns the others in a placement of a namespace.
func (o Others) of(namespace string) Others {
	if o.home = namespace; o.own {
		o.Namespaces = []string{namespace}
	}
	o.id = "*\n" + o.Selector
	if o.Namespaces != nil {
		o.id = strings.Join(o.Namespaces, ",") + "\n" + o.Selector
	}
	return o
}
