package console_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/internal/console"
)

// TestPrometheusFails: whatever is wrong with Prometheus, what the console has watched is shown, and it is said what is missing. Users
// are not told where Prometheus is.
func TestPrometheusFails(t *testing.T) {
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"down":             {nil, "it does not answer: dial tcp "},
		"hangs up":         {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "it does not answer: EOF"},
		"starts":           {answers(http.StatusServiceUnavailable, "Service Unavailable"), "it answers 503 Service Unavailable, and not as a Prometheus does"},
		"another server":   {answers(http.StatusOK, "<!doctype html>"), "it answers 200 OK, and not as a Prometheus does"},
		"refuses":          {answers(http.StatusUnprocessableEntity, `{"status":"error","error":"query timed out"}`), "it answers 422 Unprocessable Entity: query timed out"},
		"fails for a time": {answers(http.StatusOK, `{"status":"error","error":"too many samples"}`), "it answers 200 OK: too many samples"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.answer)
			defer server.Close()
			if test.answer == nil {
				server.Close()
			}
			handler := console.Handler(&console.Local{Token: secret, From: example(t, "team-ml"), Kind: "files", Name: "examples"},
				console.Options{Prometheus: &console.Prometheus{URL: server.URL, Client: server.Client()}})
			charts, status := ask[console.Charts](t, handler, "GET", "/api/v1/series", "")
			if status != http.StatusOK || charts.Source != "watched" || len(charts.Series) == 0 {
				t.Errorf("%d: %+v", status, charts)
			}
			if want := "What Prometheus knows is missing: " + test.want; !strings.HasPrefix(charts.Problem, want) || strings.Contains(charts.Problem, "http://") {
				t.Errorf("it says %q, want %q", charts.Problem, want)
			}
		})
	}
}
