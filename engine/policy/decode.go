package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apifield "k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/internal/spelling"
)

var factorNames = scoring.FactorNames()

func decodeWeights(t *ast.Term) (weights scoring.Weights, err error) {
	object, ok := t.Value.(ast.Object)
	if !ok {
		return weights, fmt.Errorf("must be an object from factor to weight, is %s", short(t))
	}
	var total int64
	err = object.Iter(func(key, value *ast.Term) error {
		name, _ := key.Value.(ast.String)
		factor := slices.Index(factorNames[:], string(name))
		score, isScore := strings.CutPrefix(string(name), scoring.ScorePrefix)
		if factor < 0 && (!isScore || score == "") {
			return unknownFactor(string(name), key)
		}
		number, _ := value.Value.(ast.Number)
		weight, ok := number.Int64()
		if !ok || weight < 0 || weight > MaxWeight {
			return fmt.Errorf("gives %s the weight %s: it must be a whole number from 0 to %d", name, short(value), MaxWeight)
		}
		if total += weight; factor >= 0 {
			weights.Factors[factor] = weight
		} else if weight > 0 {
			weights.Scores = append(weights.Scores, scoring.ScoreWeight{Name: score, Weight: weight})
		}
		if len(weights.Scores) > scoring.MaxScores {
			return fmt.Errorf("gives more than %d scores a weight", scoring.MaxScores)
		}
		return nil
	})
	if err == nil && total == 0 {
		err = errors.New("gives no factor any weight: at least one must weigh more than 0")
	}
	return weights, err
}

// unknownFactor returns an error for an unknown factor, which names the one likely meant, or all of them.
func unknownFactor(name string, key *ast.Term) error {
	names := factorNames[:]
	if _, score, _ := strings.Cut(name, "/"); score != "" {
		names = append(slices.Clip(names), scoring.ScorePrefix+score)
	}
	if near := spelling.DidYouMean(name, names); near != "" {
		return fmt.Errorf("has an unknown factor %s%s", short(key), near)
	}
	return fmt.Errorf("has an unknown factor %s: the factors are %s, and %s<name> for a score of ClusterScores", short(key), strings.Join(factorNames[:], ", "), scoring.ScorePrefix)
}

// addTerms adds a set of terms; none if t is nil because the document is undefined.
func (j *Judgement) addTerms(t *ast.Term) error {
	if t == nil {
		return nil
	}
	set, ok := t.Value.(ast.Set)
	if !ok {
		return fmt.Errorf("must be a set of terms, is %s", short(t))
	}
	if set.Len() > MaxTerms {
		return fmt.Errorf("has %d terms, more than %d", set.Len(), MaxTerms)
	}
	for _, element := range set.Slice() {
		decoded, err := decodeTerm(element)
		if err != nil {
			return &termError{element, err}
		}
		j.Terms, j.locations = append(j.Terms, decoded), append(j.locations, element.Location)
	}
	return nil
}

// termError is a term that cannot be used.
type termError struct {
	term *ast.Term
	err  error
}

func (e *termError) Error() string {
	return fmt.Sprintf("has a term that cannot be used, %s: %v", short(e.term), e.err)
}

func decodeTerm(t *ast.Term) (decoded scoring.Term, err error) {
	var raw policyTerm
	if err := raw.decode(t.Value); err != nil {
		return decoded, err
	}
	switch raw.factor {
	case scoring.Affinity.String():
		decoded.Factor = scoring.Affinity
	case scoring.Location.String():
		decoded.Factor = scoring.Location
	default:
		return decoded, fmt.Errorf("factor is %q, it must be affinity or location", raw.factor)
	}
	if most := max(raw.onMatch, -raw.onMatch, raw.otherwise, -raw.otherwise); most > MaxDelta {
		return decoded, fmt.Errorf("onMatch is %d and otherwise %d, both must be from -%d to %d", raw.onMatch, raw.otherwise, MaxDelta, MaxDelta)
	}
	if len(raw.reason) > MaxReason {
		return decoded, fmt.Errorf("reason has %d bytes, more than %d", len(raw.reason), MaxReason)
	}
	m := raw.match
	if len(m.clusterNames) == 0 && m.location == "" && m.labelSelector == nil && m.capability == "" {
		switch {
		case raw.score == "":
			return decoded, errors.New("match says nothing: it needs clusterNames, location, labelSelector or capability, or the term a score")
		case raw.otherwise != 0 || raw.required || raw.enforced:
			return decoded, errors.New("match says nothing, so that every cluster matches: otherwise and required need one")
		}
	}
	decoded.Match = scoring.Match{ClusterNames: m.clusterNames, Location: m.location, Capability: m.capability}
	if m.labelSelector != nil {
		var wrong *apifield.Error
		if decoded.Match.Labels, wrong = placement.CompileLabels(apifield.NewPath("match", "labelSelector"), m.labelSelector); wrong != nil {
			return decoded, fmt.Errorf("%s: %s", wrong.Field, wrong.Detail)
		}
	}
	decoded.OnMatch, decoded.Otherwise, decoded.Score, decoded.Reason = raw.onMatch, raw.otherwise, raw.score, raw.reason
	decoded.Required, decoded.RequiredDuringExecution = raw.required || raw.enforced, raw.enforced
	return decoded, nil
}

// policyTerm is a term as policies write it.
type policyTerm struct {
	match              match
	factor, score      string
	onMatch, otherwise int64
	required, enforced bool
	reason             string
}

type match struct {
	clusterNames         []string
	location, capability string
	labelSelector        *metav1.LabelSelector
}

