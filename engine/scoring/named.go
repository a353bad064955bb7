package scoring

import (
	"fmt"
	"time"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// ScorePrefix begins the name of a factor that is a named score of clusters: score/<name>.
const ScorePrefix = "score/"

// MaxScores is how many named scores can be factors at once: their sum has to fit into a packed FactScore.
const MaxScores = 16

// ScoreWeight makes a named score a factor of its own.
type ScoreWeight struct {
	Name   string
	Weight int64
}

// String returns the factor's name in policies.
func (w ScoreWeight) String() string { return ScorePrefix + w.Name }

// score maps the named score of a cluster from -100..100 to 0..100; neutral if it has no valid one.
func (w ScoreWeight) score(row *snapshot.Row) int64 {
	return neutral + row.ScoreValue(w.Name)/2
}

// describeScore describes the named score of a cluster, and its origin.
func describeScore(name string, row *snapshot.Row) string {
	switch s, given := row.Score(name); {
	case !given:
		return "no score " + name
	case !s.Expired.IsZero():
		return fmt.Sprintf("score %s of ClusterScore %s ran out at %s", name, s.From, s.Expired.UTC().Format(time.RFC3339))
	default:
		return fmt.Sprintf("score %s is %d, of ClusterScore %s", name, s.Value, s.From)
	}
}
