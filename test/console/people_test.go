package console_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kcp-placement/placement/offline/simulation"
)

const (
	teamML  = "../../examples/team-ml"
	waiting = "testdata/waiting.yaml"
)

// These are the questions of people who have never read the documentation, each clicked through as they would.

func TestSomebodyAsksWhyAWorkloadRunsWhereItDoes(t *testing.T) {
	p := open(t, start(t, teamML), "/")
	find := p.the("combobox", "Find a workload or a cluster")
	find.click()
	p.keys("vision")
	p.the("option", "default/train-vision").click()

	p.sees("train-vision would run on oslo. It is the only one of 3 clusters that may take it; its score is 58 (Fair).")
	// Why not the others: what was observed stands in the constraint that fails.
	p.sees(`capacity.free["nvidia.com/gpu"] observed 2 >= workload.requests["nvidia.com/gpu"] observed 8`)
	p.sees("6 more nvidia.com/gpu free")
	p.sees(`capability "gpu" is required and not listed`)
	// Why that score: the factors, and what is behind each.
	p.the("DisclosureTriangle", "58 Fair").click()
	p.sees("50 -10 (no match: training wants A100s)")
	// The bars add up to the total.
	explained := run[simulation.Explanation](t, "explain", "train-vision", teamML)
	var sum, weights float64
	for _, f := range explained.Verdicts[0].Factors {
		sum, weights = sum+float64(f.Score*f.Weight), weights+float64(f.Weight)
	}
	drawn := eval[float64](p, `[...document.querySelector(".factors").children].reduce((sum, i) => sum + parseFloat(i.style.width), 0)`)
	if diff := drawn - sum/weights; diff > 0.01 || diff < -0.01 {
		t.Errorf("the bars of the factors are %v long together, want %v", drawn, sum/weights)
	}
	p.accessible()
}

func TestSomebodyAsksWhatWouldLetAWaitingWorkloadIn(t *testing.T) {
	p := open(t, start(t, teamML, waiting), "/")
	p.the("link", "1 workload waits").click()
	p.the("link", "train-huge").click()
	p.sees("train-huge runs nowhere: none of the 3 clusters may take it.")
	p.sees("#1 in the queue")

	// It is what kubectl placement top says.
	top := run[simulation.Top](t, "top", teamML, waiting)
	if len(top.Queue) != 1 {
		t.Fatalf("%d workloads wait, want 1", len(top.Queue))
	}
	q := top.Queue[0]
	_, needs, _ := strings.Cut(q.WaitsFor, ": ")
	p.sees(fmt.Sprintf("What would let it in: %s is nearest, and needs %s.", q.Nearest, needs))
	p.the("note", "What would let it in")

	// The queue says the same, and leads to the cluster that is in the way, which knows who waits for it.
	p.visit("/workloads?state=Waiting")
	p.sees("#1 " + q.WaitsFor)
	p.the("link", q.Nearest).click()
	p.the("region", "Cluster "+q.Nearest)
	p.sees("Waits for it: 1")
	p.sees("Job default/train-huge")
	p.accessible()
}

func TestSomebodyAsksWhatDoublingAWeightWouldMove(t *testing.T) {
	files := writeFleet(t, 24, 60)
	p := open(t, start(t, files), "/")
	p.the("link", "Playground").click()
	p.sees("Nothing is changed yet")
	p.the("button", "Double location").click()
	p.sees("What runs stays where it may stay, so new weights by themselves move nothing.")
	p.the("button", "Show where all would go if placed anew").click()

	candidate := write(t, "weights.rego", `package placement.scoring

weights := {"capacity": 10, "health": 10, "performance": 40, "location": 20}
`)
	diff := run[simulation.Diff](t, "diff", files, "--candidate", candidate, "--fresh")
	if diff.Summary.Moved == 0 {
		t.Fatal("doubling the weight moves nothing: the test shows nothing")
	}
	p.sees(fmt.Sprintf("workloads move %d", diff.Summary.Moved))
	if shown, want := shownMoves(p), movesOf(&diff); !slices.Equal(shown, want) {
		t.Errorf("the playground shows\n%s\nkubectl placement diff prints\n%s", strings.Join(shown, "\n"), strings.Join(want, "\n"))
	}
	p.the("image", "Where workloads would be placed, before and after: ")
	p.accessible()
	p.do(chromedp.EmulateViewport(1200, 800))
	p.screenshot("playground-moves")

	// What was tried can be kept: as an object to apply, and as a scenario that a test plays.
	p.the("button", "Save as ConfigMap").click()
	p.sees(".yaml is saved.")
	p.the("button", "Save as scenario").click()
	p.sees(".txtar is saved.")
}

