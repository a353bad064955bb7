package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// row is a workload in the list of its workspace, without its Requests, and the text that a search looks through.
type row struct {
	Workload
	of   *simulation.WorkloadStatus
	text string
}

// list returns where all workloads of a workspace stand, in the order in which they are placed.
func (v *view) list(w *manifest.Workspace) []row {
	name := w.Name.String()
	queue := map[simulation.Workload]*simulation.Waiting{}
	for i := range v.top.Queue {
		if q := &v.top.Queue[i]; q.Workspace == name {
			queue[q.Workload] = q
		}
	}
	stored := storedIn(w)
	all := []row{}
	for i := range v.statuses {
		if s := &v.statuses[i]; s.Workspace == name {
			o := newWorkload(s, stored[s.Name()], queue[s.Name()])
			o.Suspended = v.suspended(name, s.GetNamespace(), s.Placement)
			all = append(all, row{o, s, o.text()})
		}
	}
	return all
}

// storedIn returns what is stored on each workload.
func storedIn(w *manifest.Workspace) map[simulation.Workload]*v1alpha1.WorkloadDecision {
	stored := map[simulation.Workload]*v1alpha1.WorkloadDecision{}
	for _, slice := range w.Decisions {
		for i := range slice.Typed.Decisions {
			d := &slice.Typed.Decisions[i]
			stored[simulation.Workload{APIVersion: d.Workload.APIVersion, Kind: d.Workload.Kind, Namespace: slice.Typed.Namespace, Name: d.Workload.Name}] = d
		}
	}
	return stored
}

func newWorkload(s *simulation.WorkloadStatus, stored *v1alpha1.WorkloadDecision, waiting *simulation.Waiting) Workload {
	o := Workload{
		Workload: s.Name(), Placement: s.Placement, Priority: s.Priority, Clusters: s.Clusters, Asked: s.Asked, Group: s.Group,
		WaitingReplicas: s.WaitingReplicas,
	}
	if o.Clusters == nil {
		o.Clusters = []engine.Choice{}
	}
	if s.Workload.Err == nil {
		o.Replicas = s.Replicas
	}
	if at := s.GetCreationTimestamp(); !at.IsZero() {
		o.CreatedAt = &at.Time
	}
	if !s.Since.IsZero() && len(s.Clusters) > 0 {
		o.DecidedAt = &s.Since
	}
	if stored != nil {
		for _, l := range stored.Leaving {
			o.Leaving = append(o.Leaving, l.Name)
		}
		for _, c := range stored.Clusters {
			if c.Delivery != nil {
				o.Delivery = append(o.Delivery, Delivery{Cluster: c.Name, State: string(c.Delivery.Health), Replicas: c.Replicas, Message: c.Delivery.Message})
			}
		}
	}
	if waiting != nil {
		o.Queued, o.Error = newQueued(waiting), waiting.Error
	}
	if s.Err != nil {
		o.Error = s.Err.Error()
	}
	o.State = stateOf(s, &o)
	return o
}

func newQueued(w *simulation.Waiting) *Queued {
	return &Queued{
		Position: w.Position, Since: w.Since, WaitsFor: w.WaitsFor, Nearest: w.Nearest, Obstacles: w.Obstacles, BlockedBy: w.BlockedBy,
		NominatedClusters: w.NominatedClusters, Estimate: w.Estimate, WouldFit: w.WouldFit,
	}
}

func stateOf(s *simulation.WorkloadStatus, o *Workload) State {
	switch {
	case o.Error != "" && o.Placement != "":
		return Failed
	case o.Placement == "":
		return Unselected
	case len(o.Clusters) == 0 && s.End() != "":
		return Ended
	case len(o.Clusters) == 0:
		return Waiting
	case len(o.Leaving) > 0:
		return Moving
	case len(o.Clusters) < o.Asked || o.WaitingReplicas > 0:
		return Partial
	}
	return Running
}

// selected returns the workloads that a query selects, and a page of them.
func selected(all []row, query url.Values) (*Workloads, error) {
	answer := &Workloads{States: map[State]int{}, Workloads: []Workload{}}
	words := strings.Fields(strings.ToLower(query.Get("q")))
	namespaces, placements := sets.New[string](), sets.New[string]()
	var found []*row
	for i := range all {
		o := &all[i]
		namespaces.Insert(o.Workload.Workload.Namespace)
		if o.Placement != "" {
			placements.Insert(o.Placement)
		}
		is := func(key, value string) bool { return query.Get(key) == "" || query.Get(key) == value }
		if !is("namespace", o.Workload.Workload.Namespace) || !is("placement", o.Placement) || !o.mentions(words) || !o.isOn(query.Get("cluster")) || !o.waitsOn(query.Get("nearest")) {
			continue
		}
		answer.States[o.State]++
		if is("state", string(o.State)) {
			found = append(found, o)
		}
	}
	answer.Namespaces, answer.Placements = sets.List(namespaces), sets.List(placements)
	answer.Total = len(found)
	from, to, err := page(query, len(found))
	if err != nil {
		return nil, err
	}
	for _, o := range found[from:to] {
		answer.Workloads = append(answer.Workloads, o.Workload)
		answer.Workloads[len(answer.Workloads)-1].Requests = o.requests()
	}
	if to < len(found) {
		answer.Continue = strconv.Itoa(to)
	}
	return answer, nil
}

func (r *row) requests() map[string]int64 {
	if r.of.Workload.Err != nil {
		return nil
	}
	requests := map[string]int64{}
	for resource, amount := range r.of.Requests.Each {
		requests[resource] = amount
	}
	return requests
}

func (r *row) mentions(words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(r.text, word) })
}

// text is all that a search finds a workload by, in lower case.
func (o *Workload) text() string {
	texts := []string{o.Workload.Kind, o.Workload.Namespace + "/" + o.Workload.Name, o.Placement, o.Error}
	for _, c := range o.Clusters {
		texts = append(texts, c.Name)
	}
	if o.Queued != nil {
		texts = append(texts, o.WaitsFor)
	}
	return strings.ToLower(strings.Join(texts, " "))
}

func (o *Workload) isOn(cluster string) bool {
	return cluster == "" || slices.ContainsFunc(o.Clusters, func(c engine.Choice) bool { return c.Name == cluster }) || slices.Contains(o.Leaving, cluster)
}

// waitsOn reports whether a workload waits that a cluster is the nearest for, or nominated.
func (o *Workload) waitsOn(cluster string) bool {
	return cluster == "" || o.Queued != nil && (o.Nearest == cluster || slices.Contains(o.NominatedClusters, cluster))
}

// page returns which of n items a query is for.
func page(query url.Values, n int) (from, to int, err error) {
	number := func(key string, value *int) error {
		text := query.Get(key)
		if text == "" {
			return nil
		}
		parsed, err := strconv.Atoi(text)
		if err != nil || parsed < 0 {
			return &failure{http.StatusBadRequest, fmt.Sprintf("%s=%s: it must be a number that is not negative", key, text)}
		}
		*value = parsed
		return nil
	}
	limit := n
	if err := cmp.Or(number("continue", &from), number("limit", &limit)); err != nil {
		return 0, 0, err
	}
	from = min(from, n)
	if limit == 0 {
		limit = n
	}
	return from, from + min(limit, n-from), nil
}
