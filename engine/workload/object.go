package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
)

// bookkeeping are annotations that tools write on every change of a workload. They are hidden from policies, so that a new
// image does not cause a new decision.
var bookkeeping = []string{
	corev1.LastAppliedConfigAnnotation,
	"deployment.kubernetes.io/revision",
}

// End is why a workload is not, or no longer, decided on, in words; empty if it is decided on.
type End string

// The ends of workloads.
const (
	BeingDeleted End = "it is being deleted"
	// HasFinished is the end of a Job or similar workload that no longer needs capacity.
	HasFinished End = "it has finished"
	// Suspended is the end of a workload that needs no capacity until it is resumed. It is decided on then.
	Suspended End = "it is suspended"
	// Controlled is the end of a workload that another object controls, as a Deployment controls its ReplicaSets. It is not placed on
	// its own.
	Controlled End = "another object controls it"
)

// RequestsNothing reports whether a workload needs no capacity: it has finished, or is suspended.
func (e End) RequestsNothing() bool { return e == HasFinished || e == Suspended }

// WhyNot returns why the workload is not decided on; empty if it is.
func (w *Workload) WhyNot() string {
	if w.Controller != "" {
		return w.Controller + " controls it, so it is no workload of its own"
	}
	return string(w.End)
}

// FromObject is Table.FromObject with the built-in kinds.
func FromObject(object *unstructured.Unstructured) (*Workload, error) {
	return Kinds().FromObject(object)
}

// FromObject converts an object of a kind in the table, in a namespace without LimitRanges.
func (t *Table) FromObject(object *unstructured.Unstructured) (*Workload, error) {
	return t.Read(object).Count(nil)
}

// Object is an object of a kind in the table that has been read but not counted, because what its pods request also depends on the
// LimitRanges of its namespace. It is immutable.
type Object struct {
	workload Workload
	sets     []podSet
	err      error
}

// podSet is the pods made from one template, with its path.
type podSet struct {
	path     string
	template *podTemplate
	// pods is the number of pods, whole the number before any of them has ended.
	pods, whole int64
	// storage is what the volumes of each pod claim.
	storage capacity.Resources
	// asks is what each pod asks of its node.
	asks nodes.Pods
}

// Read reads an object.
func (t *Table) Read(object *unstructured.Unstructured) *Object {
	w := Workload{
		Reference: Reference{
			APIVersion: object.GetAPIVersion(),
			Kind:       object.GetKind(),
			Namespace:  object.GetNamespace(),
			Name:       object.GetName(),
			UID:        string(object.GetUID()),
		},
		Labels:      object.GetLabels(),
		Annotations: object.GetAnnotations(),
	}
	for _, key := range bookkeeping {
		if _, found := w.Annotations[key]; found {
			w.Annotations = maps.Clone(w.Annotations)
			delete(w.Annotations, key)
		}
	}
	if controller := metav1.GetControllerOfNoCopy(object); controller != nil {
		w.Controller = controller.Kind + " " + controller.Name
	}
	o := &Object{workload: w}
	d, err := t.Find(w.APIVersion, w.Kind)
	if err != nil {
		o.err = fmt.Errorf("kind: %w", err)
		return o
	}
	s := &scope{object: withoutNulls(object.Object)}
	if o.err = o.workload.readEnd(d, s, object.GetDeletionTimestamp() != nil); o.err == nil {
		o.err = o.readPodSets(d, s)
	}
	return o
}

func (w *Workload) readEnd(d *Definition, s *scope, deleted bool) error {
	if deleted {
		w.End = BeingDeleted
		return nil
	}
	finished, err := d.finished.holds(s)
	if err != nil {
		return err
	}
	suspended, err := d.suspended.holds(s)
	if err != nil {
		return err
	}
	switch {
	case finished:
		w.End = HasFinished
	case w.Controller != "":
		w.End = Controlled
	case suspended:
		w.End = Suspended
	}
	return nil
}

func (o *Object) readPodSets(d *Definition, s *scope) error {
	o.workload.PerNode, o.workload.Divisible = d.PerNode, d.Divisible()
	for i := range d.PodSets {
		p := &d.PodSets[i]
		if err := p.each(s, func(s *scope) error { return o.readPodSet(d, p, s) }); err != nil {
			return err
		}
	}
	asks := make([]nodes.Pods, len(o.sets))
	for i := range o.sets {
		asks[i] = o.sets[i].asks
	}
	var err error
	o.workload.Nodes, err = nodes.Of(asks)
	return err
}

// Known returns what is known of the workload before it is counted: everything except its pods and their requests.
func (o *Object) Known() *Workload { return &o.workload }

// Pods returns the number of pods, without looking at what they request.
func (o *Object) Pods() (n int64, err error) {
	for i := range o.sets {
		n += o.sets[i].pods
	}
	return n, o.err
}

// Count adds up the pods, with the requests that LimitRanges add to containers that have none: see DefaultRequests. An
// error names the field; the workload then has only its reference, labels, annotations and, if it could be determined, its End.
func (o *Object) Count(defaults corev1.ResourceList) (*Workload, error) {
	w := o.workload
	if o.err != nil {
		return &w, o.err
	}
	counted, err := w.with(o.sets, defaults, func(p *podSet) int64 { return p.pods })
	if err == nil && slices.ContainsFunc(o.sets, func(p podSet) bool { return p.whole > p.pods }) {
		counted.Unended, err = w.with(o.sets, defaults, func(p *podSet) int64 { return max(p.whole, p.pods) })
	}
	if err != nil {
		return &w, err
	}
	return counted, nil
}

