package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func sliceKey(name string) workloadKey {
	return workloadKey{apiVersion: "apps/v1", kind: "Deployment", namespace: "default", name: name}
}

// decisionOf is a decision that is known by its version, on clusters whose names take so many bytes each.
func decisionOf(name string, version, clusters, bytes int) v1alpha1.WorkloadDecision {
	d := v1alpha1.WorkloadDecision{
		Workload:           v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name, UID: types.UID(name)},
		Reserved:           corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("4Gi")},
		PolicyDigest:       strings.Repeat("a", 64),
		InputsDigest:       strings.Repeat("b", 32),
		SnapshotGeneration: int64(version),
		DecidedAt:          metav1.NewTime(time.Unix(1_000_000+int64(version)/4, 0)), // several in a second
	}
	for i := range clusters {
		d.Clusters = append(d.Clusters, v1alpha1.ClusterDecision{
			Name: fmt.Sprintf("%0*d", bytes, i), Replicas: 3, Score: 87, Reason: "Excellent", ReservationExpiredAt: &d.DecidedAt,
		})
	}
	return d
}

// sliceServer is an API server that may fail before or after a write, and checks what every write makes of the decisions.
type sliceServer struct {
	*rapid.T
	limits  sliceLimits
	stored  map[types.NamespacedName]*v1alpha1.PlacementDecision
	version int
	// wanted are the workloads that are to have a decision, with its placement. must are the latest versions of their
	// decisions that have been durable: each, or a later one, has to be durable at all times.
	must   map[workloadKey]int64
	wanted map[workloadKey]types.NamespacedName
	// told is what is told of the delivery of each workload.
	told map[workloadKey]map[string]v1alpha1.ClusterDelivery
	now  time.Time
}

func (s *sliceServer) load() *store {
	return newStore(slices.SortedFunc(maps.Values(s.stored), func(a, b *v1alpha1.PlacementDecision) int { return strings.Compare(a.Name, b.Name) }), s.now, s.limits)
}

// publish writes what has changed, as a workspace does. It returns false after a failure: all else is unknown then.
func (s *sliceServer) publish(st *store, fails func() (before, after bool)) bool {
	for key, r := range st.records {
		made, durable := r.current, st.published(key)
		if st.setDelivery(key, s.told[key]); r.current != made || st.published(key) != durable {
			s.Fatalf("what is told of %s makes another decision", key.name)
		}
	}
	st.assign()
	st.reportDue(s.now)
	return st.flush(st.pending(), func(sl *slice, content map[workloadKey]*entry) bool {
		before, after := fails()
		if before {
			return false
		}
		var written *v1alpha1.PlacementDecision
		if len(content) > 0 {
			written = st.object(sl, content)
			s.version++
			written.ResourceVersion = fmt.Sprint(s.version)
			s.stored[sl.name] = written
		} else {
			delete(s.stored, sl.name)
		}
		s.check()
		if after {
			return false
		}
		st.wrote(sl, written, content, s.now)
		return true
	})
}

// check holds every durable state to what a reader relies on.
func (s *sliceServer) check() {
	durable := map[workloadKey]int64{}
	for name, object := range s.stored {
		if n := len(object.Decisions); n == 0 || n > s.limits.decisions || n != int(object.Count) {
			s.Fatalf("%s has %d decisions and says %d", name, n, object.Count)
		}
		bytes := 0
		for _, d := range object.Decisions {
			decision, _ := withoutDelivery(d)
			encoded, _ := json.Marshal(decision)
			bytes += len(encoded) + 1
			key := keyIn("default", d.Workload)
			durable[key] = max(durable[key], d.SnapshotGeneration)
		}
		if bytes > s.limits.bytes && len(object.Decisions) > 1 {
			s.Fatalf("%s has %d bytes", name, bytes)
		}
	}
	for key, version := range s.must {
		if durable[key] < version {
			s.Fatalf("%s has vanished: version %d was published, %d is durable", key.name, version, durable[key])
		}
	}
	for key := range s.wanted {
		s.must[key] = durable[key]
	}
}

