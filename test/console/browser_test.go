package console_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kcp-placement/placement/test/internal/chromium"
)

// patience is how long a page may take for what it is waited for: the machine may be busy.
const patience = 60 * time.Second

// browser is one browser for all tests; each has a tab of its own.
var browser = sync.OnceValues(func() (context.Context, error) {
	ctx, end, err := chromium.Start()
	if err == nil {
		atExit(end)
	}
	return ctx, err
})

// tab is a page of the console, and what a person does with it: who finds things by their roles and names.
type tab struct {
	*testing.T
	ctx    context.Context
	server string

	mu       sync.Mutex
	requests []string
	wrong    []string
}

// open opens an address of a console in a tab. At its end the test fails where the page has asked another host for something, has
// logged an error, or has been stopped by the Content-Security-Policy.
func open(t *testing.T, c *console, path string) *tab {
	t.Helper()
	all, err := browser()
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{T: t, server: c.url}
	ctx, cancel := chromedp.NewContext(all, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	p.do(chromedp.EmulateViewport(1440, 1000))
	p.call(func() error { _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); return err })
	p.call(func() error { _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); return err })
	p.scheme("light")
	p.visit(path + "#token=" + c.token)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range p.requests {
			if at, err := url.Parse(r); err != nil || at.Scheme+"://"+at.Host != p.server && at.Scheme != "blob" && at.Scheme != "data" {
				t.Errorf("the page asks another host: %s", r)
			}
		}
		if len(p.wrong) > 0 {
			t.Errorf("the browser complains:\n%s", strings.Join(p.wrong, "\n"))
		}
	})
	return p
}

func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *network.EventWebSocketCreated:
		p.requests = append(p.requests, e.URL)
	case *runtime.EventExceptionThrown:
		p.wrong = append(p.wrong, "exception: "+e.ExceptionDetails.Text+" "+describe(e.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			p.wrong = append(p.wrong, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			for _, arg := range e.Args {
				p.wrong = append(p.wrong, "console.error: "+describe(arg))
			}
		}
	}
}

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description + string(o.Value)
}

// expected takes back the complaints that hold a text, of a test that provokes them.
func (p *tab) expected(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = slices.DeleteFunc(p.wrong, func(w string) bool { return strings.Contains(w, text) })
}

func (p *tab) call(f func() error) {
	p.Helper()
	if err := f(); err != nil {
		p.Fatal(err)
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	p.call(func() error { return chromedp.Do(p.ctx, actions...) })
}

func (p *tab) visit(path string) {
	p.Helper()
	p.do(chromedp.Navigate(p.server + path))
}

// eval returns what an expression comes to, which may be a promise.
func eval[T any](p *tab, expression string) T {
	p.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits for a condition, and fails with what there is in its place.
func (p *tab) until(what string, ok func() bool) {
	p.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			p.screenshot("failed-" + strings.ReplaceAll(p.Name(), "/", "-"))
			p.Fatalf("%s: not within %v. %s shows:\n%s", what, patience, eval[string](p, "location.href"), p.text())
		}
	}
}

// text is what the page shows, as a person reads it.
func (p *tab) text() string {
	p.Helper()
	return eval[string](p, "document.body.innerText")
}

func (p *tab) sees(text string) {
	p.Helper()
	p.until(fmt.Sprintf("sees %q", text), func() bool { return strings.Contains(flat(p.text()), flat(text)) })
}

func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// element is something with a role and a name, as a screen reader tells it. A page may replace its node at any time, so it is looked
// for again whenever something is done with it.
type element struct {
	tab        *tab
	role, name string
	node       cdp.BackendNodeID
}

// all returns what there is of a role whose name begins with a text.
func (p *tab) all(role, name string) []element {
	p.Helper()
	document, err := chromedp.Run(p.ctx, chromedp.Evaluate[*runtime.RemoteObject]("document"))
	if err != nil {
		p.Fatal(err)
	}
	found, err := chromedp.Call(p.ctx, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{ObjectID: document.ObjectID, Role: role})
	if err != nil {
		p.Fatal(err)
	}
	var all []element
	for _, n := range found.Nodes {
		var is string
		if n.Name != nil {
			if err := json.Unmarshal(n.Name.Value, &is); err != nil {
				p.Fatal(err)
			}
		}
		if !n.Ignored && strings.HasPrefix(is, name) {
			all = append(all, element{p, role, is, n.BackendDOMNodeID})
		}
	}
	return all
}

// one returns the one thing of a role whose name begins with a text; of several, the one whose name is the text.
func (p *tab) one(role, name string) (element, bool) {
	p.Helper()
	found := p.all(role, name)
	if exact := slices.IndexFunc(found, func(e element) bool { return e.name == name }); len(found) > 1 && exact >= 0 {
		found = found[exact : exact+1]
	}
	if len(found) != 1 {
		return element{}, false
	}
	return found[0], true
}

// the waits for the one thing of a role whose name begins with a text.
func (p *tab) the(role, name string) element {
	p.Helper()
	var e element
	p.until(fmt.Sprintf("there is one %s %q", role, name), func() (there bool) {
		e, there = p.one(role, name)
		return there
	})
	e.name = name
	return e
}

// on calls a function of JavaScript on the node of an element; what it answers is false, too, where the node is gone meanwhile.
func on[T any](e element, function string) (answer T, ok bool) {
	p := e.tab
	p.Helper()
	e, there := p.one(e.role, e.name)
	if !there {
		return answer, false
	}
	node, err := chromedp.Call(p.ctx, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: e.node})
	if err != nil {
		return answer, false
	}
	called, err := chromedp.Call(p.ctx, runtime.CallFunctionOn, runtime.CallFunctionOnParams{
		ObjectID: node.Object.ObjectID, FunctionDeclaration: function, AwaitPromise: new(true), ReturnByValue: new(true),
	})
	if err != nil || called.ExceptionDetails != nil {
		return answer, false
	}
	return answer, json.Unmarshal(called.Result.Value, &answer) == nil
}

