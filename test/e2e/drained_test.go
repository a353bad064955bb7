package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestAClusterIsDrained: what runs on a cluster leaves it for another one, its copy goes once the new one is ready, and a Job that has
// completed is in nobody's way. The status says so to the end and has nothing of before. A second drain has no deadline of the first.
func TestAClusterIsDrained(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newTeam(t))
	f.apply(pinnedTo("web", "east"), app("web", 2, "nginx:1"), pinnedTo("report", "east"), `
apiVersion: batch/v1
kind: Job
metadata: {name: report, namespace: default, labels: {app: report}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}
`)
	f.eventually("it runs", "east web 2/2", f.running)
	f.eventually("the Job has completed", "True", func() string {
		out, _ := f.kubectl("get", "job", "report", "-o", `jsonpath={.status.conditions[?(@.type=="Complete")].status}`)
		return out
	})
	f.apply(placement("web", "numberOfClusters: 1"), placement("report", "numberOfClusters: 1"))

	if out := f.kubectlPlacement("drain", "east", "--deadline", "1h", "--wait"); !strings.HasSuffix(out, "\neast is drained\n") {
		t.Errorf("it says %q", out)
	}
	f.eventually("it runs elsewhere", "west web 2/2", f.running)
	if got := f.placed(); got["Deployment web"] != "west" || got["Job report"] != "east" {
		t.Errorf("placed %v", got)
	}
	east := func() *v1alpha1.ClusterRegistration {
		u, err := f.client.Resource(clusters).Get(t.Context(), "east", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return as[v1alpha1.ClusterRegistration](f.team, u)
	}
	status := func() string {
		text, err := json.Marshal(east().Status.Drain)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	f.eventually("nothing is left in the status", `{"remaining":0}`, status)
	f.kubectlPlacement("drain", "east", "--wait")
	if drain := east().Spec.Drain; drain == nil || drain.Deadline != nil {
		t.Errorf("a second drain is %+v", drain)
	}
	f.kubectlPlacement("uncordon", "east")
	f.eventually("nothing of the drain remains", "null", status)
}
