package apply

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Bounds of a status, in bytes: of the entries about manifests, of what is being removed, and of one message.
const (
	maxManifestBytes = 220 << 10
	maxRemovingBytes = 80 << 10
	maxMessage       = 1024
)

// workStatus is a status, with the number of its objects that are applied.
type workStatus struct {
	*v1alpha1.WorkStatus
	applied int
}

// statuses returns the statuses of all Works.
func (s *state) statuses() map[string]*workStatus {
	removing := s.removing()
	all := make(map[string]*workStatus, len(s.works))
	for name, w := range s.works {
		all[name] = s.statusOf(w, removing[name])
	}
	return all
}

// removing returns what is being removed, by the Work that had it, or the first Work if that is gone.
func (s *state) removing() map[string][]v1alpha1.ManifestReference {
	var first string
	if ordered := s.ordered(); len(ordered) > 0 {
		first = ordered[0].name
	}
	removing := map[string][]v1alpha1.ManifestReference{}
	add := func(work string, r v1alpha1.ManifestReference) {
		if s.works[work] == nil {
			work = first
		}
		removing[work] = append(removing[work], bounded(r))
	}
	for key, l := range s.live {
		d := s.wanted[key]
		if key.GroupKind == namespaceKind || d == nil && s.left(l) || d != nil && !d.other(l) {
			continue
		}
		add(l.work, v1alpha1.ManifestReference{APIVersion: l.apiVersion, Kind: l.Kind, Namespace: l.origin, Name: l.name, WorkloadUID: l.workloadUID})
	}
	for key, m := range s.memory {
		if key.GroupKind != namespaceKind && s.wanted[key] == nil && s.live[key] == nil && m.wanted != nil && (m.running || m.unsure) {
			add(m.wanted.work.name, m.wanted.reference)
		}
	}
	for _, all := range removing {
		slices.SortFunc(all, func(a, b v1alpha1.ManifestReference) int {
			// Workloads come first: the controller waits for them.
			return cmp.Or(-cmp.Compare(min(len(a.WorkloadUID), 1), min(len(b.WorkloadUID), 1)), cmp.Compare(a.Namespace, b.Namespace),
				cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Name, b.Name))
		})
	}
	return removing
}

// statusOf returns the status of a Work. It lists workloads, and other objects that have problems.
func (s *state) statusOf(w *work, removing []v1alpha1.ManifestReference) *workStatus {
	status := &workStatus{WorkStatus: &v1alpha1.WorkStatus{ObservedGeneration: w.generation}}
	var workloads, others []v1alpha1.ManifestStatus
	for _, d := range w.manifests {
		m := s.manifestStatus(d)
		if m.Revision == d.manifest.Revision && d.problem == "" {
			status.applied++
		}
		if m.Wrong {
			status.Failed++
		}
		switch {
		case m.WorkloadUID != "":
			workloads = append(workloads, m)
		case m.Wrong || m.Message != "":
			others = append(others, m)
		}
	}
	status.Applied = fmt.Sprintf("%d/%d", status.applied, len(w.manifests))
	var cut bool
	status.Manifests, _ = fitting(append(workloads, others...), maxManifestBytes)
	status.Removing, cut = fitting(removing, maxRemovingBytes)
	if cut && w.status.ObservedGeneration < w.generation {
		// Invariant: what has left spec up to the observed generation is gone, or listed in removing.
		status.ObservedGeneration = w.status.ObservedGeneration
	}
	return status
}

// fitting returns as many of the first elements as fit, and whether some do not.
func fitting[T any](all []T, room int) ([]T, bool) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // as servers keep it
	for i := range all {
		if err := encoder.Encode(&all[i]); err != nil || text.Len() > room || i >= v1alpha1.MaxManifestsPerWork {
			return all[:i], true
		}
	}
	return all, false
}

