package filter

import "github.com/kcp-placement/placement/engine/internal/remedy"

// Registration rejects clusters whose registration cannot be used. This does not move what runs there, which may well be fine.
const Registration Stage = "Registration"

type registration struct{}

func (registration) violations(q *query, report func(Violation) bool) bool {
	return q.row.Invalid == "" || q.running || report(Violation{})
}

func (registration) message(q *query, _ Violation) string {
	return "the registration is not usable: " + q.row.Invalid
}

func (registration) obstacles(*query, Violation) []Obstacle {
	return needs(remedy.Words("a registration without this error"))
}
