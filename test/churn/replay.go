package main

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
)

// mode is a way to move workloads that run.
type mode struct {
	name string
	// stability of the placement, as YAML.
	stability string
}

var modes = []mode{
	{"nothing moves", `{moves: Never}`},
	{"for a gain, 5 an hour", `{moves: ForGain}`},
	{"for a gain, 100 an hour", `{moves: ForGain, budget: {moves: 100, interval: 1h}}`},
	{"always the best score", `{moves: ForGain, minGain: 1, after: 0s, cooldown: 10m, budget: {moves: 10000, interval: 1s}}`},
}

// outcome is what a replay comes to.
type outcome struct {
	mode
	// changes are arrivals and departures, placed how many workloads got a cluster.
	changes, placed, moves int
	// waited is the time until each workload was placed; to the end for one that never was.
	waited []time.Duration
	// unevenness is the mean over time of the standard deviation of the use of clusters, 0 to 1.
	unevenness float64
	took       time.Duration
}

// replayer is a replay on its way.
type replayer struct {
	*trace
	outcome
	world *controller.Local
	now   time.Time
	// wake is when the controller makes a pass though nothing changes.
	wake time.Time
	// jobs by name; running are the placed ones, with their clusters, and ends when they go.
	jobs    map[string]*job
	waiting map[string]bool
	running map[string]string
	ends    departures
	used    map[string]vector
}

// replay replays the trace on passes of a controller.
func (t *trace) replay(ctx context.Context, m mode) (*outcome, error) {
	start := time.Now()
	r := &replayer{trace: t, outcome: outcome{mode: m}, now: begins, jobs: map[string]*job{}, waiting: map[string]bool{}, running: map[string]string{}, used: map[string]vector{}}
	pace := controller.DefaultPace()
	pace.Disruptions.Interval = 0 // what moves is the placement's to say
	var err error
	if r.world, err = controller.NewLocal("churn", pace, workload.Kinds(), func() time.Time { return r.now }); err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	for i := range t.workloads {
		if err := r.until(ctx, t.workloads[i].at); err != nil {
			return nil, err
		}
		r.changes++
		if err := r.arrive(&t.workloads[i]); err != nil {
			return nil, err
		}
		if err := r.settle(ctx); err != nil {
			return nil, err
		}
	}
	// It ends with the last arrival: afterwards the fleet only empties.
	for name := range r.waiting {
		r.waited = append(r.waited, r.now.Sub(r.jobs[name].at))
	}
	slices.Sort(r.waited)
	r.unevenness /= r.now.Sub(begins).Seconds()
	r.took = time.Since(start)
	return &r.outcome, nil
}

func (r *replayer) begin() error {
	for _, c := range r.clusters {
		labels := "{}"
		if c.model != "" {
			labels = "{gpu-model: " + c.model + "}"
		}
		if err := r.put(fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: %s, labels: %s}, spec: {},
			status: {allocatable: {cpu: %dm, memory: %dMi, nvidia.com/gpu: %d}, conditions: [{type: Ready, status: "True"}]}}`,
			c.name, labels, c.has[0], c.has[1], c.has[2])); err != nil {
			return err
		}
	}
	if err := r.world.Put(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"scoring.rego": policies},
		"metadata": map[string]any{"namespace": "default", "name": "scoring", "labels": map[string]any{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}},
	}}); err != nil {
		return err
	}
	return r.put(`{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default}, spec: {
		workloadSelector: {}, numberOfClusters: 1, stability: ` + r.stability + `, constraints: [{name: gpu-model, expression:
			'!("gpu-models" in workload.annotations) || cluster.labels[?"gpu-model"].orValue("") in workload.annotations["gpu-models"].split("|")'}]}}`)
}

// policies prefer clusters that are less in use: more than the built-in weights do, so that there is something to gain.
const policies = `
package placement.scoring

