package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
)

// dividedJob is a Job whose replicas are divided, in a fleet that changes. Each of its clusters runs a copy, whose part of the
// completions is fixed at creation, as in Kubernetes.
type dividedJob struct {
	*rapid.T
	engine                *engine.Engine
	placement             *placement.Placement
	completions, replicas int64
	current               []engine.Choice
	copies                map[string]*jobCopy
	fleet                 map[string]int64
	log                   []string
}

type jobCopy struct{ part, done int64 }

const podCPU = 100

// left returns how many pods a copy with a share still runs.
func (c *jobCopy) left(share int64) int64 { return min(share, c.part-c.done) }

func (j *dividedJob) parts() (sum int64) {
	for _, c := range j.copies {
		sum += c.part
	}
	return sum
}

func (j *dividedJob) request() engine.Request {
	w := workloadOf("job", podCPU*j.replicas)
	w.Kind, w.Replicas, w.Divisible = "Job", j.replicas, true
	r := engine.Request{Workspace: ws, Placement: j.placement, Workload: w}
	for _, c := range j.current {
		if copied := j.copies[c.Name]; copied != nil {
			c.Part, c.Left = true, ptr.To(copied.part-copied.done)
		}
		r.Current = append(r.Current, c)
	}
	r.Unassigned = j.parts() < j.completions
	return r
}

// decide decides, and checks what is decided.
func (j *dividedJob) decide() {
	r := j.request()
	fail := func(format string, args ...any) {
		j.Helper()
		j.Fatalf("%s\n%s\ncurrent %v, copies %v, fleet %v, %d replicas of %d completions", fmt.Sprintf(format, args...), strings.Join(j.log, ", "), r.Current, j.told(), j.fleet, j.replicas, j.completions)
	}
	review, err := j.engine.Review(context.Background(), r)
	if err != nil {
		j.Fatal(err)
	}
	d, err := j.engine.Decide(context.Background(), r)
	if err != nil {
		j.Fatal(err)
	}
	if d.Changes() != (review != nil && review.Changes()) {
		fail("it changes: %t, reviewed %v", d.Changes(), review)
	}
	shares := map[string]int64{}
	for _, c := range d.Clusters {
		shares[c.Name] = c.Replicas
		want := podCPU * c.Replicas
		if at := slices.IndexFunc(r.Current, func(had engine.Choice) bool { return had.Name == c.Name }); at >= 0 {
			want = podCPU * min(c.Replicas, *cmp.Or(r.Current[at].Left, &c.Replicas))
		}
		if c.Replicas < 1 || c.Reserved.CPU != want {
			fail("%s has %d replicas, and %d are reserved, not %d", c.Name, c.Replicas, c.Reserved.CPU, want)
		}
	}
	lost := 0
	for name := range j.copies {
		if _, there := j.fleet[name]; !there {
			lost++
			delete(j.copies, name)
		} else if _, stays := shares[name]; !stays {
			fail("%s has a part of its own and is left", name)
		}
	}
	running, left := len(j.copies), j.completions-j.parts()
	for _, c := range d.Clusters {
		had := slices.IndexFunc(r.Current, func(had engine.Choice) bool { return had.Name == c.Name })
		switch {
		case j.copies[c.Name] == nil && had < 0 && running > 0 && left == 0:
			fail("nothing is left to complete for %s", c.Name)
		case j.copies[c.Name] != nil && left > 0 && len(j.copies) == len(r.Current)-lost && c.Replicas > max(1, r.Current[had].Replicas):
			fail("%s grows to %d, with completions that only another can take", c.Name, c.Replicas)
		}
	}
	if len(shares) > 0 && left > 0 && len(shares) == running && d.Waiting == 0 {
		fail("%d completions are no cluster's, and nothing waits: %v, %s", left, d.Clusters, d.Summary())
	}
	j.current = nil
	var added []string
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		j.current = append(j.current, engine.Choice{Name: name, Replicas: shares[name]})
		if j.copies[name] == nil {
			added = append(added, name)
		}
	}
	if len(added) > 0 && oneIn(j.T, "the copies are on their way", 3) {
		return
	}
	for i, name := range added {
		part := left / int64(len(added)-i)
		left -= part
		j.copies[name] = &jobCopy{part: part}
	}
}

