package scoring

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Explanation tells how one factor of a cluster's score came about.
type Explanation struct {
	Factor Factor
	// Score of the factor, 0..100, and the Weight that it is multiplied with.
	Score, Weight int64
	// Because is the formula or the terms behind Score, in words.
	Because string
}

// Explain tells how each factor that Of gives came about, in the order of the factors.
func Explain(row *snapshot.Row, requests capacity.Resources, weights Weights, terms []Term) []Explanation {
	score := Of(row, requests, weights, terms)
	because := [NumFactors]string{
		Capacity: fmt.Sprintf("mean of cpu %s and memory %s",
			covered(capacity.CPU, row.Free.CPU, requests.CPU), covered(capacity.Memory, row.Free.Memory, requests.Memory)),
		Health: "no Ready condition",
		Performance: fmt.Sprintf("mean of cpu %d%% and memory %d%% in use",
			row.Utilization.CPU, row.Utilization.Memory),
		Affinity: moved(Affinity, row, terms),
		Location: moved(Location, row, terms),
	}
	if ready, known := row.Condition(snapshot.ReadyCondition); known {
		because[Health] = "Ready is " + ready.Status
	}
	explanations := make([]Explanation, NumFactors)
	for f := range explanations {
		explanations[f] = Explanation{Factor: Factor(f), Score: score.Factors[f], Weight: weights[f], Because: because[f]}
	}
	return explanations
}

func covered(name string, free, required int64) string {
	if required <= 0 {
		return "100 (not asked for)"
	}
	return fmt.Sprintf("%d (%s free for %s)", coverage(free, required), capacity.Rounded(name, free, false), capacity.Format(name, required))
}

// moved adds up what the terms do to a factor.
func moved(factor Factor, row *snapshot.Row, terms []Term) string {
	parts := []string{fmt.Sprint(neutral)}
	for i := range terms {
		term := &terms[i]
		delta := term.Delta(row)
		if term.Factor != factor || delta == 0 {
			continue
		}
		how := "no match"
		if term.Match.Matches(row) {
			how = "match"
		}
		if term.Reason != "" {
			how += ": " + term.Reason
		}
		parts = append(parts, fmt.Sprintf("%+d (%s)", delta, how))
	}
	if len(parts) == 1 {
		return parts[0] + ", no term"
	}
	return strings.Join(parts, " ")
}
