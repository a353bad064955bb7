package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	enginemetrics "github.com/kcp-placement/placement/engine/metrics"
	"github.com/kcp-placement/placement/internal/agent"
	"github.com/kcp-placement/placement/internal/controller"
)

// TestAlerts: the alerting rules of docs/operations.md can be parsed, and each asks for metrics and labels that the programs have.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "```yaml\ngroups:")
	rules, _, _ = strings.Cut(rules, "```")
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict([]byte("groups:"+rules), &file); err != nil || len(file.Groups) != 1 || len(file.Groups[0].Rules) < 10 {
		t.Fatalf("%+v: %v", file, err)
	}
	known := labels{}
	known.collect(t)
	for _, rule := range file.Groups[0].Rules {
		expr, err := metricsql.Parse(rule.Expr)
		if err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
			continue
		}
		asked := 0
		metricsql.VisitAll(expr, func(e metricsql.Expr) {
			metric, is := e.(*metricsql.MetricExpr)
			if !is {
				return
			}
			for _, filters := range metric.LabelFilterss {
				asked++
				known.expect(t, rule.Alert, filters)
			}
		})
		if asked == 0 {
			t.Errorf("%s asks for no metric: %s", rule.Alert, rule.Expr)
		}
	}
}

// labels of metrics by their names.
type labels map[string]string

// collect finds out which metrics the programs register.
func (l labels) collect(t *testing.T) {
	at := &rest.Config{Host: "https://nowhere.invalid"}
	if _, err := controller.New(controller.Config{Provider: at, Registry: l}); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.New(agent.Config{Cluster: at, KCP: at, Registration: &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: "eu"}}, Registry: l}); err != nil {
		t.Fatal(err)
	}
	l.MustRegister(enginemetrics.New())
}

// series are the suffixes of the series of histograms.
var series = regexp.MustCompile(`_(bucket|count|sum)$`)

func (l labels) expect(t *testing.T, alert string, filters []metricsql.LabelFilter) {
	name := series.ReplaceAllString(filters[0].Value, "")
	has, found := l[name]
	if !found {
		t.Errorf("%s: there is no metric %s", alert, name)
	}
	for _, f := range filters[1:] {
		if !strings.Contains(has, " "+f.Label+" ") {
			t.Errorf("%s: %s has no label %s, but%s", alert, name, f.Label, has)
		}
	}
}

// described matches a description of a metric, as client_golang writes it.
var described = regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{([^}]*)\}`)

// Register implements prometheus.Registerer.
func (l labels) Register(c prometheus.Collector) error {
	all := make(chan *prometheus.Desc)
	go func() {
		c.Describe(all)
		close(all)
	}()
	for d := range all {
		parts := described.FindStringSubmatch(d.String())
		l[parts[1]] = " " + strings.ReplaceAll(parts[2], ",", " ") + " "
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (l labels) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = l.Register(c) // never fails
	}
}

// Unregister implements prometheus.Registerer.
func (l labels) Unregister(prometheus.Collector) bool { return false }