func (j *dividedJob) told() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(j.copies)) {
		all = append(all, fmt.Sprintf("%s %d/%d", name, j.copies[name].done, j.copies[name].part))
	}
	return strings.Join(all, ", ")
}

func (j *dividedJob) set(name string, pods int64) {
	j.fleet[name] = pods
	if _, err := j.engine.SetCluster(ws, cluster(name, pods*podCPU)); err != nil {
		j.Fatal(err)
	}
}

// TestDividedJobsComplete: pods of a divided Job succeed, it is scaled, and clusters are lost, arrive and run short of room. Each
// copy goes on for as long as its cluster exists, and the part of a lost cluster goes to another one, so that the Job completes
// once the fleet has room.
//
// Invariants:
//   - a cluster with a part of the completions is never left, and has at least one replica,
//   - what is reserved there shrinks as its pods succeed,
//   - no cluster joins if nothing is left for it to complete, and completions that belong to no cluster wait for one that can take them.
func TestDividedJobsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &dividedJob{T: t, engine: newEngine(t, engine.Options{}), copies: map[string]*jobCopy{}, fleet: map[string]int64{}}
		names := []string{"a", "b", "c", "d", "e"}
		for _, name := range names {
			j.set(name, rapid.Int64Range(1, 8).Draw(t, "pods of "+name))
		}
		scheduling := &v1alpha1.ReplicaScheduling{
			Type:          v1alpha1.ReplicasDivided,
			Division:      draw(t, "division", v1alpha1.DivideEven, v1alpha1.DivideAggregated, v1alpha1.DivideFreeCapacity, v1alpha1.DivideOverflow, v1alpha1.DivideWeighted),
			MinPerCluster: int32(rapid.IntRange(1, 2).Draw(t, "min")), Partial: rapid.Bool().Draw(t, "partial"),
		}
		if scheduling.Division == v1alpha1.DivideWeighted {
			scheduling.Weights = []v1alpha1.ClusterWeight{{ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a", "b"}}, Weight: 2}, {Weight: 1}}
		}
		numbers := []intstr.IntOrString{intstr.FromInt32(2), intstr.FromInt32(3), intstr.FromString("All")}
		number := func() {
			j.placement = compile(t, j.engine, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(draw(t, "clusters", numbers...)), ReplicaScheduling: scheduling})
		}
		number()
		j.completions = rapid.Int64Range(1, 30).Draw(t, "completions")
		j.replicas = min(j.completions, rapid.Int64Range(1, 10).Draw(t, "replicas"))
		succeed := func() {
			for _, c := range j.current {
				if copied := j.copies[c.Name]; copied != nil {
					copied.done += rapid.Int64Range(0, copied.left(c.Replicas)).Draw(t, "succeed")
				}
			}
		}
		for range 12 {
			step, name := draw(t, "step", "succeed", "succeed", "scale", "lose", "come", "resize", "number"), draw(t, "cluster", names...)
			j.log = append(j.log, step+" "+name)
			switch _, there := j.fleet[name]; step {
			case "succeed":
				succeed()
			case "scale":
				j.replicas = min(j.completions, rapid.Int64Range(1, 10).Draw(t, "replicas"))
			case "lose":
				delete(j.fleet, name)
				j.engine.RemoveCluster(ws, name)
			case "come", "resize":
				if there == (step == "resize") {
					j.set(name, rapid.Int64Range(1, 8).Draw(t, "pods"))
				}
			case "number":
				number()
			}
			j.decide()
		}
		// Without further changes, with room everywhere and a cluster that is still unused, it completes.
		j.placement = compile(t, j.engine, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromString("All")), ReplicaScheduling: scheduling})
		for _, name := range append(names, "f") {
			j.set(name, 100)
		}
		done := func() (sum int64) {
			for _, c := range j.copies {
				sum += c.done
			}
			return sum
		}
		for range 4 * (j.completions + 5) {
			j.decide()
			for _, c := range j.current {
				if copied := j.copies[c.Name]; copied != nil && copied.left(c.Replicas) > 0 {
					copied.done++
				}
			}
		}
		if done() != j.completions {
			t.Fatalf("%d of %d have succeeded: %s\n%s", done(), j.completions, j.told(), strings.Join(j.log, ", "))
		}
	})
}
