package apply

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/apply"
)

// TestVanishedWork: nothing is removed for want of a Work unless the server says that this Work is gone.
func TestVanishedWork(t *testing.T) {
	t.Parallel()
	var kcp *proxy
	d := start(t, func(c *apply.Config) { kcp, c.KCP = through(t, c.KCP) })
	d.work("a", manifest(settings))
	d.work("b", manifest(keys))
	d.applied("a")
	d.applied("b")
	answer := func(text string, code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprint(w, text)
			return true
		}
	}
	listed := make(chan struct{}, 100)
	isList := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/works") }
	stays := func(why string) {
		t.Helper()
		time.Sleep(3 * time.Second)
		if d.get(configMaps, d.namespace(), "settings") == nil || d.get(secrets, d.namespace(), "keys") == nil {
			t.Fatalf("removed, though %s", why)
		}
	}
	// The next list falls short, and watches show nothing after it. None is answered once the test goes on, since the watch that follows
	// would start after what the test writes then.
	var complete atomic.Bool
	var lists sync.Mutex
	listing := false
	tamper := func(on bool) {
		lists.Lock()
		defer lists.Unlock()
		listing = on
	}
	short := func(w http.ResponseWriter, r *http.Request) bool {
		switch query := r.URL.Query(); {
		case query.Get("sendInitialEvents") != "":
			return answer(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`, http.StatusUnprocessableEntity)(w, r)
		case query.Get("watch") != "" && complete.Load():
			return answer(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}`, http.StatusGone)(w, r)
		case query.Get("watch") != "":
			<-r.Context().Done()
			return true
		}
		lists.Lock()
		defer lists.Unlock()
		if !listing {
			return false
		}
		complete.Store(false)
		list, err := d.kcp.Resource(works).List(t.Context(), metav1.ListOptions{Limit: 1})
		if err != nil {
			t.Error(err)
		}
		listed <- struct{}{}
		return answer(fmt.Sprintf(`{"apiVersion": "tmc.kcp.io/v1alpha1", "kind": "WorkList", "metadata": {"resourceVersion": %q}, "items": []}`, list.GetResourceVersion()),
			http.StatusOK)(w, r)
	}
	for why, get := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"the Works are there":          nil,
		"the resource is not served":   answer("404 page not found", http.StatusNotFound),
		"the server has no such group": answer(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "the server could not find the requested resource", "reason": "NotFound", "details": {}, "code": 404}`, http.StatusNotFound),
		"the workspace is forbidden":   answer(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "works is forbidden", "reason": "Forbidden", "details": {"name": "a", "group": "tmc.kcp.io", "kind": "works"}, "code": 403}`, http.StatusForbidden),
		"nothing is answered":          answer("", http.StatusServiceUnavailable),
	} {
		t.Log(why)
		for len(listed) > 0 {
			<-listed
		}
		complete.Store(true)
		tamper(true)
		kcp.set(false, func(w http.ResponseWriter, r *http.Request) bool {
			if isList(r) {
				return short(w, r)
			}
			return get != nil && get(w, r)
		})
		<-listed
		stays(why)
		tamper(false)
		kcp.set(false, nil)
		d.work("a", manifest(strings.Replace(settings, "red", fmt.Sprintf("%q", why), 1))) // it has recovered
		d.applied("a")
	}

	t.Log("a Work that is deleted takes with it what it had")
	d.delete("a")
	d.gone(configMaps, d.namespace(), "settings")
	if d.get(secrets, d.namespace(), "keys") == nil {
		t.Error("and what it had not")
	}
	d.delete("b")
	d.gone(namespaces, "", d.namespace())
}

// TestCutFromKCP: what runs goes on while kcp is not reached, and is kept as it was; then it converges.
func TestCutFromKCP(t *testing.T) {
	t.Parallel()
	var kcp *proxy
	d := start(t, func(c *apply.Config) { kcp, c.KCP = through(t, c.KCP) })
	d.work("a", manifest(settings), manifest(keys))
	d.applied("a")
	kcp.set(true, nil)
	d.work("a", manifest(strings.Replace(settings, "red", "blue", 1)))
	d.patch(configMaps, d.namespace(), "settings", `{"data": {"colour": "green"}}`)
	d.colour("red")
	if d.get(secrets, d.namespace(), "keys") == nil {
		t.Error("it is removed meanwhile")
	}
	kcp.set(false, nil)
	d.applied("a")
	d.colour("blue")
	d.gone(secrets, d.namespace(), "keys")
}