// manifestStatus returns the status of one object.
func (s *state) manifestStatus(d *wanted) (status v1alpha1.ManifestStatus) {
	status.ManifestReference, status.Since = bounded(d.reference), d.manifest.Since
	if d.problem != "" {
		status.Health, status.Message, status.Wrong = v1alpha1.HealthPending, message(d.problem), true
		return status
	}
	l, m := s.live[d.id], s.memory[d.id]
	if m == nil {
		m = &memory{}
	}
	if l != nil && !d.other(l) {
		status.Revision, status.Counts = shortened(l.revision, 128), l.counts
	}
	switch {
	case l != nil && l.deleting:
		status.Health, status.Message = v1alpha1.HealthTerminating, "it is being deleted, and made again once it is gone"
	case !current(d, l):
		status.Health = v1alpha1.HealthPending
		status.Message, status.Wrong = s.pending(d, m)
	case m.problem != "" && m.tried == d.manifest.Revision:
		status.Health, status.Message, status.Wrong = l.health, m.problem, true
	case m.corrections >= 3:
		status.Health, status.Wrong = l.health, true
		status.Message = "others in the cluster change it again and again; the agent changes it back"
	case l.health == v1alpha1.HealthCurrent:
		status.Health = l.health
	case d.manifest.WorkloadUID != "":
		status.Health = l.health
		status.Message = cmp.Or(l.complaint, s.pods.trouble(d.manifest.WorkloadUID, d.namespace), m.event)
		status.Wrong = status.Message != "" || l.health == v1alpha1.HealthFailed
		status.Message = cmp.Or(status.Message, l.message)
	default:
		if status.Health, status.Wrong = l.health, l.health == v1alpha1.HealthFailed; status.Wrong {
			status.Message = l.message
		}
	}
	status.Message = message(status.Message)
	return status
}

// pending returns why a revision is not applied.
func (s *state) pending(d *wanted, m *memory) (text string, wrong bool) {
	if m.problem != "" && m.tried == d.manifest.Revision {
		return m.problem, true
	}
	if n := s.memory[id{namespaceKind, "", d.namespace}]; n != nil && n.problem != "" {
		return n.problem, true
	}
	if !d.kind.synced && d.kind.err != nil {
		return fmt.Sprintf("the agent cannot list %s in the cluster: %v", d.kind.resource.Resource, d.kind.err), true
	}
	for wave := range chunks(s.namespaces[d.namespace], func(d *wanted) int32 { return d.manifest.Wave }) {
		if wave[0].manifest.Wave >= d.manifest.Wave {
			break
		}
		if waits, ready := s.waitsFor(wave); !ready {
			return fmt.Sprintf("it waits for wave %d: %s %s is not ready", wave[0].manifest.Wave, waits.Kind, waits.name), false
		}
	}
	return "", false
}

// bounded cuts what the schema would reject.
func bounded(r v1alpha1.ManifestReference) v1alpha1.ManifestReference {
	r.APIVersion, r.Kind, r.Namespace, r.Name = shortened(r.APIVersion, 317), shortened(r.Kind, 63), shortened(r.Namespace, 63), shortened(r.Name, 253)
	r.WorkloadUID = types.UID(shortened(string(r.WorkloadUID), 128))
	return r
}

// message puts a text on one line. A long one is cut in the middle: servers quote whole objects first, and state the problem after that.
func message(text string) string {
	text = printable(strings.Join(strings.Fields(text), " "))
	if len(text) <= maxMessage {
		return text
	}
	end := text[len(text)-maxMessage/2:]
	for !utf8.RuneStart(end[0]) {
		end = end[1:]
	}
	return shortened(text, maxMessage-len(end)-5) + " ... " + end
}

// printable replaces unprintable characters, each of which takes six characters in JSON.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// shortened cuts a text to a number of bytes.
func shortened(text string, most int) string {
	if text = printable(text); len(text) > most {
		for most > 0 && !utf8.RuneStart(text[most]) {
			most--
		}
		text = text[:most]
	}
	return text
}
