package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// apiServer is an API server as far as informers and the controller need it. It has no schemas and no validation.
type apiServer struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	version int
	// objects by resource, as in "deployments", and key.
	objects map[string]map[string]*unstructured.Unstructured
	// history is all that has happened: a watch goes on where a list has ended.
	history []change
	watches []*serverWatch
	// deaf makes watches that are opened now stay open and never deliver, mute leaves them unanswered.
	deaf, mute bool
	// withheld is a resource whose watches show nothing for now; they have to list anew.
	withheld string
	// short is a resource of which lists over all clusters show nothing.
	short string
	// refuse, if set, answers requests with an error.
	refuse func(r *http.Request) *apierrors.StatusError
	// requests are those that came, as in "GET deployments" or "WATCH deployments".
	requests map[string]int
}

// change of an object, as watches show it.
type change struct {
	resource string
	version  int
	event    metav1.WatchEvent
}

type serverWatch struct {
	resource string
	deaf     bool
	events   chan metav1.WatchEvent
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{t: t, objects: map[string]map[string]*unstructured.Unstructured{}, requests: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *apiServer) config() *rest.Config { return &rest.Config{Host: s.URL, QPS: -1} }

// target is what a request is about.
type target struct{ cluster, namespace, resource, name, subresource string }

func (t target) key() string { return t.cluster + "|" + t.namespace + "/" + t.name }

func parseTarget(path string) target {
	var t target
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "clusters" {
		t.cluster, parts = parts[1], parts[2:]
	}
	if parts[0] == "api" {
		parts = parts[2:]
	} else {
		parts = parts[3:]
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		t.namespace, parts = parts[1], parts[2:]
	}
	parts = append(parts, "", "")
	t.resource, t.name, t.subresource = parts[0], parts[1], parts[2]
	return t
}

// put stores an object as another client would.
func (s *apiServer) put(resource, cluster string, object runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		s.t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	s.store(target{cluster: cluster, namespace: u.GetNamespace(), resource: resource, name: u.GetName()}, u)
}

func (s *apiServer) remove(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(target{cluster: "shop", namespace: namespace, resource: resource, name: name})
}

// stored returns the objects of a resource.
func (s *apiServer) stored(resource string) []*unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.objects[resource]))
}

func (s *apiServer) requested(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[what]
}

// set changes how the server behaves.
func (s *apiServer) set(change func(*apiServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *apiServer) store(t target, u *unstructured.Unstructured) *unstructured.Unstructured {
	u = u.DeepCopy()
	s.version++
	u.SetResourceVersion(strconv.Itoa(s.version))
	if t.cluster != "" {
		annotations := u.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations["kcp.io/cluster"] = t.cluster
		u.SetAnnotations(annotations)
	}
	event := "MODIFIED"
	if current := s.objects[t.resource][t.key()]; current != nil {
		u.SetUID(current.GetUID())
	}
	if s.objects[t.resource] == nil {
		s.objects[t.resource] = map[string]*unstructured.Unstructured{}
	}
	if s.objects[t.resource][t.key()] == nil {
		event = "ADDED"
		if u.GetUID() == "" {
			u.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version)))
		}
	}
	s.objects[t.resource][t.key()] = u
	s.send(t.resource, event, u)
	return u
}

func (s *apiServer) drop(t target) {
	u := s.objects[t.resource][t.key()]
	if u == nil {
		return
	}
	delete(s.objects[t.resource], t.key())
	s.version++
	u = u.DeepCopy()
	u.SetResourceVersion(strconv.Itoa(s.version))
	s.send(t.resource, "DELETED", u)
}

