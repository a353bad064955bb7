// Package console serves the console: the pages, and the API behind them, which anybody can use.
package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
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
	// Hosts are the names by which the console may be called, beside loopback addresses. Any where it is nil.
	Hosts []string
}

// ErrUnauthenticated is returned by Callers for who has no token, or a wrong one.
var ErrUnauthenticated = errors.New("no token, or one that is not valid")

// maxBody bounds what a request may hold.
const maxBody = 4 << 20

// Handler returns the console's server.
func Handler(callers Callers, options Options) http.Handler {
	if options.Kinds == nil {
		options.Kinds = workload.Kinds()
	}
	h := &handler{callers: callers, options: options, models: map[string]*model{}, boot: strings.ToLower(rand.Text()[:6])}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/workspaces", h.workspaces)
	mux.HandleFunc("GET /api/v1/fleet", h.about(func(_ *http.Request, v *view, w *manifest.Workspace) (any, error) { return v.fleet(w), nil }))
	mux.HandleFunc("GET /api/v1/workloads", h.about(func(r *http.Request, v *view, w *manifest.Workspace) (any, error) {
		answer, err := selected(v.workloads(w), r.URL.Query())
		if err != nil {
			return nil, err
		}
		answer.Shown = v.shown(w)
		return answer, nil
	}))
	mux.HandleFunc("GET /api/v1/workloads/{kind}/{namespace}/{name}/why", h.about(why))
	mux.HandleFunc("GET /api/v1/workloads/{kind}/{namespace}/{name}/history", h.about(history))
	mux.HandleFunc("GET /api/v1/policies", h.about(func(_ *http.Request, v *view, w *manifest.Workspace) (any, error) { return v.policies(w) }))
	mux.HandleFunc("GET /api/v1/completions", h.about(func(_ *http.Request, v *view, w *manifest.Workspace) (any, error) { return v.completions(w), nil }))
	mux.HandleFunc("GET /api/v1/library", func(w http.ResponseWriter, _ *http.Request) {
		answer, err := library()
		respond(w, answer, err)
	})
	mux.HandleFunc("GET /api/v1/events", h.events)
	mux.HandleFunc("POST /api/v1/playground", h.playground)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		respond(w, nil, &failure{http.StatusNotFound, r.Method + " " + r.URL.Path + " is not part of the API: /api/v1/openapi.json documents it"})
	})
	mux.Handle("/", pages(web.Files()))
	return secured(mux)
}

type handler struct {
	callers Callers
	options Options
	boot    string

	mu     sync.Mutex
	models map[string]*model
}

// failure is an answer that is an error.
type failure struct {
	status int
	detail string
}

// Error implements error.
func (f *failure) Error() string { return f.detail }

// secured adds the headers that keep a page to itself.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// pages serves the pages. What is no file is an address within them.
func pages(files fs.FS) http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Ext(r.URL.Path) == "" {
			http.ServeFileFS(w, r, files, "index.html")
			return
		}
		server.ServeHTTP(w, r)
	})
}

// respond writes an answer as JSON, or the error as a problem.
func respond(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	if err != nil {
		var of *failure
		switch {
		case errors.As(err, &of):
			status = of.status
		case errors.Is(err, ErrUnauthenticated):
			status = http.StatusUnauthorized
		case errors.Is(err, context.Canceled):
			status = 499 // the caller is gone
		case errors.Is(err, errNotYet):
			status = http.StatusServiceUnavailable
		default:
			status = http.StatusBadGateway
		}
		answer = &Problem{Title: http.StatusText(status), Status: status, Detail: err.Error()}
		w.Header().Set("Content-Type", "application/problem+json")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	text, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// model returns what follows a workspace for who asks.
func (h *handler) model(r *http.Request, workspace string) (*model, error) {
	token := bearer(r)
	key, source, err := h.callers.Open(token, workspace)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.models[key]
	if m == nil {
		kind, _ := h.callers.Describe()
		m = follow(source, kind == "files", h.boot)
		h.models[key] = m
	}
	return m, nil
}

// open returns the view that a request is about.
func (h *handler) open(r *http.Request, workspace string) (*view, *manifest.Workspace, error) {
	m, err := h.model(r, workspace)
	if err != nil {
		return nil, nil, err
	}
	ctx, done := context.WithTimeout(r.Context(), 30*time.Second)
	defer done()
	v, _, err := m.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	w, err := v.workspace(workspace)
	return v, w, err
}

// about answers a request about a workspace.
func (h *handler) about(answer func(*http.Request, *view, *manifest.Workspace) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, of, err := h.open(r, r.URL.Query().Get("workspace"))
		if err != nil {
			respond(w, nil, err)
			return
		}
		body, err := answer(r, v, of)
		respond(w, body, err)
	}
}

func (h *handler) workspaces(w http.ResponseWriter, r *http.Request) {
	source, from := h.callers.Describe()
	answer := &Workspaces{Workspaces: []Workspace{}, Source: source, From: from, Version: build.Version()}
	m, err := h.model(r, "")
	if err != nil {
		respond(w, nil, err)
		return
	}
	v, behind, err := m.view(r.Context())
	if err != nil {
		respond(w, nil, err)
		return
	}
	for _, of := range v.workspaces {
		answer.Workspaces = append(answer.Workspaces, Workspace{Name: of.Name.String(), Behind: behind})
	}
	respond(w, answer, nil)
}

func why(r *http.Request, v *view, w *manifest.Workspace) (any, error) {
	s, err := v.find(w, r.PathValue("kind"), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	d, err := v.decide(r.Context(), s)
	if err != nil {
		return nil, err
	}
	return v.why(w, d), nil
}

func history(r *http.Request, v *view, w *manifest.Workspace) (any, error) {
	s, err := v.find(w, r.PathValue("kind"), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return description.HistoryOf(w, &simulation.Decision{Workspace: s.Workspace, Workload: s.Name(), Placement: s.Placement}), nil
}

func (h *handler) playground(w http.ResponseWriter, r *http.Request) {
	var request Play
	if err := read(w, r, &request); err != nil {
		respond(w, nil, err)
		return
	}
	v, of, err := h.open(r, request.Workspace)
	if err != nil {
		respond(w, nil, err)
		return
	}
	answer, err := v.play(r.Context(), h.options.Kinds, of, &request)
	respond(w, answer, err)
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
	case err == nil:
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return &failure{http.StatusBadRequest, "the body is more than one JSON value"}
		}
		return nil
	}
	return &failure{http.StatusBadRequest, "the body is not the JSON that this takes: " + err.Error()}
}

// events tells of changes as long as the caller listens.
func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	m, err := h.model(r, r.URL.Query().Get("workspace"))
	if err != nil {
		respond(w, nil, err)
		return
	}
	if _, _, err := m.view(r.Context()); err != nil {
		respond(w, nil, err)
		return
	}
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	alive := time.NewTicker(10 * time.Second)
	defer alive.Stop()
	told := ""
	for {
		m.mu.Lock()
		v, behind, changed := m.latest, m.behind, m.changed
		m.used = time.Now()
		m.mu.Unlock()
		switch {
		case behind != nil:
			text, _ := json.Marshal(behind)
			fmt.Fprintf(w, "event: behind\ndata: %s\n\n", text)
		case v.version != told:
			fmt.Fprintf(w, "event: changed\nid: %s\ndata: {\"version\":%q}\n\n", v.version, v.version)
			told = v.version
		default:
			fmt.Fprint(w, ": \n\n")
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-alive.C:
		}
	}
}

// bearer is the token of a request; empty where it has none.
func bearer(r *http.Request) string {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		return ""
	}
	return token
}