// with returns the workload with the given number of pods of each pod set.
func (w *Workload) with(sets []podSet, defaults corev1.ResourceList, pods func(*podSet) int64) (*Workload, error) {
	counted := *w
	var all Workload
	for i := range sets {
		if err := all.addPodSet(&sets[i], pods(&sets[i]), defaults); err != nil {
			return nil, err
		}
	}
	counted.Replicas, counted.Requests = all.Replicas, nonZero(all.Requests)
	if largest := nonZero(all.Pod); !counted.Replica().Equal(largest) {
		counted.Pod = largest
	}
	return &counted, nil
}

// Divisible reports whether an object of the kind consists of a number of equal pods.
func (d *Definition) Divisible() bool {
	return len(d.PodSets) == 1 && d.PodSets[0].Each == "" && d.PodSets[0].Count != "" && !d.PerNode
}

// each calls add once or, if the pod sets are in a list or map, for each of its elements.
func (p *PodSetDefinition) each(s *scope, add func(*scope) error) error {
	if p.Each == "" {
		return add(s)
	}
	elements, err := at("", s.object, p.Each)
	if err != nil {
		return err
	}
	switch elements := elements.(type) {
	case nil:
	case []any:
		for i, element := range elements {
			if err := add(&scope{object: s.object, each: element, at: fmt.Sprintf("%s[%d]", p.Each, i)}); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(elements)) {
			if err := add(&scope{object: s.object, each: elements[key], key: key, at: fmt.Sprintf("%s[%s]", p.Each, key)}); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%s: must be a list or an object", p.Each)
	}
	return nil
}

// readPodSet reads a pod set; a pod set without template and pods is skipped.
func (o *Object) readPodSet(d *Definition, p *PodSetDefinition, s *scope) error {
	n, err := p.count.count(s)
	if err != nil {
		return err
	}
	whole := n
	if p.count.readsStatus() {
		before := *s
		before.object = maps.Clone(s.object)
		delete(before.object, "status")
		if whole, err = p.count.count(&before); err != nil {
			return err
		}
	}
	path, template, err := p.template(s)
	if err != nil {
		return err
	}
	switch {
	case template == nil && max(n, whole) == 0:
		return nil
	case template == nil:
		return fmt.Errorf("%s: there is no pod template in this %s", path, d.Kind)
	}
	set := podSet{path: path, pods: n, whole: whole}
	if set.template, set.storage, err = readPod(path, template); err != nil {
		return err
	}
	if p.VolumeClaims != "" {
		base, content := s.base()
		claims, err := at(base, content, p.VolumeClaims)
		if err != nil {
			return err
		}
		storage, err := claimedStorage(child(base, p.VolumeClaims), claims)
		if err != nil {
			return err
		}
		set.storage = set.storage.Add(storage)
	}
	if set.asks, err = set.template.asks(path); err != nil {
		return err
	}
	o.sets = append(o.sets, set)
	return nil
}

// addPodSet adds a number of pods of a pod set to a workload that is the sum of the previous ones.
func (w *Workload) addPodSet(p *podSet, pods int64, defaults corev1.ResourceList) error {
	pod, err := p.template.requests(p.path, defaults)
	if err != nil {
		return err
	}
	requests, err := pod.Add(p.storage).Mul(pods)
	if err != nil {
		return fmt.Errorf("%s: requests of %d pods: %w", p.path, pods, err)
	}
	w.Replicas += pods
	w.Requests = w.Requests.Add(requests)
	if pods > 0 {
		w.Pod = w.Pod.Max(pod)
	}
	for name, amount := range w.Requests.Each {
		if amount > capacity.MaxAmount {
			return fmt.Errorf("%s: requests of all pods: %s: %s is too large", p.path, name, capacity.Format(name, amount, true))
		}
	}
	return nil
}

// at returns the value at a path below base; nil if there is nothing.
func at(base string, value any, path string) (any, error) {
	for _, name := range strings.Split(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: must be an object", base)
		}
		base = child(base, name)
		if value = object[name]; value == nil {
			return nil, nil
		}
	}
	return value, nil
}

// withoutNulls returns an object without members that are null, which means the same as leaving them out. Nothing is copied if
// there are none.
func withoutNulls(object map[string]any) map[string]any {
	result := object
	for name, member := range object {
		if name == "metadata" || !hasNull(member) {
			continue
		}
		if result = maps.Clone(result); member == nil {
			delete(result, name)
		} else {
			result[name] = copyWithoutNulls(member)
		}
	}
	return result
}

func hasNull(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case map[string]any:
		for _, member := range value {
			if hasNull(member) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, hasNull)
	}
	return false
}

func copyWithoutNulls(value any) any {
	switch value := value.(type) {
	case map[string]any:
		result := make(map[string]any, len(value))
		for name, member := range value {
			if member != nil {
				result[name] = copyWithoutNulls(member)
			}
		}
		return result
	case []any:
		result := make([]any, len(value))
		for i, element := range value {
			result[i] = copyWithoutNulls(element)
		}
		return result
	default:
		return value
	}
}

// nonZero returns the resources with an amount: a request of 0 is no request.
func nonZero(r capacity.Resources) capacity.Resources {
	r.Extended = maps.Clone(r.Extended)
	maps.DeleteFunc(r.Extended, func(_ string, amount int64) bool { return amount == 0 })
	if len(r.Extended) == 0 {
		r.Extended = nil
	}
	return r
}
