package render

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// Objects holds the objects of a workspace that may accompany workloads, indexed by what they accompany. A query takes time proportional
// to its result, however many objects there are. It is not safe for concurrent use.
type Objects struct {
	kinds *workload.Table
	all   map[key]*object
	// by holds the objects by what they accompany.
	by map[any]map[key]*object
}

// Objects are indexed by the key of the workload that they target, and by the following types.
type (
	// withName is a workload that the label names.
	withName struct{ namespace, name string }
	// withLabel is a pod label that a selector requires, withKey one that it requires with any value. Selectors that require
	// none are indexed by a withKey without a name.
	withLabel struct{ namespace, name, value string }
	withKey   struct{ namespace, name string }
)

type object struct {
	*unstructured.Unstructured
	// withheld is why the object is not delivered; own is set if clusters have an equivalent one of their own.
	withheld string
	own      bool
	// selector of pods, nil if the object has none.
	selector labels.Selector
	// references to Secrets.
	references []reference
	// index are the keys under which the object is indexed.
	index []any
}

// MaxWith is how many objects can accompany a workload.
const MaxWith = 500

// NewObjects returns an empty Objects.
func NewObjects(kinds *workload.Table) *Objects {
	return &Objects{kinds: kinds, all: map[key]*object{}, by: map[any]map[key]*object{}}
}

// Put adds or replaces an object. The caller must not modify it afterwards.
func (o *Objects) Put(added *unstructured.Unstructured) {
	k := keyOf(added)
	o.Delete(k.GroupKind, k.namespace, k.name)
	read := o.read(added)
	o.all[k] = read
	for _, at := range read.index {
		if o.by[at] == nil {
			o.by[at] = map[key]*object{}
		}
		o.by[at][k] = read
	}
}

// Delete removes an object.
func (o *Objects) Delete(kind schema.GroupKind, namespace, name string) {
	k := key{kind, namespace, name}
	if before := o.all[k]; before != nil {
		for _, at := range before.index {
			delete(o.by[at], k)
			if len(o.by[at]) == 0 {
				delete(o.by, at)
			}
		}
		delete(o.all, k)
	}
}

func (o *Objects) read(added *unstructured.Unstructured) *object {
	k := keyOf(added)
	read := &object{Unstructured: added}
	read.withheld, read.own = withheld(added)
	if name := added.GetLabels()[v1alpha1.LabelDeliverWith]; name != "" && !o.isWorkload(added) {
		read.index = append(read.index, withName{k.namespace, name})
	}
	switch k.GroupKind {
	case serviceKind:
		if selector, _, _ := unstructured.NestedStringMap(added.Object, "spec", "selector"); len(selector) > 0 {
			read.selector = labels.SelectorFromSet(selector)
		}
	case budgetKind:
		content, _, _ := unstructured.NestedFieldNoCopy(added.Object, "spec", "selector")
		selector, problems := decode.To[*metav1.LabelSelector](content)
		if compiled, err := metav1.LabelSelectorAsSelector(selector); err == nil && len(problems) == 0 && selector != nil {
			read.selector = compiled
		}
	case autoscalerKind:
		if target, ok := targetOf(added); ok {
			read.index = append(read.index, target)
		}
	case serviceAccountKind:
		secrets, _ := decode.To[[]corev1.LocalObjectReference](added.Object["imagePullSecrets"])
		for _, s := range secrets {
			if s.Name != "" {
				read.references = append(read.references, reference{secretKind, s.Name, "imagePullSecrets of " + describe(added), false})
			}
		}
	}
	if read.selector != nil {
		read.index = append(read.index, indexedBy(k.namespace, read.selector)...)
	}
	return read
}

// CanGo reports whether an object can accompany workloads: its kind is one that they refer to or that refers to them, or it has the label.
func CanGo(object *unstructured.Unstructured) bool {
	return slices.Contains(CompanionKinds, object.GroupVersionKind().GroupKind()) || object.GetLabels()[v1alpha1.LabelDeliverWith] != ""
}

