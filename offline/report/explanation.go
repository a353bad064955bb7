package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/scoring"
)

// Verdicts that a View can be limited to.
const (
	Chosen   = "chosen"
	Feasible = "feasible"
	Rejected = "rejected"
)

// fewRows is how many feasible and how many rejected clusters are printed in rows of their own by default.
const fewRows = 20

// View selects what is printed of an explanation. The zero View is for a human reader: if there are many clusters, the best ones, and the
// rejected ones grouped by reason.
type View struct {
	// Only are verdicts and names of clusters; if there are any, other clusters are left out.
	Only []string
	// Top is how many feasible clusters are printed; 0 means all if they are few, and the best if they are many.
	Top int
	// All prints each cluster in a row of its own, however many there are.
	All bool
	// Details are clusters whose score is printed in detail. For chosen clusters this is done in any case.
	Details []string
}

// Shows reports whether the view includes a cluster, according to Only.
func (v View) Shows(cluster string, feasible, chosen bool) bool {
	return len(v.Only) == 0 || slices.Contains(v.Only, cluster) || chosen && slices.Contains(v.Only, Chosen) ||
		feasible && slices.Contains(v.Only, Feasible) || !feasible && slices.Contains(v.Only, Rejected)
}

// top returns how many feasible clusters get a row.
func (v View) top() int {
	switch {
	case v.Top > 0:
		return v.Top
	case v.All:
		return maxRows
	default:
		return fewRows
	}
}

// details returns for how many chosen clusters the score is printed in detail: all if they are few, and the best if they are many.
func (v View) details(d *engine.Decision) int {
	if len(d.Clusters) > fewRows && !v.All {
		return fewDetails
	}
	return maxRows
}

const (
	maxRows    = 1 << 30
	fewDetails = 3
)

// Explanation prints a decision with the verdicts on clusters, and the details of scores.
func Explanation(w io.Writer, d *engine.Decision, view View) {
	where := "nowhere"
	if len(d.Clusters) > 0 {
		shown := d.Clusters
		if len(shown) > fewRows && !view.All {
			shown = shown[:fewRows/2]
		}
		names := make([]string, len(shown))
		for i, c := range shown {
			names[i] = c.Name + times(c.Replicas, d.Divides())
		}
		if where = strings.Join(names, ", "); len(shown) < len(d.Clusters) {
			where += fmt.Sprintf(" and %d more", len(d.Clusters)-len(shown))
		}
	}
	fmt.Fprintf(w, "%s -> %s\n%s\n", d.Workload, where, d.Summary())
	for _, note := range d.Notes() {
		fmt.Fprintln(w, note)
	}

	var feasible, rejected []engine.Verdict
	for _, v := range d.Ranked() {
		switch {
		case !view.Shows(v.Cluster, v.Rejection == nil, v.Chosen):
		case v.Rejection == nil:
			feasible = append(feasible, v)
		default:
			rejected = append(rejected, v)
		}
	}
	scores(w, d, feasible, view)
	if len(rejected) > fewRows && !view.All {
		rejections(w, d, rejected)
	} else {
		obstacles(w, d, rejected)
	}
	details := 0
	for _, v := range feasible {
		if named := slices.Contains(view.Details, v.Cluster) || slices.Contains(view.Only, v.Cluster); named || v.Chosen && details < view.details(d) {
			factors(w, d, v)
			details++
		}
	}
	for _, term := range d.Terms {
		required := ""
		if term.Required {
			required = ", required"
		}
		because := ""
		if term.Reason != "" {
			because = ": " + term.Reason
		}
		onMatch := fmt.Sprintf("%+d on match", term.OnMatch)
		if term.Score != "" {
			onMatch = fmt.Sprintf("%+d x score %s / 100 on match", term.OnMatch, term.Score)
		}
		fmt.Fprintf(w, "term: %s %s, %+d otherwise%s%s\n", term.Factor, onMatch, term.Otherwise, required, because)
	}
}

// scores prints a row for each of the best feasible clusters, and for each chosen cluster.
func scores(w io.Writer, d *engine.Decision, feasible []engine.Verdict, view View) {
	if len(feasible) == 0 {
		return
	}
	t := NewTable(w)
	header := table.Row{"CLUSTER", "VERDICT", "TOTAL"}
	for _, f := range d.Weights.Shown() {
		header = append(header, fmt.Sprintf("%s x%d", strings.ToUpper(f.String()), d.Weights.Factors[f]))
	}
	for _, score := range d.Weights.Scores {
		header = append(header, fmt.Sprintf("%s x%d", strings.ToUpper(score.String()), score.Weight))
	}
	notes := slices.ContainsFunc(feasible, func(v engine.Verdict) bool { return v.Note != "" })
	points := slices.ContainsFunc(feasible, func(v engine.Verdict) bool { return v.Points != 0 })
	if points {
		header = append(header, "OTHER WORKLOADS")
	}
	if notes {
		header = append(header, "PASSED OVER")
	}
	t.AppendHeader(header)
	var left []engine.Verdict
	chosen := 0
	for i, v := range feasible {
		if i >= view.top() && (!v.Chosen || view.details(d) == fewDetails) {
			if left = append(left, v); v.Chosen {
				chosen++
			}
			continue
		}
		verdict := Feasible
		if v.Chosen {
			verdict = Chosen + times(v.Replicas, d.Divides())
		}
		row := table.Row{v.Cluster, verdict, fmt.Sprintf("%d %s", v.Score.Total, scoring.Reason(v.Score.Total))}
		for _, f := range d.Weights.Shown() {
			row = append(row, v.Score.Factors[f])
		}
		for _, score := range v.Score.Named {
			row = append(row, score)
		}
		if points {
			row = append(row, fmt.Sprintf("%+d", v.Points))
		}
		if notes {
			row = append(row, v.Note)
		}
		t.AppendRow(row)
	}
	t.Render()
	if len(left) > 0 {
		of := ""
		if chosen > 0 {
			of = fmt.Sprintf(", %d of them chosen", chosen)
		}
		fmt.Fprintf(w, "and %d more that are feasible%s, with totals from %d down to %d (--all shows them)\n", len(left), of, left[0].Score.Total, left[len(left)-1].Score.Total)
	}
}