// TestCutFromCluster: what is decided meanwhile is carried out once the cluster is reached again, and nothing is told of it before.
func TestCutFromCluster(t *testing.T) {
	t.Parallel()
	var cluster *proxy
	d := start(t, func(c *apply.Config) { cluster, c.Cluster = through(t, c.Cluster) })
	d.work("a", manifest(settings), manifest(keys), manifest(web, placed("u-web")))
	d.applied("a")
	d.healthy("Deployment/web")
	cluster.set(true, nil)
	d.work("a", manifest(strings.Replace(settings, "red", "blue", 1)), manifest(web, placed("u-web")))
	d.status("a", "the Secret is being removed", func(s *v1alpha1.WorkStatus) bool { return len(s.Removing) == 1 && s.Failed == 0 && s.Applied == "1/2" })
	d.patch(deployments, d.namespace(), "web", `{"spec": {"replicas": 5}}`)
	time.Sleep(3 * time.Second)
	cluster.set(false, nil)
	d.applied("a")
	d.colour("blue")
	d.decided()
	d.gone(secrets, d.namespace(), "keys")
	d.status("a", "nothing is being removed", func(s *v1alpha1.WorkStatus) bool { return len(s.Removing) == 0 && s.Failed == 0 })
}

// TestLostAnswer: of an object that may have been made, though the cluster did not answer, nothing is left once no Work wants it.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	var cluster *proxy
	d := start(t, func(c *apply.Config) { cluster, c.Cluster = through(t, c.Cluster) })
	d.work("a", manifest(settings))
	d.applied("a")
	// Creating the Secret succeeds and is not answered, and no watch shows it.
	cluster.set(false, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/secrets/keys") {
			labels := fmt.Sprintf("name: keys, labels: {%s: %s, %s: %s}", v1alpha1.LabelWorkspace, d.workspace, v1alpha1.LabelCluster, d.name)
			d.inCluster(d.in(strings.Replace(keys, "name: keys", labels, 1)))
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/api/v1/secrets" {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	d.work("a", manifest(settings), manifest(keys))
	d.eventually("the Secret is made", func() bool { return d.get(secrets, d.namespace(), "keys") != nil }, func() any { return nil })
	d.work("a", manifest(settings))
	d.gone(secrets, d.namespace(), "keys")
	d.status("a", "nothing is being removed", func(s *v1alpha1.WorkStatus) bool { return len(s.Removing) == 0 })
}

// TestRestart: an agent that starts again changes nothing where nothing has changed, and catches up where something has.
func TestRestart(t *testing.T) {
	t.Parallel()
	var kcp *proxy
	d := start(t, func(c *apply.Config) { kcp, c.KCP = through(t, c.KCP) })
	d.work("a", manifest(settings), manifest(keys), manifest(web, placed("u-web")))
	d.applied("a")
	d.healthy("Deployment/web")
	versions := func() string {
		return fmt.Sprint(d.get(configMaps, d.namespace(), "settings").GetResourceVersion(), d.get(deployments, d.namespace(), "web").GetResourceVersion(),
			d.get(namespaces, "", d.namespace()).GetResourceVersion())
	}
	before, writes := versions(), kcp.writes()
	d.stop()
	d.run()
	time.Sleep(3 * time.Second)
	if after := versions(); after != before {
		t.Errorf("resource versions were %s, are %s", before, after)
	}
	if n := kcp.writes() - writes; n > 0 {
		t.Errorf("%d writes to kcp", n)
	}
	d.stop()
	d.patch(configMaps, d.namespace(), "settings", `{"data": {"colour": "green"}}`)
	d.patch(deployments, d.namespace(), "web", `{"spec": {"replicas": 5}}`)
	d.work("a", manifest(settings), manifest(web, placed("u-web")))
	d.run()
	d.colour("red")
	d.decided()
	d.gone(secrets, d.namespace(), "keys")
}

// TestOtherCluster: an agent whose registration is another cluster's leaves everything as it is.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(settings), manifest(keys))
	d.applied("a")
	d.hold(false)
	d.work("a", manifest(strings.Replace(settings, "red", "blue", 1)))
	time.Sleep(2 * time.Second)
	if d.get(secrets, d.namespace(), "keys") == nil {
		t.Error("it removes what the other cluster is to have no more")
	}
	d.hold(true)
	d.colour("blue")
	d.gone(secrets, d.namespace(), "keys")
}

// colour waits until the ConfigMap settings has it.
func (d *delivery) colour(want string) {
	d.Helper()
	d.eventually(want, func() bool {
		object := d.get(configMaps, d.namespace(), "settings")
		if object == nil {
			return false
		}
		data, _, _ := unstructured.NestedStringMap(object.Object, "data")
		return data["colour"] == want
	}, func() any { return d.get(configMaps, d.namespace(), "settings") })
}
