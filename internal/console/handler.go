// Package console serves the console: the pages, and the API behind them, which anybody can use.
package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/build"
	"github.com/kcp-placement/placement/internal/console/web"
	"github.com/kcp-placement/placement/offline/description"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// Options of a Handler.
type Options struct {
	// Kinds of workload; those that are known where it is nil.
	Kinds *workload.Table
	// Hosts are the names by which browsers may call the console, beside those of the loopback device; any name where it has "*".
	Hosts []string
	// Prometheus is where metrics of the controller are, if anywhere.
	Prometheus *Prometheus
}

// Who asks, and what Callers say of it.
var (
	// ErrUnauthenticated: there is no token, or a wrong one.
	ErrUnauthenticated = errors.New("there is no valid token: open the link that the console has printed, or sign in with a token of your own")
	errTooMany         = errors.New("too many workspaces are open at once: close some, and ask again in five minutes")
)

const (
	// maxBody bounds what a request may hold.
	maxBody = 4 << 20
	// patience is how long a request waits for what is tried, or explained.
	patience = 60 * time.Second
)

// Handler returns the console's server.
func Handler(callers Callers, options Options) http.Handler {
	if options.Kinds == nil {
		options.Kinds = workload.Kinds()
	}
	h := &handler{callers: callers, options: options, boot: strings.ToLower(rand.Text()[:6]), busy: make(chan struct{}, runtime.GOMAXPROCS(0))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/workspaces", h.workspaces)
	mux.HandleFunc("GET /api/v1/fleet", h.about(fleet))
	mux.HandleFunc("GET /api/v1/workloads", h.about(workloads))
	mux.HandleFunc("GET /api/v1/workloads/{kind}/{namespace}/{name}/why", h.about(h.why))
	mux.HandleFunc("GET /api/v1/workloads/{kind}/{namespace}/{name}/history", h.about(history))
	mux.HandleFunc("GET /api/v1/policies", h.about(func(a *asked) (any, error) { return a.view.policies(a.workspace) }))
	mux.HandleFunc("GET /api/v1/completions", h.about(func(a *asked) (any, error) { return a.view.completions(a.workspace), nil }))
	mux.HandleFunc("GET /api/v1/series", h.series)
	mux.HandleFunc("GET /api/v1/events", h.events)
	mux.HandleFunc("POST /api/v1/playground", h.playground)
	mux.HandleFunc("POST /api/v1/export", h.export)
	mux.HandleFunc("GET /api/v1/library", func(w http.ResponseWriter, r *http.Request) {
		answer, err := library()
		respond(w, r, "", answer, err)
	})
	mux.HandleFunc("GET /api/v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI)
	})
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		respond(w, r, "", nil, &failure{http.StatusNotFound, r.Method + " " + r.URL.Path + " is not part of the API: /api/v1/openapi.json documents it"})
	})
	mux.Handle("/", pages(web.Files()))
	return secured(options.Hosts, compressed(mux))
}

type handler struct {
	callers Callers
	options Options
	boot    string
	models  models
	// busy is held by what takes long to compute.
	busy chan struct{}
}

// failure is an answer that is an error.
type failure struct {
	status int
	detail string
}

// Error implements error.
func (f *failure) Error() string { return f.detail }

// asked is what a request is about.
type asked struct {
	*http.Request
	model     *model
	view      *view
	behind    *Behind
	workspace *manifest.Workspace
}

// shown is what an answer begins with.
func (a *asked) shown() Shown {
	shown := a.view.shown(a.workspace)
	shown.Behind = a.behind
	return shown
}

// model returns what follows a workspace for who asks.
func (h *handler) model(r *http.Request, workspace string) (*model, func(), error) {
	caller, of, source, err := h.callers.Open(bearer(r), workspace)
	if err != nil {
		return nil, nil, err
	}
	key := modelKey{caller, of}
	kind, _ := h.callers.Describe()
	m, err := h.models.get(key, func() *model { return follow(source, kind == SourceFiles, h.boot) })
	return m, func() { h.models.drop(key, m) }, err
}

// bearer is the token of a request; empty where it has none.
func bearer(r *http.Request) string {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		return ""
	}
	return token
}

// open returns what a request about a workspace is about.
func (h *handler) open(r *http.Request, workspace string) (*asked, error) {
	m, drop, err := h.model(r, workspace)
	if err != nil {
		return nil, err
	}
	s, err := m.first(r.Context()) // however long it takes to read it: no page can do without
	if err != nil {
		if s.err != nil {
			drop()
		}
		return nil, err
	}
	a := &asked{Request: r, model: m, view: s.view, behind: s.behind}
	a.workspace, err = s.view.workspace(workspace)
	return a, err
}

// about answers a request about a workspace.
func (h *handler) about(answer func(*asked) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := h.open(r, r.URL.Query().Get("workspace"))
		if err != nil {
			respond(w, r, "", nil, err)
			return
		}
		tag := fmt.Sprintf(`W/"%s-%t"`, a.view.version, a.behind != nil)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		body, err := answer(a)
		respond(w, r, tag, body, err)
	}
}