// aim brings an element into view, waits until it stands still, and has a click do nothing unless it meets the element: a page moves
// while it loads. It answers with the element's middle.
const aim = `async function() {
	this.scrollIntoViewIfNeeded();
	let box, last;
	do {
		last = box;
		await new Promise(requestAnimationFrame);
		box = this.getClientRects()[0];
		if (!box) return null;
	} while (!last || box.x !== last.x || box.y !== last.y || box.width !== last.width || box.height !== last.height);
	const target = [this, ...(this.labels ?? [])];
	const met = window.met = {};
	const look = (e) => {
		if (target.some((t) => e.composedPath().includes(t)) || met.mousedown && !this.isConnected) {
			met[e.type] = true;
			return;
		}
		e.stopImmediatePropagation();
		e.preventDefault();
	};
	const types = ["pointerdown", "mousedown", "pointerup", "mouseup", "click"];
	for (const t of types) addEventListener(t, look, true);
	met.end = () => {
		for (const t of types) removeEventListener(t, look, true);
		return met.click || met.mousedown && !this.isConnected || false;
	};
	return [box.x + box.width / 2, box.y + box.height / 2];
}`

// click clicks with the mouse in the middle of an element.
func (e element) click() {
	p := e.tab
	p.Helper()
	p.until(fmt.Sprintf("%s %q can be clicked", e.role, e.name), func() bool {
		at, ok := on[[]float64](e, aim)
		if !ok || len(at) != 2 {
			return false
		}
		p.do(chromedp.MouseClickXY(at[0], at[1]))
		return eval[bool](p, "window.met?.end() ?? true") // another page has no met
	})
}

func (e element) focus() {
	p := e.tab
	p.Helper()
	p.until(fmt.Sprintf("%s %q has the focus", e.role, e.name), func() bool {
		focused, ok := on[bool](e, `function() { this.focus(); return this.matches(":focus"); }`)
		return ok && focused
	})
}

// keys types; kb has the names of keys.
func (p *tab) keys(keys string) {
	p.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// press presses a key as a keyboard does: what the page prevents is not typed, where keys types it all the same.
func (p *tab) press(key string) {
	p.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		event := input.DispatchKeyEventParams{Type: kind, Key: key}
		if kind == input.DispatchKeyEventTypeKeyDown {
			event.Text = key
		}
		p.call(func() error { _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, event); return err })
	}
}

// focused is the role and the name of what has the focus.
func (p *tab) focused() string {
	p.Helper()
	active, err := chromedp.Run(p.ctx, chromedp.Evaluate[*runtime.RemoteObject]("document.activeElement"))
	if err != nil {
		p.Fatal(err)
	}
	found, err := chromedp.Call(p.ctx, accessibility.GetPartialAXTree, accessibility.GetPartialAXTreeParams{ObjectID: active.ObjectID, FetchRelatives: new(bool)})
	if err != nil || len(found.Nodes) == 0 {
		p.Fatal(err)
	}
	value := func(v *accessibility.Value) (text string) {
		if v != nil {
			_ = json.Unmarshal(v.Value, &text)
		}
		return text
	}
	return strings.TrimSpace(value(found.Nodes[0].Role) + " " + value(found.Nodes[0].Name))
}

// isAt waits until something has the focus whose role and name begin with a text.
func (p *tab) isAt(what string) {
	p.Helper()
	p.until("the focus is at "+what, func() bool { return strings.HasPrefix(p.focused(), what) })
}

// tabTo presses Tab until something has the focus that begins with a text.
func (p *tab) tabTo(what string) {
	p.Helper()
	var passed []string
	for range 80 {
		p.keys(kb.Tab)
		at := p.focused()
		if strings.HasPrefix(at, what) {
			return
		}
		passed = append(passed, at)
	}
	p.Fatalf("Tab does not come to %q, but to: %s", what, strings.Join(passed, " | "))
}

// scheme has the person prefer light or dark colours.
func (p *tab) scheme(scheme string) {
	p.Helper()
	p.call(func() error {
		_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	})
}

// screenshot keeps a picture of what is seen in the untracked folder screenshots.
func (p *tab) screenshot(name string) {
	p.Helper()
	picture, err := chromedp.Call(p.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng})
	if err != nil {
		p.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll("screenshots", 0o755), os.WriteFile(filepath.Join("screenshots", name+".png"), picture.Data, 0o600)); err != nil {
		p.Fatal(err)
	}
}

// axe is axe-core, which looks for what keeps people out.
//
//go:embed axe.min.js
var axe string

// accessible fails where axe-core finds a violation in what the page shows now.
func (p *tab) accessible() {
	p.Helper()
	p.do(chromedp.Action[chromedp.Void](func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: axe})
		return chromedp.Void{}, err
	}))
	type violation struct {
		ID    string   `json:"id"`
		Help  string   `json:"help"`
		Nodes []string `json:"nodes"`
	}
	found := eval[[]violation](p, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => ({
		id: v.id, help: v.help, nodes: v.nodes.slice(0, 5).map(n => n.html.slice(0, 300) + " " + n.failureSummary)})))`)
	for _, v := range found {
		p.Errorf("%s: %s\n  %s", v.ID, v.Help, strings.Join(v.Nodes, "\n  "))
	}
}
