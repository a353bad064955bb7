package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/test/internal/chromium"
)

// TestConsole: two teams look at one console, each with a token of their own. Each sees their workspace as the controller has decided
// it, and as it changes, and nothing of the other's.
func TestConsole(t *testing.T) {
	t.Parallel()
	ann, bob := newTeam(t, "ann"), newTeam(t, "bob")
	ann.apply(admin, cluster("paris", "8"), placement("app", "numberOfClusters: 1"), deployment("web", "app", "1"), deployment("huge", "app", "64"))
	bob.apply(admin, cluster("oslo", "8"), placement("app", "numberOfClusters: 1"), deployment("train", "app", "1"))
	ann.expect("Deployment web", "paris")
	bob.expect("Deployment train", "oslo")

	resources, err := workload.Kinds().Resources(workload.DefaultResources)
	if err != nil {
		t.Fatal(err)
	}
	handler := console.Handler(&console.Tokens{Server: server.Config("root"), Kinds: workload.Kinds(), Resources: resources}, console.Options{})
	ask := func(of *team, token, method, path, body string, into any) (string, int) {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost/api/v1/"+strings.ReplaceAll(path, "{workspace}", of.workspace), strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if into != nil && w.Code == http.StatusOK {
			if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
				t.Fatalf("%s: %v: %s", path, err, w.Body)
			}
		}
		return w.Body.String(), w.Code
	}
	annsToken := withToken(t, server.Config(ann.workspace), "owner").BearerToken
	bobsToken := withToken(t, server.Config(bob.workspace), "owner").BearerToken
	clusters := func(of *team, token string) string {
		var fleet console.Fleet
		_, status := ask(of, token, "GET", "fleet?workspace={workspace}", "", &fleet)
		names := []string{fmt.Sprint(status)}
		for _, c := range fleet.Clusters {
			names = append(names, fmt.Sprintf("%s with %d", c.Name, c.Workloads))
		}
		return strings.Join(names, ", ")
	}
	// It takes a moment until rights are in effect.
	ann.eventually("what Ann sees", "200, paris with 1", func() string { return clusters(ann, annsToken) })
	bob.eventually("what Bob sees", "200, oslo with 1", func() string { return clusters(bob, bobsToken) })
	for _, path := range []string{"fleet", "workloads", "policies", "completions", "series", "events", "workloads/Deployment/default/web/why"} {
		for _, token := range []string{bobsToken, "nonsense", ""} {
			text, status := ask(ann, token, "GET", path+"?workspace={workspace}", "", nil)
			if status != http.StatusUnauthorized && status != http.StatusForbidden || strings.Contains(text, "paris") {
				t.Errorf("%s of Ann's workspace with the token of another: %d: %s", path, status, text)
			}
		}
	}
	if text, status := ask(ann, bobsToken, "POST", "playground", fmt.Sprintf(`{"workspace": %q}`, ann.workspace), nil); status != http.StatusUnauthorized && status != http.StatusForbidden {
		t.Errorf("Bob plays in Ann's workspace: %d: %s", status, text)
	}

	var why console.Why
	if text, status := ask(ann, annsToken, "GET", "workloads/Deployment/default/huge/why?workspace={workspace}", "", &why); status != http.StatusOK || why.Queue == nil ||
		!strings.Contains(why.Queue.WaitsFor, "paris") || len(why.Remedies) != 1 {
		t.Errorf("why huge waits: %d: %s", status, text)
	}
	var policies console.Policies
	ask(ann, annsToken, "GET", "policies?workspace={workspace}", "", &policies)
	if len(policies.Placements) != 1 {
		t.Fatalf("%+v", policies)
	}
	play, err := json.Marshal(console.Play{Workspace: ann.workspace, Placements: map[string]string{
		"default/app": strings.Replace(policies.Placements[0].YAML, "spec:\n", "spec:\n  constraints: [{name: elsewhere, expression: cluster.name != \"paris\", requiredDuringExecution: true}]\n", 1),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var played console.Played
	if text, status := ask(ann, annsToken, "POST", "playground", string(play), &played); status != http.StatusOK || played.Diff == nil || played.Diff.Summary.Moved+played.Diff.Summary.Held != 1 {
		t.Errorf("a placement that forbids paris: %d: %s", status, text)
	}
	if got := ann.placed()["Deployment web"]; got != "paris" {
		t.Errorf("playing has moved web to %s", got)
	}

	ann.apply(cluster("dublin", "128"))
	ann.expect("Deployment huge", "dublin")
	ann.eventually("what Ann sees of what has changed", "200, dublin with 1, paris with 1", func() string { return clusters(ann, annsToken) })
}

// TestConsoleInABrowser: somebody signs in with a token and sees in a browser, live, where a workload runs, why another waits and for
// what, and that it waits no more once there is a cluster for it.
func TestConsoleInABrowser(t *testing.T) {
	team := newTeam(t)
	team.apply(admin, cluster("paris", "8"), placement("app", "numberOfClusters: 1"), deployment("web", "app", "1"), deployment("huge", "app", "64"))
	team.expect("Deployment web", "paris")
	resources, err := workload.Kinds().Resources(workload.DefaultResources)
	if err != nil {
		t.Fatal(err)
	}
	pages := httptest.NewServer(console.Handler(&console.Tokens{Server: server.Config("root"), Kinds: workload.Kinds(), Resources: resources}, console.Options{}))
	defer pages.Close()
	browser, stop, err := chromium.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	visit := func(path string) {
		if err := chromedp.Do(browser, chromedp.Navigate(pages.URL+path)); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(text string) {
		t.Helper()
		var shown string
		for deadline := time.Now().Add(within); !strings.Contains(shown, text); time.Sleep(100 * time.Millisecond) {
			// It fails while the page is being loaded again.
			shown, err = chromedp.Run(browser, chromedp.Evaluate[string]("document.body.innerText.replace(/\\s+/g, ' ')"))
			if time.Now().After(deadline) {
				t.Fatalf("it does not show %q (%v):\n%s", text, err, shown)
			}
		}
	}
	of := "?workspace=" + url.QueryEscape(team.workspace)
	visit("/fleet" + of)
	shows("it acts with your token")
	fill := fmt.Sprintf(`const token = document.querySelector("input[type=password]");
		token.value = %q;
		token.dispatchEvent(new Event("input", {bubbles: true}));
		setTimeout(() => token.form.requestSubmit());
		true`, withToken(t, server.Config(team.workspace), "owner").BearerToken)
	if _, err := chromedp.Run(browser, chromedp.Evaluate[bool](fill)); err != nil {
		t.Fatal(err)
	}
	shows("paris")
	visit("/why/Deployment/default/web" + of)
	shows("web runs on paris")
	visit("/why/Deployment/default/huge" + of)
	shows("57 more cpu free")
	team.apply(cluster("dublin", "128"))
	shows("huge runs on dublin")
}
