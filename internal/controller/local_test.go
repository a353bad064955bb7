package controller

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/engine/workload"
)

// TestLocalWakesUpByItself: a cluster that falls silent becomes unknown and lost at the wake-up times that passes name, with no
// other pass in between, and a controller that has restarted knows what the one before has written.
func TestLocalWakesUpByItself(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l, err := NewLocal("team", DefaultPace(), workload.Kinds(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		t.Helper()
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		if err := l.Put(&u); err != nil {
			t.Fatal(err)
		}
	}
	settle := func() time.Time {
		t.Helper()
		for {
			again, wake, err := l.Pass(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !again {
				return wake
			}
		}
	}
	for _, cluster := range []string{"eu", "us"} {
		put(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: ` + cluster + `},
			status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`)
	}
	// Only eu has an agent.
	put(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: eu},
		status: {clusterUID: eu, allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}`)
	put(`{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: eu, namespace: placement-agents}, spec: {holderIdentity: eu, renewTime: "2026-01-01T00:00:00.000000Z"}}`)
	put(`{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default}, spec: {workloadSelector: {}, numberOfClusters: 1}}`)
	put(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: default}, spec: {template: {spec: {containers: [{name: main}]}}}}`)
	var story []string
	tell := func() {
		for _, e := range l.Events() {
			story = append(story, e.At.Format("4:05 ")+e.About+" "+e.Reason)
		}
	}
	for wake := settle(); !wake.IsZero() && len(story) < 9; wake = settle() {
		tell()
		now = wake
	}
	tell()
	want := []string{
		"0:00 WorkloadPlacement default/p Placed", "1:30 ClusterRegistration eu HeartbeatMissed",
		"5:00 ClusterRegistration eu ClusterLost", "5:00 Deployment default/web Moved",
	}
	if !slices.Equal(story, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
	}
	version := l.version
	if err := l.Restart(); err != nil {
		t.Fatal(err)
	}
	if settle(); l.version != version || len(l.Events()) != 0 {
		t.Error("a restart has written something")
	}
	for _, d := range l.Decisions() {
		if d.Clusters[0].Name != "us" {
			t.Errorf("%+v", d.Clusters)
		}
	}
}

// TestLocalDoesAllThatPassesDo: an action that a Local lacks would fail the pass that first takes it.
func TestLocalDoesAllThatPassesDo(t *testing.T) {
	l, err := NewLocal("team", DefaultPace(), workload.Kinds(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	all := reflect.ValueOf(l.actions())
	for i := range all.NumField() {
		if all.Field(i).IsNil() {
			t.Errorf("there is no %s", all.Type().Field(i).Name)
		}
	}
}