// shownMoves are the rows of the playground's table whose workloads move.
func shownMoves(p *tab) []string {
	return eval[[]string](p, `[...document.querySelectorAll("[aria-label='Each workload'] tbody tr")]
		.map(row => [...row.children].map(cell => cell.innerText.trim()))
		.filter(([, what]) => what === "moves").map(([name, , from, to]) => name + ": " + from + " -> " + to).sort()`)
}

func movesOf(diff *simulation.Diff) []string {
	var moves []string
	for _, m := range diff.Moves {
		if len(m.Before) == 1 && len(m.After) == 1 {
			moves = append(moves, m.Workload.String()+": "+m.Before[0].Name+" -> "+m.After[0].Name)
		}
	}
	slices.Sort(moves)
	return moves
}

// TestKeyboardOnly: who has no mouse gets everywhere, and sees where they are.
func TestKeyboardOnly(t *testing.T) {
	p := open(t, start(t, teamML, waiting), "/fleet")
	p.the("button", "oslo ")

	p.tabTo("link Skip to content")
	p.tabTo("combobox Find a workload or a cluster")
	p.tabTo("radio Use")
	p.keys(kb.ArrowRight)
	p.the("button", "oslo 6 free of GPU (nvidia.com)")
	p.tabTo("combobox Resource")
	p.tabTo("combobox Group by")
	p.tabTo("searchbox Show only")
	p.tabTo("button frankfurt ") // one stop for the whole map; arrows go on from there
	p.keys(kb.ArrowDown)
	p.keys(kb.ArrowRight)
	p.isAt("button oslo ")
	p.keys(kb.Enter)
	p.the("region", "Cluster oslo")

	// "/" finds from everywhere.
	p.press("/")
	p.keys("huge")
	p.the("option", "default/train-huge")
	p.keys(kb.Enter)
	p.sees("train-huge runs nowhere")
	p.tabTo("radio All 3")
	p.tabTo("link frankfurt")

	// The rows of the workloads are gone through by arrows.
	p.visit("/workloads")
	p.the("link", "serve")
	p.tabTo("link serve")
	p.keys(kb.ArrowDown)
	p.isAt("link train-")

	// Tab leaves the editor: nobody is caught in it.
	p.visit("/playground")
	p.the("tab", "gpu.rego")
	p.tabTo("tab gpu.rego")
	p.the("textbox", "Rego of default/gpu-preference/gpu.rego").focus()
	p.keys(kb.Tab)
	p.tabTo("radio What runs stays where it may")
}