weights := {"capacity": 30, "performance": 70}
`

func (r *replayer) put(text string) error {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		return err
	}
	return r.world.Put(u)
}

func (r *replayer) arrive(j *job) error {
	r.jobs[j.name], r.waiting[j.name] = j, true
	annotations := "{}"
	if j.models != "" {
		annotations = fmt.Sprintf("{gpu-models: %q}", j.models)
	}
	return r.put(fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: default, annotations: %s},
		spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: %dm, memory: %dMi, nvidia.com/gpu: %d}}}]}}}}`,
		j.name, annotations, j.asks[0], j.asks[1], j.asks[2]))
}

// until has workloads go, and the controller wake up, until a time.
func (r *replayer) until(ctx context.Context, t time.Time) error {
	for {
		next := t
		if len(r.ends) > 0 && r.ends[0].at.Before(next) {
			next = r.ends[0].at
		}
		if !r.wake.IsZero() && r.wake.Before(next) {
			next = r.wake
		}
		if !next.Before(t) {
			r.advance(t)
			return nil
		}
		r.advance(next)
		for len(r.ends) > 0 && !r.ends[0].at.After(r.now) {
			if err := r.depart(heap.Pop(&r.ends).(departure).name); err != nil {
				return err
			}
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
}

// advance lets time go by.
func (r *replayer) advance(to time.Time) {
	if !to.After(r.now) {
		return
	}
	var sum, squares float64
	for _, c := range r.clusters {
		share := c.use(r.used[c.name])
		sum, squares = sum+share, squares+share*share
	}
	n := float64(len(r.clusters))
	r.unevenness += math.Sqrt(max(0, squares/n-sum/n*sum/n)) * to.Sub(r.now).Seconds()
	r.now = to
}

// use is the share in use of the resource that is used most.
func (c *cluster) use(used vector) (most float64) {
	for i, has := range c.has {
		if has > 0 {
			most = max(most, float64(used[i])/float64(has))
		}
	}
	return most
}

func (r *replayer) depart(name string) error {
	r.changes++
	r.count(r.running[name], r.jobs[name], -1)
	delete(r.running, name)
	gone := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"namespace": "default", "name": name}}}
	return r.world.Delete(gone)
}

func (r *replayer) count(cluster string, j *job, sign int64) {
	used := r.used[cluster]
	for i, amount := range j.asks {
		used[i] += sign * amount
	}
	r.used[cluster] = used
}

// settle has the controller make passes until none is due.
func (r *replayer) settle(ctx context.Context) error {
	for range 1000 {
		again, wake, err := r.world.Pass(ctx)
		if err != nil {
			return err
		}
		r.world.Events()
		for ref, d := range r.world.Decisions() {
			r.decided(ref.Name, d.Clusters[0].Name)
		}
		if !again {
			r.wake = wake
			return nil
		}
	}
	return errors.New("passes go on and on")
}

// decided takes up where a workload is.
func (r *replayer) decided(name, cluster string) {
	before, runs := r.running[name]
	j := r.jobs[name]
	switch {
	case runs && before == cluster:
		return
	case runs:
		r.moves++
		r.count(before, j, -1)
	case !r.waiting[name]:
		return // it has gone, and its decision is about to go
	default:
		r.placed++
		r.waited = append(r.waited, r.now.Sub(j.at))
		delete(r.waiting, name)
		heap.Push(&r.ends, departure{name, r.now.Add(j.lasts)})
	}
	r.running[name] = cluster
	r.count(cluster, j, 1)
}

// departure is when a workload goes.
type departure struct {
	name string
	at   time.Time
}

// departures are a heap, the first to go on top.
type departures []departure

func (d departures) Len() int { return len(d) }
func (d departures) Less(i, j int) bool {
	return d[i].at.Before(d[j].at) || d[i].at.Equal(d[j].at) && d[i].name < d[j].name
}
func (d departures) Swap(i, j int) { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *departures) Push(x any) { *d = append(*d, x.(departure)) }

// Pop implements heap.Interface.
func (d *departures) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
