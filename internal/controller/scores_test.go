package controller

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

func testScore(name, cluster string, value int32, until time.Time) *v1alpha1.ClusterScore {
	s := &v1alpha1.ClusterScore{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, ClusterName: cluster,
		Scores: []v1alpha1.NamedScore{{Name: "green", Value: value}},
	}
	if !until.IsZero() {
		s.ValidUntil = &metav1.Time{Time: until}
	}
	return s
}

// TestScoresRunOut: a score decides where workloads go until the moment at which it runs out, of which nobody tells the controller.
// What has been placed by it stays, and the placement says that the score is stale.
func TestScoresRunOut(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = []*corev1.ConfigMap{{
		ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default", UID: "cm"},
		Data:       map[string]string{"a.rego": "package placement.scoring\nweights := {\"score/green\": 1}"},
	}}
	effective := func(want string) {
		t.Helper()
		w.sleep(countsEvery)
		w.pass()
		if got := w.condition(v1alpha1.EffectiveCondition); got != want {
			t.Errorf("Effective is %s, want %s", got, want)
		}
	}
	effective(`False WithoutEffect: default/cm/a.rego:2:1: no ClusterScore gives a cluster of the fleet the score "green"`)

	until := w.clock.Add(10 * time.Minute)
	w.scores = []*v1alpha1.ClusterScore{testScore("of-a", "a", -50, time.Time{}), testScore("of-b", "b", 50, until), testScore("of-none", "none", 100, time.Time{})}
	effective("True")
	w.workloads = []*workloadObject{testWorkload("early", 100)}
	if again := w.pass().after; again <= 0 || again > until.Sub(w.clock) {
		t.Errorf("the next pass is in %s, and the score runs out in %s", again, until.Sub(w.clock))
	}
	w.scores[0] = testScore("of-a", "a", 10, time.Time{})
	w.sleep(until.Sub(w.clock) - 1)
	w.workloads = append(w.workloads, testWorkload("late", 100))
	w.pass()
	w.expect(map[string]string{"early": "b", "late": "b"})

	w.sleep(1)
	w.workloads = append(w.workloads, testWorkload("stale", 100))
	w.pass()
	w.expect(map[string]string{"early": "b", "late": "b", "stale": "a"})
	effective(`False WithoutEffect: default/cm/a.rego:2:1: the score "green" has run out for 1 of 2 clusters and weighs nothing there: of cluster b at ` + until.UTC().Format(time.RFC3339))

	// Its provider has come back, and a registration with the name that a score has long been about.
	w.scores[1] = testScore("of-b", "b", 90, w.clock.Add(time.Hour))
	effective("True")
	w.clusters = append(w.clusters, testCluster("none", "8"))
	w.workloads = append(w.workloads, testWorkload("renewed", 100))
	w.pass()
	w.expect(map[string]string{"early": "b", "late": "b", "stale": "a", "renewed": "none"})

	writes := len(w.writes)
	w.pass()
	if len(w.writes) != writes {
		t.Errorf("nothing has changed, and %v is written", w.writes[writes:])
	}
}

// TestUnreadableScores: an object of which any part cannot be read has no effect as a whole, an event of it says why, once, and those
// of other providers count.
func TestUnreadableScores(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = []*corev1.ConfigMap{{
		ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default", UID: "cm"},
		Data:       map[string]string{"a.rego": "package placement.scoring\nweights := {\"score/green\": 1}"},
	}}
	for i, content := range []map[string]any{
		{"clusterName": "a", "scores": []any{map[string]any{"name": "green", "value": "high"}, map[string]any{"name": "cheap", "value": int64(1)}}},
		{"clusterName": "a", "scores": []any{map[string]any{"name": "green", "value": int64(100)}}, "validUntil": "tomorrow"},
		{"clusterName": "a", "scores": "green"},
	} {
		content["metadata"] = map[string]any{"name": "of-a", "uid": string(rune('x' + i))}
		kept, err := transform(scoreResource, nil, false)(&unstructured.Unstructured{Object: content})
		if err != nil {
			t.Fatal(err)
		}
		w.unreadable = map[types.UID]decode.Problems{}
		w.scores = append(as[*v1alpha1.ClusterScore]([]any{kept}, w.unreadable), testScore("of-b", "b", 10, time.Time{}))
		w.events = nil
		w.workloads = append(w.workloads, testWorkload("w"+string(rune('a'+i)), 100))
		w.pass()
		w.pass()
		told := 0
		for _, e := range w.events {
			if strings.HasPrefix(e, "of-a: InvalidScore: the scores have no effect: ") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("%v: %d events of %v", content, told, w.events)
		}
	}
	w.expect(map[string]string{"wa": "b", "wb": "b", "wc": "b"})
}