// TestAsOneTypes: an error is found in its place while it is typed, and what would move is shown once it is mended.
func TestAsOneTypes(t *testing.T) {
	p := open(t, start(t, teamML), "/playground")
	editor := p.the("textbox", "Rego of default/gpu-preference/gpu.rego")
	editor.focus()
	p.keys("nonsense(")
	p.until("a finding leads to the line", func() bool { return len(p.all("button", "default/gpu-preference/gpu.rego:1:")) > 0 })
	p.the("tab", "gpu.rego changed ! has errors")
	for range len("nonsense()") {
		p.keys(kb.Delete)
		p.keys(kb.Backspace)
	}

	// Constraints are CEL in YAML, with completion of what there is.
	p.the("tab", "Placement gpu").click()
	p.the("textbox", "Placement default/gpu, YAML with CEL")
	eval[bool](p, `(() => {
		const view = document.querySelector(".code-editor").shadowRoot.querySelector(".cm-content").cmTile.root.view;
		const at = view.state.doc.toString().indexOf("capacity.free[");
		view.dispatch({selection: {anchor: at}});
		view.focus();
		return at > 0;
	})()`)
	p.keys("capacity.allocatable.c")
	p.the("option", "cpu").click()
	p.until("the completion is taken", func() bool {
		return strings.Contains(eval[string](p, `document.querySelector(".code-editor").shadowRoot.querySelector(".cm-content").innerText`), "capacity.allocatable.cpu")
	})
}

// TestALinkHoldsTheExample: what one has tried is shown to who opens the link, and nothing else is needed.
func TestALinkHoldsTheExample(t *testing.T) {
	c := start(t, teamML)
	p := open(t, c, "/playground")
	p.the("button", "Double capacity").click()
	p.the("button", "Share a link").click()
	p.sees("It holds the whole example.")
	link := eval[string](p, "location.pathname + location.hash")
	p.expected("clipboard")

	other := open(t, c, "/fleet")
	other.visit(link)
	other.the("tab", "gpu.rego changed")
	if got := eval[string](other, `document.querySelector("output").value`); got != "20" {
		t.Errorf("who opens the link sees a weight of %s for capacity, want 20", got)
	}
	other.visit("/fleet")
	other.visit("/playground#example=cut-off")
	other.sees("The link does not hold a whole example")
}

// TestTheFailingPartIsMarked: what fails is marked where it stands in the constraint as its author wrote it, be it written twice, on several
// lines, or after text that a browser counts otherwise.
func TestTheFailingPartIsMarked(t *testing.T) {
	placement := strings.ReplaceAll(read(t, teamML+"/placements.yaml"), `capacity.free["nvidia.com/gpu"] >= workload.requests["nvidia.com/gpu"]`, `|
        "🚀" != "é" && capacity.free['nvidia.com/gpu']>=1 && (
          capacity.free[ "nvidia.com/gpu" ]  >=  workload.requests['nvidia.com/gpu'] // all (
        ) && cluster.name != "" && (capacity.free["nvidia.com/gpu"] >= workload.requests["nvidia.com/gpu"])`)
	files := []string{teamML + "/fleet.yaml", teamML + "/workloads.yaml", teamML + "/policies.yaml", write(t, "placements.yaml", placement)}
	p := open(t, start(t, files...), "/why/Job/default/train-vision")
	p.sees("6 more nvidia.com/gpu free")
	const whole = `"🚀" != "é" && capacity.free['nvidia.com/gpu']>=1 && ( %s // all ( ) && cluster.name != "" && (%s)`
	first, second := `capacity.free[ "nvidia.com/gpu" ] observed 2 >= workload.requests['nvidia.com/gpu'] observed 8`, `capacity.free["nvidia.com/gpu"] observed 2 >= workload.requests["nvidia.com/gpu"] observed 8`
	plain := strings.NewReplacer(" observed 2", "", " observed 8", "")
	p.sees(fmt.Sprintf(whole, first, plain.Replace(second)))
	p.the("DisclosureTriangle", "2 more in its way").click()
	p.sees(fmt.Sprintf(whole, plain.Replace(first), second))
	marked := eval[[]string](p, `[...document.querySelectorAll(".cel")].map(e => [...e.querySelectorAll("mark")].map(m => m.textContent).join(""))`)
	for i := range marked {
		marked[i] = flat(marked[i])
	}
	if want := []string{plain.Replace(first), plain.Replace(second)}; !slices.Equal(marked[:min(2, len(marked))], want) {
		t.Errorf("marked are %q, want %q", marked, want)
	}
}