// TestSlices drives a store at random: decisions are made, changed, given to another placement and taken back, writes fail
// before or after they take effect, and after that the store is read anew, as it is after a crash. No decision that was
// published ever vanishes, no slice exceeds its limits, and once nothing fails, exactly the current decisions are durable,
// each once, in a form that a restart does not write again. What is told of delivery in between is durable in the end, and no decision is another for that.
func TestSlices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := sliceLimits{decisions: rapid.IntRange(1, 8).Draw(t, "decisions"), bytes: 3000, youngBytes: 1500}
		limits.youngDecisions = rapid.IntRange(1, limits.decisions).Draw(t, "young")
		server := &sliceServer{T: t, limits: limits, stored: map[types.NamespacedName]*v1alpha1.PlacementDecision{}, must: map[workloadKey]int64{}, wanted: map[workloadKey]types.NamespacedName{}, told: map[workloadKey]map[string]v1alpha1.ClusterDelivery{}, now: time.Unix(1_000_000, 0)}
		st := server.load()
		version := 0
		name := rapid.Custom(func(t *rapid.T) workloadKey {
			return sliceKey(fmt.Sprintf("w%02d", rapid.IntRange(0, 20).Draw(t, "name")))
		})
		put := func(t *rapid.T) {
			version++
			key := name.Draw(t, "workload")
			server.wanted[key] = types.NamespacedName{Namespace: "default", Name: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "placement")}
			st.put(key, server.wanted[key], decisionOf(key.name, version, rapid.IntRange(1, 4).Draw(t, "clusters"), rapid.SampledFrom([]int{10, 10, 100, 900}).Draw(t, "bytes")))
		}
		never := func() (bool, bool) { return false, false }
		publish := func(fails func() (bool, bool)) {
			if server.publish(st, fails) {
				return
			}
			// What is read counts: decisions that were not written are lost, and those that were not deleted are back.
			st = server.load()
			clear(server.wanted)
			for key, r := range st.records {
				server.wanted[key] = r.current.placement
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"a decision": put,
			"many decisions": func(t *rapid.T) {
				for range 15 {
					put(t)
				}
			},
			"a decision goes": func(t *rapid.T) {
				key := name.Draw(t, "workload")
				st.remove(key)
				delete(server.wanted, key)
				delete(server.must, key)
			},
			"something is told": func(t *rapid.T) {
				server.told[name.Draw(t, "workload")] = map[string]v1alpha1.ClusterDelivery{
					fmt.Sprintf("%0*d", 10, 0): {Health: v1alpha1.HealthInProgress, Message: rapid.SampledFrom([]string{"", "1 of 3 are ready", "2 of 3 are ready"}).Draw(t, "message")},
				}
			},
			"time passes": func(*rapid.T) { server.now = server.now.Add(time.Second) },
			"publish":     func(*rapid.T) { publish(never) },
			"publish and fail": func(t *rapid.T) {
				left, after := rapid.IntRange(0, 3).Draw(t, "after writes"), rapid.Bool().Draw(t, "written")
				publish(func() (bool, bool) {
					left--
					return left == -1 && !after, left == -1 && after
				})
			},
		})
		publish(never)
		server.now = server.now.Add(reportEvery + v1alpha1.MaxDecisionsPerSlice*reportEach)
		publish(never)
		got := map[workloadKey]types.NamespacedName{}
		for _, object := range server.stored {
			for _, d := range object.Decisions {
				key := keyIn("default", d.Workload)
				if _, twice := got[key]; twice {
					t.Fatalf("%s is in two slices", key.name)
				}
				got[key] = types.NamespacedName{Namespace: "default", Name: object.PlacementName}
				for _, c := range d.Clusters {
					if told, found := server.told[key][c.Name]; found != (c.Delivery != nil) || found && *c.Delivery != told {
						t.Fatalf("%s says %v of %s, and %v is told", key.name, c.Delivery, c.Name, told)
					}
				}
			}
		}
		if !maps.Equal(got, server.wanted) {
			t.Fatalf("durable %v, want %v", got, server.wanted)
		}
		server.publish(server.load(), func() (bool, bool) {
			t.Fatal("a restart writes")
			return true, true
		})
	})
}

// TestSliceSize: a hundred decisions on a hundred clusters with the longest names are 3 MB, and etcd takes 1.5.
func TestSliceSize(t *testing.T) {
	st := newStore(nil, time.Now(), defaultLimits)
	p := types.NamespacedName{Namespace: "default", Name: "p"}
	for i := range 100 {
		name := fmt.Sprintf("workload-%03d", i)
		st.put(sliceKey(name), p, decisionOf(name, i, 100, 253))
	}
	st.assign()
	n := 0
	for _, sl := range st.sorted() {
		content, _, _ := st.content(sl)
		object, err := json.Marshal(st.object(sl, content))
		if err != nil || len(object) > 520<<10 {
			t.Errorf("%s: %d decisions in %d bytes, %v", sl.name, len(content), len(object), err)
		}
		n += len(content)
	}
	if n != 100 {
		t.Errorf("%d decisions have a slice", n)
	}
}

