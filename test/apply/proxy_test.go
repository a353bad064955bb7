package apply

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// proxy stands between an agent and a server.
type proxy struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string]int // those that write, by method and path
	// cut has every connection fail. tamper answers requests itself where it returns true.
	cut    bool
	tamper func(http.ResponseWriter, *http.Request) bool
	open   map[context.Context]context.CancelFunc
}

// through returns a configuration that reaches a server through a proxy.
func through(t *testing.T, config *rest.Config) (*proxy, *rest.Config) {
	t.Helper()
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.CAData)
	p := &proxy{requests: map[string]int{}, open: map[context.Context]context.CancelFunc{}}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 32}
	forward.FlushInterval = -1
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r = r.WithContext(ctx)
		p.mu.Lock()
		cut, tamper := p.cut, p.tamper
		p.open[ctx] = cancel
		if r.Method != http.MethodGet {
			p.requests[r.Method+" "+r.URL.Path]++
		}
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.open, ctx)
		}()
		if cut {
			panic(http.ErrAbortHandler)
		}
		if tamper == nil || !tamper(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p, &rest.Config{Host: p.URL, BearerToken: config.BearerToken}
}

// set cuts all connections, or lets them be made again, and tampers with what follows.
func (p *proxy) set(cut bool, tamper func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.tamper = cut, tamper
	for _, cancel := range p.open {
		cancel()
	}
}

// writes counts requests that write.
func (p *proxy) writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := 0
	for _, n := range p.requests {
		sum += n
	}
	return sum
}
