package filter

import (
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/internal/remedy"
)

// Location rejects clusters that the placement's locationSelector does not select.
const Location Stage = "Location"

type location struct{}

func (location) violations(q *query, report func(Violation) bool) bool {
	return q.Placement.Locations.Matches(locationOf(q)) || report(Violation{})
}

func (location) message(q *query, _ Violation) string {
	return fmt.Sprintf("location %q is not selected by locationSelector %q", q.row.Location, q.Placement.Locations)
}

func (location) obstacles(q *query, _ Violation) []Obstacle {
	return needs(unmet(q.Placement.Locations, locationOf(q), toLocation)...)
}

// toLocation makes a change of "location".
func toLocation(text, _, value string, _ bool) remedy.Change { return remedy.Location(text, value) }

func locationOf(q *query) labels.Set { return labels.Set{"location": q.row.Location} }
