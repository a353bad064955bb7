package filter

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/internal/remedy"
)

// Policy rejects clusters that do not match a required term of the policies.
const Policy Stage = "Policy"

type terms struct{}

func (terms) violations(q *query, report func(Violation) bool) bool {
	for i := range q.Judgement.Terms {
		term := &q.Judgement.Terms[i]
		if term.Required && !term.Match.Matches(q.row) && !report(Violation{index: i, Evicts: q.running && term.RequiredDuringExecution}) {
			return false
		}
	}
	return true
}

func (terms) message(q *query, v Violation) string {
	if reason := q.Judgement.Terms[v.index].Reason; reason != "" {
		return "excluded by a required term: " + reason
	}
	return "excluded by a required term"
}

func (terms) obstacles(q *query, v Violation) []Obstacle {
	m := &q.Judgement.Terms[v.index].Match
	var lacking []remedy.Change
	if len(m.ClusterNames) > 0 && !slices.Contains(m.ClusterNames, q.row.Name) {
		lacking = append(lacking, remedy.Elsewhere("another policy: only "+strings.Join(m.ClusterNames, ", ")+" will do"))
	}
	if m.Location != "" && m.Location != q.row.Location {
		lacking = append(lacking, remedy.Location("location="+m.Location, m.Location))
	}
	if m.Labels != nil {
		lacking = append(lacking, unmet(m.Labels, labels.Set(q.row.Labels), toLabel)...)
	}
	if c, _ := q.row.Capability(m.Capability); m.Capability != "" && !c.Available {
		lacking = append(lacking, remedy.Capability(m.Capability))
	}
	return needs(lacking...)
}