func (t *policyTerm) decode(v ast.Value) error {
	return decodeObject(v, func(name string, v ast.Value) error {
		switch name {
		case "match":
			return t.match.decode(v)
		case "factor":
			return decodeText(v, &t.factor)
		case "score":
			return decodeText(v, &t.score)
		case "onMatch":
			return decodeInteger(v, &t.onMatch)
		case "otherwise":
			return decodeInteger(v, &t.otherwise)
		case "required":
			return decodeFlag(v, &t.required)
		case "requiredDuringExecution":
			return decodeFlag(v, &t.enforced)
		case "reason":
			return decodeText(v, &t.reason)
		}
		return unknownField(name, "a term", "match", "factor", "score", "onMatch", "otherwise", "required", "requiredDuringExecution", "reason")
	})
}

func (m *match) decode(v ast.Value) error {
	return decodeObject(v, func(name string, v ast.Value) error {
		switch name {
		case "clusterNames":
			return decodeTexts(v, &m.clusterNames)
		case "location":
			return decodeText(v, &m.location)
		case "capability":
			return decodeText(v, &m.capability)
		case "labelSelector":
			if _, isNull := v.(ast.Null); isNull {
				return nil
			}
			m.labelSelector = &metav1.LabelSelector{}
			return decodeSelector(v, m.labelSelector)
		}
		return unknownField(name, "match", "clusterNames", "location", "labelSelector", "capability")
	})
}

func decodeSelector(v ast.Value, s *metav1.LabelSelector) error {
	return decodeObject(v, func(name string, v ast.Value) error {
		switch name {
		case "matchLabels":
			return decodeObject(v, func(key string, v ast.Value) error {
				var value string
				if err := decodeText(v, &value); err != nil {
					return err
				}
				if s.MatchLabels == nil {
					s.MatchLabels = map[string]string{}
				}
				s.MatchLabels[key] = value
				return nil
			})
		case "matchExpressions":
			return decodeList(v, func(v ast.Value) error {
				var r metav1.LabelSelectorRequirement
				if err := decodeRequirement(v, &r); err != nil {
					return err
				}
				s.MatchExpressions = append(s.MatchExpressions, r)
				return nil
			})
		}
		return unknownField(name, "a labelSelector", "matchLabels", "matchExpressions")
	})
}

func decodeRequirement(v ast.Value, r *metav1.LabelSelectorRequirement) error {
	return decodeObject(v, func(name string, v ast.Value) error {
		switch name {
		case "key":
			return decodeText(v, &r.Key)
		case "operator":
			return decodeText(v, (*string)(&r.Operator))
		case "values":
			return decodeTexts(v, &r.Values)
		}
		return unknownField(name, "an expression", "key", "operator", "values")
	})
}

func unknownField(name, of string, fields ...string) error {
	if near := spelling.DidYouMean(name, fields); near != "" {
		return fmt.Errorf("unknown field %q%s", name, near)
	}
	last := len(fields) - 1
	return fmt.Errorf("unknown field %q: %s has %s and %s", name, of, strings.Join(fields[:last], ", "), fields[last])
}

// mismatch is a field with a value of the wrong type.
type mismatch struct{ field, value string }

func (m *mismatch) Error() string { return cmp.Or(m.field, "a term") + " cannot be a " + m.value }

// inField prefixes an error with the name of a field.
func inField(field string, err error) error {
	if err == nil {
		return nil
	}
	if wrong := (*mismatch)(nil); errors.As(err, &wrong) {
		wrong.field = strings.TrimSuffix(field+"."+wrong.field, ".")
	}
	return err
}

// mismatched names the JSON type of a value.
func mismatched(v ast.Value) error {
	switch v.(type) {
	case ast.Boolean:
		return &mismatch{value: "bool"}
	case *ast.Array, ast.Set:
		return &mismatch{value: "array"}
	default:
		return &mismatch{value: ast.ValueName(v)}
	}
}

// decodeObject visits the fields of an object in the order of their names. null counts as absent here and below.
func decodeObject(v ast.Value, decode func(name string, v ast.Value) error) error {
	switch v := v.(type) {
	case ast.Null:
		return nil
	case ast.Object:
		return v.Iter(func(key, value *ast.Term) error {
			name, ok := key.Value.(ast.String)
			if !ok {
				name = ast.String(key.String())
			}
			return inField(string(name), decode(string(name), value.Value))
		})
	}
	return mismatched(v)
}

// decodeList visits the elements of an array or a set.
func decodeList(v ast.Value, decode func(v ast.Value) error) error {
	each := func(t *ast.Term) error { return decode(t.Value) }
	switch v := v.(type) {
	case ast.Null:
		return nil
	case *ast.Array:
		return v.Iter(each)
	case ast.Set:
		return v.Iter(each)
	}
	return mismatched(v)
}

func decodeTexts(v ast.Value, into *[]string) error {
	return decodeList(v, func(v ast.Value) error {
		var text string
		err := decodeText(v, &text)
		*into = append(*into, text)
		return err
	})
}

func decodeText(v ast.Value, into *string) error {
	switch v := v.(type) {
	case ast.Null:
		return nil
	case ast.String:
		*into = string(v)
		return nil
	}
	return mismatched(v)
}

func decodeInteger(v ast.Value, into *int64) error {
	switch v := v.(type) {
	case ast.Null:
		return nil
	case ast.Number:
		n, ok := v.Int64()
		if !ok {
			return &mismatch{value: "number " + string(v)}
		}
		*into = n
		return nil
	}
	return mismatched(v)
}

func decodeFlag(v ast.Value, into *bool) error {
	switch v := v.(type) {
	case ast.Null:
		return nil
	case ast.Boolean:
		*into = bool(v)
		return nil
	}
	return mismatched(v)
}