// factors prints the factors of a feasible cluster's score.
func factors(w io.Writer, d *engine.Decision, v engine.Verdict) {
	fmt.Fprintf(w, "%s: %d %s\n", v.Cluster, v.Score.Total, scoring.Reason(v.Score.Total))
	width := len(scoring.Performance.String())
	for _, s := range d.Weights.Scores {
		width = max(width, len(s.String()))
	}
	for _, f := range d.Factors(v.Cluster) {
		fmt.Fprintf(w, "  %-*s %3d x%-3d %s\n", width, f.Factor, f.Score, f.Weight, f.Because)
	}
}

// obstacles prints a row for each rejected cluster.
func obstacles(w io.Writer, d *engine.Decision, rejected []engine.Verdict) {
	if len(rejected) == 0 {
		return
	}
	t := NewTable(w)
	t.AppendHeader(table.Row{"CLUSTER", "REJECTED BY", "BECAUSE", "NEEDS"})
	for _, v := range rejected {
		t.AppendRow(table.Row{v.Cluster, rejectedBy(v), v.Rejection.Message, needs(d, v)})
	}
	t.Render()
}

// group is a set of clusters that are rejected for the same reason.
type group struct {
	by       string
	clusters []engine.Verdict
	reasons  map[string]bool // the texts of their reasons
}

// fewReasons is up to how many reasons, differing in more than numbers, a stage or constraint gets a group for each.
const fewReasons = 5

// rejections prints a row for each reason, with how many clusters it rejects, and which.
func rejections(w io.Writer, d *engine.Decision, rejected []engine.Verdict) {
	t := NewTable(w)
	t.AppendHeader(table.Row{"CLUSTERS", "REJECTED BY", "BECAUSE", "NEEDS", "WHICH"})
	for _, g := range grouped(rejected) {
		first := g.clusters[0]
		because, remedy := first.Rejection.Message, needs(d, first)
		if len(g.reasons) > 1 {
			because = first.Cluster + ": " + because
		}
		differs := func(v engine.Verdict) bool { return needs(d, v) != remedy }
		if remedy != "" && slices.ContainsFunc(g.clusters[1:], differs) {
			remedy = first.Cluster + ": " + remedy
		}
		which := make([]string, 0, fewReasons)
		for _, v := range g.clusters[:min(3, len(g.clusters))] {
			which = append(which, v.Cluster)
		}
		if more := len(g.clusters) - len(which); more > 0 {
			which = append(which, fmt.Sprintf("%d more", more))
		}
		t.AppendRow(table.Row{len(g.clusters), g.by, because, remedy, strings.Join(which, ", ")})
	}
	t.Render()
}

var number = regexp.MustCompile(`[0-9]+(\.[0-9]+)?[A-Za-z]{0,2}\b`)

// grouped groups rejected clusters by what rejects them and by the reasons ignoring numbers, the largest group first. A stage or
// constraint with many reasons is one group.
func grouped(rejected []engine.Verdict) []*group {
	reasons := map[string]map[string]bool{}
	alike := func(v engine.Verdict) string { return number.ReplaceAllString(v.Rejection.Message, "#") }
	for _, v := range rejected {
		if reasons[rejectedBy(v)] == nil {
			reasons[rejectedBy(v)] = map[string]bool{}
		}
		reasons[rejectedBy(v)][alike(v)] = true
	}
	groups := map[string]*group{}
	for _, v := range rejected {
		key := rejectedBy(v)
		if len(reasons[key]) <= fewReasons {
			key += "\x00" + alike(v)
		}
		if groups[key] == nil {
			groups[key] = &group{by: rejectedBy(v), reasons: map[string]bool{}}
		}
		groups[key].clusters = append(groups[key].clusters, v)
		groups[key].reasons[v.Rejection.Message] = true
	}
	return slices.SortedFunc(maps.Values(groups), func(a, b *group) int {
		return cmp.Or(cmp.Compare(len(b.clusters), len(a.clusters)), cmp.Compare(a.clusters[0].Cluster, b.clusters[0].Cluster))
	})
}

func rejectedBy(v engine.Verdict) string {
	return stage(string(v.Rejection.Stage), v.Rejection.Constraint)
}

func needs(d *engine.Decision, v engine.Verdict) string {
	return strings.Join(filter.Remedies(d.Obstacles(v.Cluster)), "; ")
}