// isWorkload reports whether an object is placed itself.
func (o *Objects) isWorkload(object *unstructured.Unstructured) bool {
	_, err := o.kinds.Find(object.GetAPIVersion(), object.GetKind())
	return err == nil
}

// indexedBy returns index keys for a selector: every pod that it selects has at least one of these labels.
func indexedBy(namespace string, selector labels.Selector) []any {
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			var all []any
			for value := range r.Values() {
				all = append(all, withLabel{namespace, r.Key(), value})
			}
			return all
		}
	}
	for _, r := range requirements {
		if r.Operator() == selection.Exists {
			return []any{withKey{namespace, r.Key()}}
		}
	}
	return []any{withKey{namespace: namespace}}
}

// withheld returns why an object is not delivered; empty if it is. own reports whether each cluster has an equivalent one.
func withheld(object *unstructured.Unstructured) (why string, own bool) {
	switch kind := object.GroupVersionKind().GroupKind(); {
	case kind == secretKind && object.Object["type"] == string(corev1.SecretTypeServiceAccountToken):
		return "is a token for the API server of its workspace, and not delivered", false
	case kind == configMapKind && object.GetName() == "kube-root-ca.crt":
		return "is of the workspace", true
	case isDefaultServiceAccount(object):
		if secrets, _ := object.Object["imagePullSecrets"].([]any); len(secrets) == 0 {
			return "says nothing", true
		}
	}
	return "", false
}

// With returns the companions of a workload, ordered by kind and name: what its pods refer to, the Services and
// PodDisruptionBudgets that select its pods, the HorizontalPodAutoscalers that target it, and objects that name it by a label. missing are
// objects without which its pods do not run. All are in the workload's namespace.
func (o *Objects) With(n *Needs) (with []*unstructured.Unstructured, missing []Reference) {
	found := map[key]*object{}
	add := func(k key, other *object) {
		if other.withheld == "" {
			found[k] = other
		}
	}
	lacking := map[key]bool{}
	miss := func(r reference, k key, why string) {
		if !lacking[k] {
			lacking[k] = true
			missing = append(missing, Reference{r.GroupKind, k.namespace, k.name, r.field, why})
		}
	}
	var follow func([]reference)
	follow = func(references []reference) {
		for _, r := range references {
			k := key{r.GroupKind, n.of.namespace, r.name}
			other := o.all[k]
			switch {
			case other == nil && !r.optional && !clustersHave(k):
				miss(r, k, "is not there")
			case other == nil || other.own:
			case other.withheld != "":
				miss(r, k, other.withheld)
			case found[k] == nil:
				add(k, other)
				follow(other.references)
			}
		}
	}
	follow(n.references)
	for k, other := range o.by[n.of] {
		add(k, other)
	}
	for k, other := range o.by[withName{n.of.namespace, n.of.name}] {
		add(k, other)
	}
	selecting := func(pod labels.Set, all map[key]*object) {
		for k, other := range all {
			if len(found) > MaxWith {
				return // too many in any case
			}
			if other.selector.Matches(pod) {
				add(k, other)
			}
		}
	}
	for _, pod := range n.pods {
		for name, value := range pod {
			selecting(pod, o.by[withLabel{n.of.namespace, name, value}])
			selecting(pod, o.by[withKey{n.of.namespace, name}])
		}
		selecting(pod, o.by[withKey{namespace: n.of.namespace}])
	}
	keys := make([]key, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.name, b.name))
	})
	for _, k := range keys {
		with = append(with, found[k].Unstructured)
	}
	return with, missing
}

// clustersHave reports whether each namespace of a cluster has an object of this name of its own.
func clustersHave(k key) bool {
	return k.GroupKind == configMapKind && k.name == "kube-root-ca.crt"
}
