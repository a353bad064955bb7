package apply

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/apply"
)

// TestAnother: a workload that was deleted and made again under the same name is another one, also in the cluster.
func TestAnother(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(report, placed("u-report")))
	d.applied("a")
	first := d.healthy("Job/report")
	d.work("a", manifest(strings.Replace(report, "u-report", "u-other", 1), placed("u-other")))
	d.status("a", "the other is applied", func(s *v1alpha1.WorkStatus) bool {
		return s.Applied == "1/1" && len(s.Removing) == 0 && s.Manifests[0].WorkloadUID == "u-other" && s.Manifests[0].Revision != first.Revision
	})
}

// TestMany: a thousand objects are applied in seconds, and their status takes few writes; so do they leave.
func TestMany(t *testing.T) {
	var kcp *proxy
	d := start(t, func(c *apply.Config) { kcp, c.KCP = through(t, c.KCP) })
	const works, each = 10, 100
	started := time.Now()
	for w := range works {
		var all []v1alpha1.Manifest
		for i := range each {
			all = append(all, manifest(strings.Replace(settings, "name: settings", fmt.Sprintf("name: settings-%d-%d", w, i), 1)))
		}
		d.work(fmt.Sprintf("w%d", w), all...)
	}
	for w := range works {
		d.applied(fmt.Sprintf("w%d", w))
	}
	took := time.Since(started)
	t.Logf("%d objects are applied and told in %v by %d writes to kcp", works*each, took, kcp.writes())
	if n := kcp.writes(); n > works*int(2+took/time.Second) {
		t.Errorf("%d writes to kcp in %v", n, took)
	}
	for w := range works {
		d.work(fmt.Sprintf("w%d", w))
	}
	d.gone(namespaces, "", d.namespace())
	if list, err := d.cluster.Resource(configMaps).List(t.Context(), metav1.ListOptions{LabelSelector: v1alpha1.LabelCluster + "=" + d.name}); err != nil || len(list.Items) > 0 {
		t.Errorf("%d are left, %v", len(list.Items), err)
	}
	t.Logf("and removed after %v", time.Since(started))
}
