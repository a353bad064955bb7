package simulation

import (
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/scoring"
)

// Explanation is a decision with a verdict on every cluster. Its JSON is a contract like that of Result.
type Explanation struct {
	Decision
	// Summary is one line with the number of feasible clusters, and of rejected ones by stage.
	Summary string `json:"summary"`
	// Verdicts in the order of the ranking, best first; rejected clusters follow by name.
	Verdicts []Verdict `json:"verdicts"`
}

// Verdict is the verdict on one cluster: a score or obstacles.
type Verdict struct {
	Cluster  string `json:"cluster"`
	Feasible bool   `json:"feasible"`
	Chosen   bool   `json:"chosen"`
	// Replicas are those of a chosen cluster, if they are divided.
	Replicas int64 `json:"replicas,omitempty"`
	// Note is why a feasible cluster is passed over for others that rank no better.
	Note string `json:"note,omitempty"`
	// Points is what affinity to other workloads adds to the score, if any of its terms have weights.
	Points int64 `json:"points,omitempty"`
	// Score and Factors are those of a feasible cluster.
	Score   int64    `json:"score"`
	Reason  string   `json:"reason"`
	Factors []Factor `json:"factors"`
	// Obstacles are all reasons why the cluster is not feasible, in the order of the stages.
	Obstacles []Obstacle `json:"obstacles"`
}

// Factor is one factor of a score: the total is the sum of score times weight over the sum of weights.
type Factor struct {
	Name   string `json:"name"`
	Score  int64  `json:"score"`
	Weight int64  `json:"weight"`
	// Because is the formula or the terms behind the score.
	Because string `json:"because"`
}

// Obstacle is one reason why a cluster is not feasible.
type Obstacle struct {
	Stage      string `json:"stage"`
	Constraint string `json:"constraint"`
	// Expression is the part of the constraint that fails, Span its location in the text of the constraint, and Observed the values
	// that it reads.
	Expression string     `json:"expression"`
	Span       *Span      `json:"span,omitempty"`
	Observed   []Observed `json:"observed"`
	Message    string     `json:"message"`
	// Needs is the smallest change that would remove the obstacle.
	Needs string `json:"needs"`
}

// Span of a text, in characters (Unicode code points, not bytes) from 0.
type Span struct {
	Start int `json:"start"`
	// End is the position after the last character.
	End int `json:"end"`
}

// Observed is a value that a constraint reads.
type Observed struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

// Explain returns the explanation of a decision. It has no verdicts if the engine was not asked; Error has the reason.
func Explain(d *Decision) *Explanation {
	e := &Explanation{Decision: *d, Verdicts: []Verdict{}}
	if d.Explained == nil {
		return e
	}
	e.Summary = d.Explained.Summary()
	for _, v := range d.Explained.Ranked() {
		verdict := Verdict{Cluster: v.Cluster, Feasible: v.Rejection == nil, Chosen: v.Chosen, Replicas: v.Replicas, Note: v.Note, Points: v.Points, Factors: []Factor{}, Obstacles: obstacles(d.Explained.Obstacles(v.Cluster))}
		if verdict.Feasible {
			verdict.Score, verdict.Reason = v.Score.Total, scoring.Reason(v.Score.Total)
			for _, f := range d.Explained.Factors(v.Cluster) {
				verdict.Factors = append(verdict.Factors, Factor{f.Factor, f.Score, f.Weight, f.Because})
			}
		}
		e.Verdicts = append(e.Verdicts, verdict)
	}
	return e
}

func obstacles(of []filter.Obstacle) []Obstacle {
	all := make([]Obstacle, len(of))
	for i, o := range of {
		all[i] = Obstacle{
			Stage: string(o.Stage), Constraint: o.Constraint, Expression: o.Expression, Observed: []Observed{}, Message: o.Message, Needs: o.Remedy,
		}
		if o.Expression != "" {
			all[i].Span = &Span{o.Span.Start, o.Span.End}
		}
		for _, at := range o.Observed {
			all[i].Observed = append(all[i].Observed, Observed{at.Path, at.Value})
		}
	}
	return all
}
