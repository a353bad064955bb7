package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestViews: each view shows the example in light and dark, wide and narrow, and axe-core finds nothing wrong with it.
func TestViews(t *testing.T) {
	demo := start(t, writeFleet(t, 24, 60))
	ml := start(t, teamML, waiting)
	losses := start(t, "testdata/losses.yaml")
	for _, view := range []struct {
		name string
		c    *console
		path string
		// sees is what there is to see.
		sees []string
	}{
		{"fleet", demo, "/fleet", []string{"24 clusters, all ready, none overcommitted; 2 workloads wait.", "allocated", "reserved", "eu-west", "What changed lately"}},
		{"cluster", ml, "/fleet/oslo?colour=headroom", []string{"GPU (nvidia.com)", "Runs here: 2", "Deployment default/serve", "Job default/train-vision", "Waits for it: 1"}},
		{"workloads", demo, "/workloads", []string{"All 60", "Waiting 2", "app-0000", "Deployment in shop"}},
		{"queue", ml, "/workloads?state=Waiting", []string{"train-huge", "#1 oslo: 6 more nvidia.com/gpu free"}},
		{"why", demo, "/why/Deployment/shop/app-0001", []string{"How many clusters are left", "What each factor adds", "Every cluster’s verdict", "room-to-grow", "the web front doubles at noon"}},
		{"why-waiting", ml, "/why/Job/default/train-huge", []string{"What would let it in: oslo is nearest", "Decision", "broken here"}},
		{"playground", demo, "/playground", []string{"What would move", "performance", "Placement web"}},
		{"time", demo, "/time", []string{"Use of all clusters"}},
		{"losses", losses, "/fleet", []string{"If clusters were lost", "default/web ! would wait If location eu were lost, 1 of the", "default/api ✓ survives", "Nothing is decided for default/batch now, by spec.suspend"}},
		{"suspended", losses, "/workloads", []string{"suspended", "nightly"}},
		{"why-suspended", losses, "/why/Job/default/nightly", []string{"Nothing is decided for default/batch now"}},
		{"why-losses", losses, "/why/Deployment/default/web", []string{"web would run on paris", "If clusters were lost: ! would wait"}},
		{"not-found", ml, "/nonsense", []string{"There is no such page"}},
		{"no-workload", ml, "/why/Job/default/gone", []string{"There is no Job default/gone"}},
		{"no-cluster", ml, "/fleet/gone", []string{"There is no cluster gone"}},
	} {
		t.Run(view.name, func(t *testing.T) {
			p := open(t, view.c, view.path)
			for _, text := range view.sees {
				p.sees(text)
			}
			p.accessible()
			p.screenshot(view.name + "-light")
			p.scheme("dark")
			p.accessible()
			p.screenshot(view.name + "-dark")
			p.do(chromedp.EmulateViewport(390, 844))
			p.sees(view.sees[0])
			p.accessible()
			p.screenshot(view.name + "-narrow")
			if wide := eval[float64](p, "document.documentElement.scrollWidth"); wide > 390 {
				t.Errorf("a page of 390 pixels has to be scrolled sideways: it is %v wide", wide)
			}
			if view.name == "no-workload" {
				p.expected("404")
			}
		})
	}
}

// TestMarkupInNamesAndMessagesDoesNothing: whatever objects say is text.
func TestMarkupInNamesAndMessagesDoesNothing(t *testing.T) {
	c := start(t, "testdata/hostile.yaml")
	for path, sees := range map[string]string{
		"/fleet":                      "<img src=x onerror=alert(1)>",
		"/fleet/quiet":                "<script>alert(2)</script>",
		"/workloads":                  "picky",
		"/why/Deployment/default/web": "</code><svg onload=alert(3)>",
		"/playground":                 "javascript:alert(7)",
		"/playground?placement=picky": "alert(5)",
		"/workloads?q=<img%20src=x%20onerror=alert(8)>":            "No workload is like that",
		"/why/<img%20src=x%20onerror=alert(9)>/default/web%3Cb%3E": "<img src=x onerror=alert(9)>",
	} {
		t.Run(strings.NewReplacer("/", "_", "<", "", ">", "").Replace(path), func(t *testing.T) {
			p := open(t, c, path)
			if strings.HasPrefix(path, "/fleet/quiet") {
				p.the("DisclosureTriangle", "Labels, taints and conditions").click()
			}
			if strings.HasPrefix(path, "/playground") {
				p.until("the editor shows it", func() bool {
					return strings.Contains(eval[string](p, `document.querySelector(".code-editor")?.shadowRoot?.querySelector(".cm-content")?.innerText ?? ""`), sees)
				})
			} else {
				p.sees(sees)
			}
			if n := eval[int](p, `document.querySelectorAll("#app script, iframe, object, embed, #app img:not([alt='']), [onerror], [onload], [onmouseover], a[href^='javascript']").length`); n > 0 {
				t.Errorf("%d elements came from what objects say", n)
			}
			p.expected("404")
		})
	}
}

// TestBehind: a page says so when what it shows may not be what is, and when the console is gone.
func TestBehind(t *testing.T) {
	file := write(t, "fleet.yaml", read(t, filepath.Join(teamML, "fleet.yaml")))
	c := start(t, file)
	p := open(t, c, "/fleet")
	p.sees("3 clusters, all ready")
	p.sees("Live")

	// A change of a file is shown by itself.
	text := read(t, file)
	if err := os.WriteFile(file, []byte(text+"\n---\n"+strings.Replace(text[strings.LastIndex(text, "---\n")+4:], "name: helsinki", "name: tampere", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.sees("4 clusters, all ready")
	p.sees("tampere")

	if err := c.process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.sees("No connection")
	p.expected("ERR_")
}

// TestWhatIsOpenStaysOpen: news, and a server that fails for a while, take nothing away from who reads.
func TestWhatIsOpenStaysOpen(t *testing.T) {
	text := read(t, filepath.Join(teamML, "fleet.yaml"))
	file := write(t, "fleet.yaml", text)
	p := open(t, start(t, file), "/fleet/oslo")
	p.the("DisclosureTriangle", "Labels, taints and conditions").click()
	p.sees("AgentReporting")
	change := func(from, to string) {
		text = strings.ReplaceAll(text, from, to)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("AgentReporting", "AgentSpeaking")
	p.sees("AgentSpeaking")

	eval[bool](p, `(() => {
		const ask = window.fetch;
		window.fetch = (path, options) => /events/.test(path) ? ask(path, options) : Promise.resolve(new Response('{"detail": "the server is restarting"}', {status: 503}));
		return true;
	})()`)
	change("AgentSpeaking", "AgentSilent")
	p.sees("the server is restarting")
	p.sees("AgentSpeaking")
	p.expected("503")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