func (s *apiServer) send(resource, event string, u *unstructured.Unstructured) {
	c := change{resource, s.version, metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Object: u.DeepCopy()}}}
	s.history = append(s.history, c)
	for _, w := range s.watches {
		if w.resource == resource && !w.deaf && resource != s.withheld {
			w.events <- c.event
		}
	}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := parseTarget(r.URL.Path)
	watching := r.URL.Query().Get("watch") == "true"
	s.mu.Lock()
	verb := r.Method
	if watching {
		verb = "WATCH"
	}
	s.requests[verb+" "+t.resource]++
	if s.refuse != nil {
		if err := s.refuse(r); err != nil {
			s.mu.Unlock()
			answer(w, int(err.ErrStatus.Code), &err.ErrStatus)
			return
		}
	}
	if watching {
		s.watch(w, r, t) // unlocks
		return
	}
	defer s.mu.Unlock()
	current := s.objects[t.resource][t.key()]
	group := schema.GroupResource{Resource: t.resource}
	fail := func(err *apierrors.StatusError) { answer(w, int(err.ErrStatus.Code), &err.ErrStatus) }
	switch {
	case r.Method == http.MethodGet && t.name == "":
		answer(w, http.StatusOK, s.list(r, t))
	case r.Method == http.MethodPost:
		var u unstructured.Unstructured
		if err := json.NewDecoder(r.Body).Decode(&u.Object); err != nil {
			fail(apierrors.NewBadRequest(err.Error()))
			return
		}
		t.name = u.GetName()
		if s.objects[t.resource][t.key()] != nil {
			fail(apierrors.NewAlreadyExists(group, t.name))
			return
		}
		answer(w, http.StatusCreated, s.store(t, &u))
	case current == nil:
		fail(apierrors.NewNotFound(group, t.name))
	case r.Method == http.MethodGet:
		answer(w, http.StatusOK, metadataOnly(r, current))
	case r.Method == http.MethodDelete:
		s.drop(t)
		answer(w, http.StatusOK, &metav1.Status{Status: metav1.StatusSuccess})
	default: // PUT or PATCH
		var change map[string]any
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
			fail(apierrors.NewBadRequest(err.Error()))
			return
		}
		updated := &unstructured.Unstructured{Object: change}
		if version := updated.GetResourceVersion(); version != "" && version != current.GetResourceVersion() {
			fail(apierrors.NewConflict(group, t.name, fmt.Errorf("changed")))
			return
		}
		if r.Method == http.MethodPatch {
			updated = current.DeepCopy()
			merge(updated.Object, change)
		}
		answer(w, http.StatusOK, s.store(t, updated))
	}
}

func (s *apiServer) list(r *http.Request, t target) any {
	items := slices.SortedFunc(maps.Values(s.objects[t.resource]), func(a, b *unstructured.Unstructured) int {
		return strings.Compare(a.GetAnnotations()["kcp.io/cluster"]+a.GetName(), b.GetAnnotations()["kcp.io/cluster"]+b.GetName())
	})
	items = slices.DeleteFunc(items, func(u *unstructured.Unstructured) bool {
		return t.cluster != "*" && u.GetAnnotations()["kcp.io/cluster"] != t.cluster || t.cluster == "*" && t.resource == s.short
	})
	offset, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	items = items[min(offset, len(items)):]
	meta := map[string]any{"resourceVersion": strconv.Itoa(s.version)}
	if limit, _ := strconv.Atoi(r.URL.Query().Get("limit")); limit > 0 && limit < len(items) {
		items = items[:limit]
		meta["continue"] = strconv.Itoa(offset + limit)
	}
	shown := make([]any, len(items))
	for i, u := range items {
		shown[i] = metadataOnly(r, u)
	}
	list := map[string]any{"apiVersion": "v1", "kind": "List", "metadata": meta, "items": shown}
	if len(items) > 0 {
		list["apiVersion"], list["kind"] = items[0].GetAPIVersion(), items[0].GetKind()+"List"
	}
	if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
		list["apiVersion"], list["kind"] = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	return list
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, t target) {
	if r.URL.Query().Get("sendInitialEvents") != "" {
		s.mu.Unlock()
		err := apierrors.NewInvalid(schema.GroupKind{}, t.resource, nil)
		answer(w, int(err.ErrStatus.Code), &err.ErrStatus)
		return
	}
	watch := &serverWatch{resource: t.resource, deaf: s.deaf || s.mute, events: make(chan metav1.WatchEvent, 10_000)}
	if since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")); !watch.deaf {
		for _, c := range s.history {
			if c.resource == t.resource && c.version > since {
				watch.events <- c.event
			}
		}
	}
	s.watches = append(s.watches, watch)
	mute := s.mute
	s.mu.Unlock()
	if mute {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	defer s.set(func(s *apiServer) {
		s.watches = slices.DeleteFunc(s.watches, func(o *serverWatch) bool { return o == watch })
	})
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-watch.events:
			if json.NewEncoder(w).Encode(event) != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

// metadataOnly is an object as the request asks for it.
func metadataOnly(r *http.Request, u *unstructured.Unstructured) map[string]any {
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		return u.Object
	}
	return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": u.Object["metadata"]}
}

func merge(into, change map[string]any) {
	for key, value := range change {
		inner, isMap := value.(map[string]any)
		if before, ok := into[key].(map[string]any); ok && isMap {
			merge(before, inner)
		} else {
			into[key] = value
		}
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	if status, ok := body.(*metav1.Status); ok {
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	}
	if u, ok := body.(*unstructured.Unstructured); ok {
		body = u.Object
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