// TestSteadyStream: one decision after the other costs a few kilobytes each, in little more than one write; slices are full all
// the same.
func TestSteadyStream(t *testing.T) {
	server := &sliceServer{limits: defaultLimits, stored: map[types.NamespacedName]*v1alpha1.PlacementDecision{}}
	st := server.load()
	const decisions = 500
	writes, bytes := 0, 0
	for i := range decisions {
		name := fmt.Sprintf("w%05d", i)
		st.put(sliceKey(name), types.NamespacedName{Namespace: "default", Name: "p"}, decisionOf(name, i, 1, 20))
		before := maps.Clone(server.stored)
		server.publish(st, func() (bool, bool) { writes++; return false, false })
		for name, object := range server.stored {
			if before[name] != object {
				encoded, _ := json.Marshal(object)
				bytes += len(encoded)
			}
		}
	}
	if each := bytes / decisions; each > 8<<10 {
		t.Errorf("%d bytes written for each decision", each)
	}
	if writes > decisions*115/100 {
		t.Errorf("%d writes for %d decisions", writes, decisions)
	}
	if len(server.stored) > decisions/100+2 {
		t.Errorf("%d slices", len(server.stored))
	}
	t.Logf("%d bytes and %.2f writes for each decision, in %d slices", bytes/decisions, float64(writes)/decisions, len(server.stored))
}

// TestSummary: the column WHERE of kubectl get placementdecisions fits on a line, however many workloads there are.
func TestSummary(t *testing.T) {
	on := func(workload string, clusters ...string) v1alpha1.WorkloadDecision {
		d := v1alpha1.WorkloadDecision{Workload: v1alpha1.WorkloadReference{Name: workload}}
		for _, name := range clusters {
			d.Clusters = append(d.Clusters, v1alpha1.ClusterDecision{Name: name})
		}
		return d
	}
	shares := on("batch", "x", "y")
	shares.Clusters[0].Replicas, shares.Clusters[1].Replicas, shares.WaitingReplicas = 4, 2, 1
	shares.Divided = true
	everywhere := on("wide")
	for i := range v1alpha1.MaxDecisionsPerSlice {
		everywhere.Clusters = append(everywhere.Clusters, v1alpha1.ClusterDecision{Name: fmt.Sprintf("cluster-%03d", i)})
	}
	for _, test := range []struct {
		decisions []v1alpha1.WorkloadDecision
		want      string
	}{
		{nil, ""},
		{[]v1alpha1.WorkloadDecision{shares}, "batch: x x4, y x2 (1 replica waits)"},
		{[]v1alpha1.WorkloadDecision{shares, shares, on("b", "y"), on("c", "y")}, "(2 replicas wait) y 4, x 2"},
		{[]v1alpha1.WorkloadDecision{on("web", "frankfurt", "dublin")}, "web: frankfurt, dublin"},
		{[]v1alpha1.WorkloadDecision{on("a", "paris"), on("b", "dublin")}, "a: paris; b: dublin"},
		{[]v1alpha1.WorkloadDecision{on("a", "x"), on("b", "y"), on("c", "z", "y"), on("d", "y")}, "y 3, x 1, z 1"},
		{[]v1alpha1.WorkloadDecision{everywhere}, "wide: cluster-000, cluster-001, cluster-002, cluster-003, cluster-004, cluster-005, " +
			"cluster-006, cluster-007, cluster-008, cluster-009, cluster-010, cluster-011, cluster-012, cluster-013, cluster-014,..."},
	} {
		if got := summary(test.decisions); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// TestSliceNamesBesideKeptOnes: no slice gets the name of one that the workspace keeps for another.
func TestSliceNamesBesideKeptOnes(t *testing.T) {
	kept := keep("red", &v1alpha1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0"}, PlacementName: "web"})
	st := newStore(nil, time.Now(), defaultLimits)
	st.avoid([]*v1alpha1.PlacementDecision{kept})
	placement := types.NamespacedName{Namespace: kept.Namespace, Name: "red.shop.web"}
	st.put(workloadKey{"apps/v1", "Deployment", placement.Namespace, "w"}, placement, v1alpha1.WorkloadDecision{})
	st.assign()
	for name := range st.slices {
		if name.Name != "red.shop.web-1" {
			t.Errorf("a slice of %s is named %s, beside %s", placement, name.Name, kept.Name)
		}
	}
}