// compute runs what takes long, when it is its turn.
func (h *handler) compute(ctx context.Context, f func(context.Context) error) error {
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	select {
	case h.busy <- struct{}{}:
		defer func() { <-h.busy }()
		return f(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *handler) workspaces(w http.ResponseWriter, r *http.Request) {
	answer, err := h.listed(r)
	respond(w, r, "", answer, err)
}

func (h *handler) listed(r *http.Request) (*Workspaces, error) {
	source, from := h.callers.Describe()
	answer := &Workspaces{Workspaces: []Workspace{}, Source: source, From: from, Version: build.Version()}
	if lister, ok := h.callers.(Lister); ok {
		var err error
		answer.Workspaces, err = lister.List(r.Context(), bearer(r))
		return answer, err
	}
	m, drop, err := h.model(r, "")
	if err != nil {
		return nil, err
	}
	s, err := m.first(r.Context())
	if err != nil {
		if s.err != nil {
			drop()
		}
		return nil, err
	}
	for _, of := range s.view.shownWorkspaces() {
		answer.Workspaces = append(answer.Workspaces, Workspace{Name: of.Name.String(), Path: of.Path, Behind: s.behind})
	}
	return answer, nil
}

func fleet(a *asked) (any, error) {
	answer := a.view.fleet(a.workspace)
	answer.Shown = a.shown()
	answer.Changes = a.model.events(a.workspace.Name.String())
	return answer, nil
}

func workloads(a *asked) (any, error) {
	answer, err := selected(a.view.rows[a.workspace](), a.URL.Query())
	if err != nil {
		return nil, err
	}
	answer.Shown = a.shown()
	return answer, nil
}

func (h *handler) why(a *asked) (any, error) {
	s, err := a.view.find(a.workspace, a.PathValue("kind"), a.PathValue("namespace"), a.PathValue("name"))
	if err != nil {
		return nil, err
	}
	var answer *Why
	err = h.compute(a.Context(), func(ctx context.Context) error {
		d, err := a.view.decide(ctx, s)
		if err == nil {
			answer = a.view.why(a.workspace, d)
			answer.Shown = a.shown()
		}
		return err
	})
	return answer, err
}

func history(a *asked) (any, error) {
	s, err := a.view.find(a.workspace, a.PathValue("kind"), a.PathValue("namespace"), a.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return description.HistoryOf(a.workspace, &simulation.Decision{Workspace: s.Workspace, Workload: s.Name(), Placement: s.Placement}), nil
}

func (h *handler) series(w http.ResponseWriter, r *http.Request) {
	answer, err := func() (*Charts, error) {
		a, err := h.open(r, r.URL.Query().Get("workspace"))
		if err != nil {
			return nil, err
		}
		charts := &Charts{Source: "watched", Series: a.model.charts(a.workspace.Name.String())}
		if h.options.Prometheus != nil {
			more, err := h.options.Prometheus.series(r.Context())
			if err != nil {
				charts.Problem = "What Prometheus knows is missing: " + err.Error()
				return charts, nil
			}
			charts.Source, charts.Series = "prometheus", append(charts.Series, more...)
		}
		return charts, nil
	}()
	respond(w, r, "", answer, err)
}

func (h *handler) playground(w http.ResponseWriter, r *http.Request) {
	var request Play
	answer, err := func() (answer *Played, err error) {
		if err := read(w, r, &request); err != nil {
			return nil, err
		}
		a, err := h.open(r, request.Workspace)
		if err != nil {
			return nil, err
		}
		err = h.compute(r.Context(), func(ctx context.Context) error {
			answer, err = a.view.play(ctx, h.options.Kinds, a.workspace, &request)
			return err
		})
		return answer, err
	}()
	respond(w, r, "", answer, err)
}

func (h *handler) export(w http.ResponseWriter, r *http.Request) {
	var request Export
	answer, err := func() (*Exported, error) {
		if err := read(w, r, &request); err != nil {
			return nil, err
		}
		a, err := h.open(r, request.Workspace)
		if err != nil {
			return nil, err
		}
		return a.view.export(r.Context(), h.options.Kinds, a.workspace, &request)
	}()
	respond(w, r, "", answer, err)
}

// read reads the body of a request.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &failure{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes: try less at once", large.Limit)}
	case err != nil:
		return &failure{http.StatusBadRequest, "the body is not the JSON that this takes: " + err.Error()}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &failure{http.StatusBadRequest, "the body is more than one JSON value"}
	}
	return nil
}

// aliveEvery is how often a stream of events says that it is still there.
const aliveEvery = 10 * time.Second

// events tells of changes as long as the caller listens: changed with the version, and behind with the reason.
func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	a, err := h.open(r, r.URL.Query().Get("workspace"))
	if err != nil {
		respond(w, r, "", nil, err)
		return
	}
	m := a.model // and nothing else: what a is about is not what is shown any more after the next change
	m.listen(1)
	defer m.listen(-1)
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	sent := ""
	for {
		s := m.state()
		if s.view == nil { // the caller may not see it any more
			return
		}
		switch {
		case s.behind != nil:
			sent = ""
			body, _ := json.Marshal(s.behind) // has texts and a time
			_, err = fmt.Fprintf(w, "event: behind\ndata: %s\n\n", body)
		case s.view.version != sent:
			sent = s.view.version
			_, err = fmt.Fprintf(w, "event: changed\nid: %[1]s\ndata: {\"version\":%[1]q}\n\n", sent)
		default:
			_, err = io.WriteString(w, ": still here\n\n")
		}
		if err = errors.Join(err, out.Flush()); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.changed:
		case <-alive.C:
		}
	}
}
