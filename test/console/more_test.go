package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/chromedp"
)

// TestChartsOfPrometheus: where a Prometheus is given, what it knows stands beside what the console has watched.
func TestChartsOfPrometheus(t *testing.T) {
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := func(key string) int64 {
			n, err := strconv.ParseInt(r.FormValue(key), 10, 64)
			if err != nil {
				t.Errorf("%s of %s: %v", key, r.URL, err)
			}
			return n
		}
		if r.URL.Path != "/prom/api/v1/query_range" {
			t.Errorf("the console asks Prometheus for %s", r.URL)
		}
		metric := map[string]string{}
		for _, label := range []string{"outcome", "reason"} {
			if strings.Contains(r.FormValue("query"), "by ("+label+")") {
				metric[label] = "of-" + label
			}
		}
		var values [][2]any
		for at := number("start"); at <= number("end"); at += number("step") {
			values = append(values, [2]any{at, "7"})
		}
		values[0][1] = "NaN"
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{
			"resultType": "matrix", "result": []any{map[string]any{"metric": metric, "values": values}},
		}})
	}))
	defer prometheus.Close()
	p := open(t, start(t, "--prometheus", prometheus.URL+"/prom", teamML), "/time")
	p.the("region", "All workspaces: waiting workloads")
	p.sees("waiting 7")
	p.sees("of-outcome 7")
	p.sees("of-reason 7")
	p.the("region", "Use of all clusters")
	p.the("radio", "15 min").click()
	p.until("the span is 15 minutes", func() bool { return strings.Contains(eval[string](p, "location.search"), "range=15m") })
	p.sees("waiting 7")
	p.accessible()
	p.screenshot("time-prometheus")

	// What the console has watched is there all the same when Prometheus is down.
	prometheus.Close()
	p.visit("/time")
	p.sees("What Prometheus knows is missing: it does not answer: dial tcp")
	p.the("region", "Use of all clusters")
	if len(p.all("region", "All workspaces")) > 0 {
		t.Error("there are charts of a Prometheus that is down")
	}
	p.accessible()
}

// TestPlaygroundOfFiles: somebody tries a placement on clusters of their own, which no workspace has.
func TestPlaygroundOfFiles(t *testing.T) {
	p := open(t, start(t, teamML), "/playground")
	p.the("tab", "gpu.rego")
	own := write(t, "own.yaml", read(t, filepath.Join(teamML, "fleet.yaml"))+"\n---\n"+read(t, waiting))
	input := p.the("button", "Open files")
	p.call(func() error {
		_, err := chromedp.Call(p.ctx, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{own}, BackendNodeID: input.node})
		return err
	})
	p.sees("1 file loaded. What is shown is about the clusters and workloads in them.")
	p.sees("workloads move")
	p.the("button", "Start again").click()
	p.sees("What is in force is back.")
}

// TestPresets: each policy of the library is put into force by choosing it, without an error, and can be changed from there.
func TestPresets(t *testing.T) {
	c := start(t, teamML)
	p := open(t, c, "/playground")
	type preset struct{ Name, Title, File string }
	presets := eval[[]preset](p, fmt.Sprintf(`fetch("/api/v1/library", {headers: {authorization: "Bearer %s"}}).then(r => r.json()).then(l => l.presets.map(p => ({Name: p.name, Title: p.title, File: p.file})))`, c.token))
	if len(presets) < 3 {
		t.Fatalf("the library has %d policies", len(presets))
	}
	for _, of := range presets {
		p.visit("/playground")
		p.the("tab", "gpu.rego")
		choice := p.the("combobox", "Add from the library")
		choice.focus()
		p.keys(of.Title)
		p.the("button", "Add").click()
		p.the("tab", of.File+" changed")
		p.until(of.Name+" is simulated", func() bool {
			return eval[bool](p, `document.querySelector("[aria-busy=false] [aria-label='What would move']") !== null`)
		})
		if text := flat(p.text()); strings.Contains(text, "Nothing can be simulated") || len(p.all("tab", of.File+" changed ! has errors")) > 0 {
			t.Errorf("%s does not come into force:\n%s", of.Name, text)
		}
	}
}
