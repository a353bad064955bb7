package nodes

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/kcp-placement/placement/engine/internal/toleration"
)

// PodSpec is the part of a pod's spec that determines on which nodes it can run.
type PodSpec struct {
	NodeSelector map[string]string `json:"nodeSelector"`
	Affinity     struct {
		NodeAffinity struct {
			Required *corev1.NodeSelector `json:"requiredDuringSchedulingIgnoredDuringExecution"`
		} `json:"nodeAffinity"`
	} `json:"affinity"`
	Tolerations []corev1.Toleration `json:"tolerations"`
}

// Pods is what the pods of one template ask of the node that they run on. The zero value asks for one without taints.
type Pods struct {
	path        string
	selector    map[string]string
	terms       []corev1.NodeSelectorTerm
	tolerations []corev1.Toleration
	match       nodeaffinity.RequiredNodeAffinity
}

// maxAsked and maxTolerations bound the requirements of a workload's pods, so that matching them with a cluster has a bounded cost: values
// are looked up by label, while each toleration is compared with each taint of each node group.
const maxAsked, maxTolerations = 1024, 128

// Of returns the requirements of pods whose spec is at a path. As with the admission plugin ExtendedResourceToleration, pods
// tolerate the taints whose keys are extended resources that they request. The error names the field.
func (spec *PodSpec) Of(path string, extended []string) (Pods, error) {
	p := Pods{path: path, selector: spec.NodeSelector, tolerations: slices.Clip(spec.Tolerations)}
	required := spec.Affinity.NodeAffinity.Required
	if required != nil {
		p.terms = required.NodeSelectorTerms
	}
	if err := p.checkAsked(p.asked(), len(p.tolerations)+len(extended)); err != nil {
		return Pods{}, err
	}
	if err := spec.validate(field.NewPath(path)); err != nil {
		return Pods{}, errors.New(short(err.Error())) // it quotes what is wrong
	}
	for _, name := range extended {
		p.tolerations = append(p.tolerations, corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	p.compile()
	return p, nil
}

// validate returns why the API server would refuse the pod.
func (spec *PodSpec) validate(path *field.Path) error {
	if _, err := labels.ValidatedSelectorFromSet(spec.NodeSelector); err != nil {
		return fmt.Errorf("%s: %w", path.Child("nodeSelector"), err)
	}
	if required := spec.Affinity.NodeAffinity.Required; required != nil {
		at := path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
		if len(required.NodeSelectorTerms) == 0 {
			return field.Required(at.Child("nodeSelectorTerms"), "there must be a term")
		}
		if _, err := nodeaffinity.NewNodeSelector(required, field.WithPath(at)); err != nil {
			return err
		}
	}
	return toleration.Validate(path.Child("tolerations"), spec.Tolerations).ToAggregate()
}

// checkAsked returns an error if there are too many values or tolerations.
func (p *Pods) checkAsked(values, tolerations int) error {
	switch {
	case values > maxAsked:
		return fmt.Errorf("%s: nodeSelector and required node affinity have more than %d values", p.path, maxAsked)
	case tolerations > maxTolerations:
		return fmt.Errorf("%s: there are more than %d tolerations, with those of extended resources that are requested", p.path, maxTolerations)
	}
	return nil
}

// asked returns how many label values the pods ask for.
func (p *Pods) asked() int {
	n := len(p.selector) + len(p.terms)
	for _, term := range p.terms {
		for _, requirements := range [][]corev1.NodeSelectorRequirement{term.MatchExpressions, term.MatchFields} {
			for _, r := range requirements {
				n += 1 + len(r.Values)
			}
		}
	}
	return n
}

func (p *Pods) compile() {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: p.selector}}
	if p.terms != nil {
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: p.terms},
		}}
	}
	p.match = nodeaffinity.GetRequiredNodeAffinity(pod)
}

func (p *Pods) isZero() bool { return len(p.selector)+len(p.terms)+len(p.tolerations) == 0 }

// Labels yields the labels that pods ask for by value.
func (p *Pods) Labels(yield func(key, value string) bool) {
	for _, key := range slices.Sorted(maps.Keys(p.selector)) {
		if !yield(key, p.selector[key]) {
			return
		}
	}
	for _, term := range p.terms {
		for _, r := range term.MatchExpressions {
			for _, value := range r.Values {
				if r.Operator == corev1.NodeSelectorOpIn && !yield(r.Key, value) {
					return
				}
			}
		}
	}
}

// Wishes is what the pods of a workload ask of nodes. Nil is nothing: the pods then need a node without taints. It is
// immutable.
type Wishes struct {
	all []Pods
	// digest differs for different wishes.
	digest string
}

// Of returns what the pods of several templates ask for; nil if none asks for anything. A template without pods counts, since it
// may get some later, where the workload is then. It fails if they ask for too much.
func Of(all []Pods) (*Wishes, error) {
	if !slices.ContainsFunc(all, func(p Pods) bool { return !p.isZero() }) {
		return nil, nil
	}
	w := &Wishes{}
	texts := map[string]bool{}
	hash, asked, tolerations := sha256.New(), 0, 0
	for _, p := range all {
		text, err := json.Marshal([]any{p.selector, p.terms, p.tolerations})
		if err != nil {
			return nil, err
		}
		if texts[string(text)] {
			continue
		}
		texts[string(text)] = true
		w.all = append(w.all, p)
		fmt.Fprintf(hash, "%q %s\n", p.path, text)
		asked, tolerations = asked+p.asked(), tolerations+len(p.tolerations)
		if err := p.checkAsked(asked, tolerations); err != nil {
			return nil, err
		}
	}
	w.digest = hex.EncodeToString(hash.Sum(nil)[:16])
	return w, nil
}

// plain are pods that ask for nothing.
var plain = []Pods{{}}

// Pods returns the requirements of each template's pods, without duplicates.
func (w *Wishes) Pods() []Pods {
	if w == nil {
		return plain
	}
	return w.all
}

// Digest returns the same value for Wishes that are Equal; empty for nil.
func (w *Wishes) Digest() string {
	if w == nil {
		return ""
	}
	return w.digest
}

// Equal reports whether pods ask for the same.
func (w *Wishes) Equal(o *Wishes) bool { return w == o || w.Digest() == o.Digest() }
