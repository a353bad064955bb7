package console_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestLoad shows 1,000 clusters and 10,000 workloads, and prints how long the browser takes for it. It asserts on no clock.
func TestLoad(t *testing.T) {
	c := start(t, writeFleet(t, 1000, 10000))
	c.read(t)
	p := open(t, c, "/fleet")
	p.sees("1,000 clusters")
	if n := eval[int](p, `document.querySelectorAll("[data-name]").length`); n != 1000 {
		t.Errorf("the map has %d clusters, want 1,000", n)
	}
	p.print("first-view:fleet")
	p.the("radio", "Health").click()
	p.the("radio", "Headroom").click()
	p.the("button", "us-west-10 ").click()
	p.the("region", "Cluster us-west-10")
	p.print("fleet:colour", "fleet:select")

	p.visit("/workloads")
	p.sees("All 10,000")
	p.print("first-view:workloads")
	p.the("searchbox", "Search").focus()
	p.keys("app-0777")
	rows := func() string {
		return eval[string](p, `document.querySelector("[role=table]").getAttribute("aria-rowcount")`)
	}
	p.until("one workload is found", func() bool { return rows() == "2" })
	p.the("searchbox", "Search").focus()
	for range len("app-0777") {
		p.keys(kb.Backspace)
	}
	p.until("all are back", func() bool { return rows() == "10001" })
	// The last of the rows is there once one scrolls to it, and few are in the page at any time.
	p.the("link", "app-0000").focus()
	p.keys(kb.End)
	p.until("the last row has the focus", func() bool { return strings.HasPrefix(p.focused(), "link app-") && p.focused() != "link app-0000" })
	if n := eval[int](p, `document.querySelectorAll("[role=row]").length`); n > 100 {
		t.Errorf("%d rows are in the page at once", n)
	}
	p.print("workloads:search")
	c.printMemory()

	// Tries are on all of it: what runs stays, and all is placed anew.
	p.visit("/playground")
	p.sees("simulated in")
	p.the("button", "Double location").click()
	p.sees("What runs stays where it may stay")
	p.the("radio", "All is placed anew").click()
	p.until("many move", func() bool { return len(p.all("image", "Where workloads would be placed")) == 1 })
	p.the("button", "Halve location").click()
	p.sees("workloads move 0")
	p.print("playground:simulate")
	c.printMemory()
}

// printMemory prints what the console has taken at most.
func (c *console) printMemory() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.process.Pid))
	if err == nil { // Linux
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmHWM") {
				fmt.Print("memory of the console at most: ", strings.TrimPrefix(line, "VmHWM:"))
			}
		}
	}
}

// print prints how long the interactions of a name took.
func (p *tab) print(names ...string) {
	p.Helper()
	for _, name := range names {
		var times []float64
		p.until("the page measures "+name, func() bool {
			times = eval[[]float64](p, fmt.Sprintf(`performance.getEntriesByName(%q).map(m => Math.round(m.entryType === "mark" ? m.startTime : m.duration))`, name))
			return len(times) > 0
		})
		fmt.Printf("%s: %v ms\n", name, times)
	}
}
