package console

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzhttp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// contentPolicy of the pages: they are of this server alone, and run no script but its own.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// healthPath answers whoever asks, by whatever name.
const healthPath = "/healthz"

// secured answers only who calls the console by a name of its own, so that another site cannot have a browser take it for that site,
// and adds the headers that keep a page to itself.
func secured(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch {
		case r.URL.Path != healthPath && !known(hosts, r.Host): // probes call by an address
			respond(w, r, "", nil, &failure{http.StatusMisdirectedRequest, "this console is not called " + r.Host + ": open the link that it has printed"})
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && strings.HasPrefix(r.URL.Path, "/api/"):
			respond(w, r, "", nil, &failure{http.StatusForbidden, "pages of other sites may not ask this console"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// known reports whether a host is the loopback device, or one of some names.
func known(hosts []string, host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if address, err := netip.ParseAddr(host); err == nil && address.IsLoopback() {
		return true
	}
	return host == "localhost" || slices.Contains(hosts, host) || slices.Contains(hosts, "*")
}

// compressed compresses answers, but for streams of events.
func compressed(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(1), gzhttp.ContentTypes([]string{"application/json", "application/problem+json", "text/html", "text/css", "text/javascript", "image/svg+xml", "text/plain"}))
	if err != nil {
		panic(err) // the options are constant
	}
	zipped := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/events" {
			next.ServeHTTP(w, r)
			return
		}
		zipped.ServeHTTP(w, r)
	})
}

// pages serves the pages. What is no file is an address within them.
func pages(files fs.FS) http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		if _, err := fs.Stat(files, strings.TrimPrefix(path.Clean(r.URL.Path), "/")); err != nil && path.Ext(r.URL.Path) == "" {
			http.ServeFileFS(w, r, files, "index.html")
			return
		}
		server.ServeHTTP(w, r)
	})
}

// respond writes an answer as JSON, or the error as a problem. tag identifies the answer where it is the same as long as nothing
// changes.
func respond(w http.ResponseWriter, r *http.Request, tag string, answer any, err error) {
	status, kind := http.StatusOK, "application/json"
	if err != nil {
		if r.Context().Err() != nil {
			return // nobody listens any more
		}
		status, kind = statusOf(err), "application/problem+json"
		answer = &Problem{Title: http.StatusText(status), Status: status, Detail: err.Error()}
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	if tag == "" || status != http.StatusOK {
		w.Header().Set("Cache-Control", "no-store")
	} else {
		w.Header().Set("Cache-Control", "private, no-cache")
		w.Header().Set("ETag", tag)
		w.Header().Set("Vary", "Authorization")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func statusOf(err error) int {
	var of *failure
	switch {
	case errors.As(err, &of):
		return of.status
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, errTooMany):
		return http.StatusTooManyRequests
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	switch { // of the server that is read from
	case apierrors.IsUnauthorized(err):
		return http.StatusUnauthorized
	case apierrors.IsForbidden(err):
		return http.StatusForbidden
	}
	return http.StatusBadGateway
}
