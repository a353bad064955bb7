package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Prometheus has the metrics of the controller. They are about all of its workspaces together, and name none.
type Prometheus struct {
	// URL of its API, without /api/v1.
	URL string
	// Client to ask with.
	Client *http.Client
}

const (
	// prometheusRange is how far back charts go, prometheusPoints how many points they have.
	prometheusRange, prometheusPoints = 6 * time.Hour, 180
	maxPrometheusBody                 = 4 << 20
	// prometheusTimeout is how long all charts may take: those that are watched wait for them.
	prometheusTimeout = 5 * time.Second
)

// queries are the charts that Prometheus adds.
var queries = []struct{ chart, name, unit, query, label string }{
	{"All workspaces: waiting workloads", "waiting", "count", "sum(placement_waiting_workloads)", ""},
	{"All workspaces: decisions a minute", "", "count", "sum by (outcome) (60 * rate(placement_decisions_total[5m]))", "outcome"},
	{"All workspaces: moves a minute", "", "count", "sum by (reason) (60 * rate(placement_moves_total[5m]))", "reason"},
	{"All workspaces: overcommitted clusters", "overcommitted", "count", "sum(placement_overcommitted_clusters)", ""},
}

// series asks for all charts.
func (p *Prometheus) series(ctx context.Context) ([]Series, error) {
	ctx, done := context.WithTimeout(ctx, prometheusTimeout)
	defer done()
	var all []Series
	now := time.Now()
	for _, q := range queries {
		found, err := p.ask(ctx, q.query, now)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("it does not answer within %v", prometheusTimeout)
		case err != nil:
			return nil, err
		}
		for _, s := range found {
			name := q.name
			if q.label != "" {
				name = s.Metric[q.label]
			}
			line := Series{Chart: q.chart, Name: name, Unit: q.unit, Points: [][2]float64{}}
			for _, at := range s.Values {
				if value, err := strconv.ParseFloat(at.value, 64); err == nil && value == value {
					line.Points = append(line.Points, [2]float64{at.at, value})
				}
			}
			all = append(all, line)
		}
	}
	return all, nil
}

// matrix is a series of an answer.
type matrix struct {
	Metric map[string]string
	Values []sample
}

// sample is a time and a value, which is a string for the sake of NaN.
type sample struct {
	at    float64
	value string
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *sample) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[2]any{&s.at, &s.value})
}

func (p *Prometheus) ask(ctx context.Context, query string, now time.Time) ([]matrix, error) {
	values := url.Values{
		"query": {query}, "start": {strconv.FormatInt(now.Add(-prometheusRange).Unix(), 10)}, "end": {strconv.FormatInt(now.Unix(), 10)},
		"step": {strconv.Itoa(int(prometheusRange.Seconds()) / prometheusPoints)},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/api/v1/query_range?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := p.Client.Do(r)
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // all errors of a client are
		return nil, fmt.Errorf("it does not answer: %w", wrapped.Err)
	}
	defer answer.Body.Close()
	var body struct {
		Status, Error string
		Data          struct{ Result []matrix }
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxPrometheusBody)).Decode(&body); err != nil {
		return nil, fmt.Errorf("it answers %s, and not as a Prometheus does", answer.Status)
	}
	if body.Status != "success" {
		return nil, fmt.Errorf("it answers %s: %s", answer.Status, body.Error)
	}
	return body.Data.Result, nil
}
