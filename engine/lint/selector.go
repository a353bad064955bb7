package lint

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/internal/spelling"
)

// requirement is one requirement of a label selector, with its path.
type requirement struct {
	path     *field.Path
	key      string
	operator metav1.LabelSelectorOperator
	values   []string
}

// valueAt returns the path of a value of the requirement.
func (d requirement) valueAt(i int) *field.Path {
	if strings.HasSuffix(d.path.String(), "["+d.key+"]") {
		return d.path
	}
	return d.path.Child("values").Index(i)
}

// excludes reports whether an object without the key meets the requirement.
func (d requirement) excludes() bool {
	return d.operator == metav1.LabelSelectorOpNotIn || d.operator == metav1.LabelSelectorOpDoesNotExist
}

// requirements returns the requirements of a selector: matchLabels by key, then matchExpressions.
func requirements(path *field.Path, s *metav1.LabelSelector) (all []requirement) {
	if s == nil {
		return nil
	}
	for _, key := range sets.List(sets.KeySet(s.MatchLabels)) {
		all = append(all, requirement{path.Child("matchLabels").Key(key), key, metav1.LabelSelectorOpIn, []string{s.MatchLabels[key]}})
	}
	for i, e := range s.MatchExpressions {
		all = append(all, requirement{path.Child("matchExpressions").Index(i), e.Key, e.Operator, e.Values})
	}
	return all
}

// contradictions reports each requirement of a selector that no label can meet together with an earlier one.
func contradictions(all []requirement, report *report) {
	type state struct {
		// in are the remaining values, nil for all; not are the excluded ones.
		in, not        sets.Set[string]
		absent, exists bool
		last           requirement
	}
	states := map[string]*state{}
	for _, d := range all {
		s := states[d.key]
		if s == nil {
			s = &state{not: sets.New[string]()}
			states[d.key] = s
		}
		switch d.operator {
		case metav1.LabelSelectorOpIn:
			if values := sets.New(d.values...); s.in == nil {
				s.in = values
			} else {
				s.in = s.in.Intersection(values)
			}
		case metav1.LabelSelectorOpNotIn:
			s.not.Insert(d.values...)
		case metav1.LabelSelectorOpExists:
			s.exists = true
		case metav1.LabelSelectorOpDoesNotExist:
			s.absent = true
		}
		none := s.in != nil && s.in.Difference(s.not).Len() == 0
		if none || s.absent && (s.exists || s.in != nil) {
			if s.last.path == nil {
				report.at(d.path, "matches nothing: %s contradict themselves", d.operator)
			} else {
				report.at(d.path, "matches nothing, since %s asks for the contrary: remove one of them", s.last.path)
			}
			delete(states, d.key)
			continue
		}
		s.last = d
	}
}

// unknown reports keys and values that no object of a fleet has, given the values of each key. If a demand excludes them, or lists them
// besides existing ones, only likely misspellings are reported: naming something that does not exist yet is prudent.
func unknown(all []requirement, what string, keys []string, values map[string][]string, report *report) {
	for _, d := range all {
		if known := values[d.key]; len(known) == 0 {
			if !d.excludes() || spelling.Typo(d.key, keys) != "" {
				report.at(d.path, "no cluster of the fleet has %s %s%s", what, d.key, spelling.DidYouMean(d.key, keys))
			}
			continue
		}
		alternative := slices.ContainsFunc(d.values, func(value string) bool { return slices.Contains(values[d.key], value) })
		for i, value := range d.values {
			if !slices.Contains(values[d.key], value) && (!d.excludes() && !alternative || spelling.Typo(value, values[d.key]) != "") {
				report.at(d.valueAt(i), "no cluster of the fleet has %s %s=%s%s", what, d.key, value, spelling.DidYouMean(value, values[d.key]))
			}
		}
	}
}
