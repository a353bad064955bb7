package scoring

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// neutral is the affinity and location factor of a cluster that no term changes.
const neutral = 50

// Term changes the affinity or location factor of the clusters that match, and of those that do not.
type Term struct {
	Match Match
	// Factor is Affinity or Location.
	Factor Factor
	// OnMatch is added to the factor of a cluster that matches, Otherwise to that of one that does not.
	OnMatch, Otherwise int64
	// Score is the named score by which OnMatch is scaled: full at 100, negated at -100, zero if a cluster has no valid
	// score. If empty, OnMatch is added in full.
	Score string
	// Required excludes clusters that do not match.
	Required bool
	// RequiredDuringExecution makes workloads leave clusters that do not match, even if there is no other place. It
	// implies Required.
	RequiredDuringExecution bool
	// Reason is the policy's own words for the term.
	Reason string
}

// Match selects clusters: those for which every part that is set holds.
type Match struct {
	ClusterNames []string
	Location     string
	// Labels selects by the cluster's labels; nil selects all.
	Labels labels.Selector
	// Capability that must be available.
	Capability string
	// PreferNoSchedule selects clusters with a taint of that effect that none of Tolerations tolerates.
	PreferNoSchedule bool
	Tolerations      []corev1.Toleration
}

// Delta returns what the term adds to its factor for a cluster.
func (t *Term) Delta(row *snapshot.Row) int64 { return t.delta(row, t.Match.Matches(row)) }

func (t *Term) delta(row *snapshot.Row, matches bool) int64 {
	switch {
	case !matches:
		return t.Otherwise
	case t.Score != "":
		return t.OnMatch * row.ScoreValue(t.Score) / 100
	default:
		return t.OnMatch
	}
}

// OnlyNames reports whether the match selects clusters only by name.
func (m *Match) OnlyNames() bool {
	return len(m.ClusterNames) > 0 && m.Location == "" && m.Labels == nil && m.Capability == "" && !m.PreferNoSchedule
}

// Matches reports whether a cluster is selected.
func (m *Match) Matches(row *snapshot.Row) bool {
	if m.Capability != "" {
		if capability, _ := row.Capability(m.Capability); !capability.Available {
			return false
		}
	}
	if m.PreferNoSchedule && m.untolerated(row) == nil {
		return false
	}
	return (len(m.ClusterNames) == 0 || slices.Contains(m.ClusterNames, row.Name)) &&
		(m.Location == "" || m.Location == row.Location) &&
		(m.Labels == nil || m.Labels.Matches(labels.Set(row.Labels)))
}

// scoreTerms returns neutral plus what the terms of a factor add for a cluster, clamped to 0..100.
func scoreTerms(f Factor, row *snapshot.Row, terms []Term) int64 {
	score := int64(neutral)
	for i := range terms {
		if terms[i].Factor == f {
			score += terms[i].Delta(row)
		}
	}
	return clamp(score)
}

func clamp(score int64) int64 { return min(max(score, 0), 100) }

// describeTerms lists what the terms of a factor add for a cluster.
func describeTerms(f Factor, row *snapshot.Row, terms []Term) string {
	parts := []string{fmt.Sprint(neutral)}
	for i := range terms {
		term := &terms[i]
		matches := term.Match.Matches(row)
		delta, scored := term.delta(row, matches), matches && term.Score != ""
		if term.Factor != f || delta == 0 && !scored {
			continue
		}
		how := "no match"
		if scored {
			how = describeScore(term.Score, row)
		} else if matches {
			how = "match"
		}
		if term.Match.PreferNoSchedule {
			how = fmt.Sprintf("taint %s is not tolerated", term.Match.untolerated(row).ToString())
		} else if term.Reason != "" {
			how += ": " + term.Reason
		}
		parts = append(parts, fmt.Sprintf("%+d (%s)", delta, how))
	}
	if len(parts) == 1 {
		return parts[0] + ", no term"
	}
	return strings.Join(parts, " ")
}
