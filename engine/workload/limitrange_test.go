package workload_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestDefaultRequests: what LimitRanges add to a container that asks for nothing. test/kubernetes compares this with a server.
func TestDefaultRequests(t *testing.T) {
	for name, row := range map[string]struct {
		limits []string // of one LimitRange each
		want   capacity.Resources
	}{
		"default requests":                      {[]string{`[{type: Container, defaultRequest: {cpu: 100m, memory: 1Gi}}]`}, capacity.Resources{CPU: 100, Memory: 1 << 30}},
		"a default limit stands for a request":  {[]string{`[{type: Container, default: {cpu: 200m}}]`}, capacity.Resources{CPU: 200}},
		"and the maximum for a default limit":   {[]string{`[{type: Container, max: {cpu: 300m}, min: {cpu: 10m}}]`}, capacity.Resources{CPU: 300}},
		"and the minimum if there is no other":  {[]string{`[{type: Container, min: {cpu: 50m}}]`}, capacity.Resources{CPU: 50}},
		"what is nearer to a request has it":    {[]string{`[{type: Container, defaultRequest: {cpu: 1m}, default: {cpu: 2m}, max: {cpu: 3m}, min: {cpu: 1m}}]`}, capacity.Resources{CPU: 1}},
		"a pod's and a claim's have no default": {[]string{`[{type: Pod, max: {cpu: 1}}, {type: PersistentVolumeClaim, min: {storage: 1Gi}}]`}, capacity.Resources{}},
		"several add up":                        {[]string{`[{type: Container, defaultRequest: {cpu: 100m}}]`, `[{type: Container, defaultRequest: {memory: 1Gi}}]`}, capacity.Resources{CPU: 100, Memory: 1 << 30}},
		"the largest counts where they differ":  {[]string{`[{type: Container, defaultRequest: {cpu: 100m}}]`, `[{type: Container, defaultRequest: {cpu: 700m}}]`, `[{type: Container, defaultRequest: {cpu: 300m}}]`}, capacity.Resources{CPU: 700}},
		"any resource":                          {[]string{`[{type: Container, defaultRequest: {nvidia.com/gpu: 1}}]`}, capacity.Resources{Extended: map[string]int64{"nvidia.com/gpu": 1}}},
		"nothing":                               {[]string{`[]`, `[{type: Container, defaultRequest: {cpu: 0}}]`}, capacity.Resources{}},
		// One wrong LimitRange makes no workload unreadable.
		"an amount that nobody may request": {[]string{`[{type: Container, defaultRequest: {cpu: -1, memory: 9E}}]`, `[{type: Container, defaultRequest: {cpu: 1m}}]`}, capacity.Resources{CPU: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var ranges []*corev1.LimitRange
			for _, limits := range row.limits {
				r := &corev1.LimitRange{}
				r.Namespace = "shop"
				if err := yaml.Unmarshal([]byte("limits: "+limits), &r.Spec); err != nil {
					t.Fatal(err)
				}
				ranges = append(ranges, r)
			}
			defaults := workload.DefaultRequests(ranges)
			object := workload.Kinds().Read(parse(t, `{apiVersion: v1, kind: Pod, metadata: {namespace: shop}, spec: {containers: [{name: c}]}}`))
			got, err := object.Count(defaults["shop"])
			if err != nil || !got.Requests.Equal(row.want) {
				t.Errorf("requests %+v, want %+v; %v", got.Requests, row.want, err)
			}
			if _, elsewhere := defaults["other"]; elsewhere {
				t.Error("a LimitRange counts for its namespace alone")
			}
		})
	}
}

// TestCountWithDefaults: every container that asks for none of a resource gets the default, in workloads of every kind, and counting
// again with others starts from the object.
func TestCountWithDefaults(t *testing.T) {
	defaults := corev1.ResourceList{}
	if err := yaml.Unmarshal([]byte(`{cpu: 100m, memory: 1Mi}`), &defaults); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		object      string
		with, plain capacity.Resources
	}{
		"three replicas of two containers, one with a request": {
			`{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 3, template: {spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}, {name: b}]}}}}`,
			capacity.Resources{CPU: 3300, Memory: 6 << 20}, capacity.Resources{CPU: 3000},
		},
		"a limit is a request before defaults are": {
			`{apiVersion: batch/v1, kind: Job, spec: {parallelism: 2, template: {spec: {containers: [{name: a, resources: {limits: {cpu: 50m}}}]}}}}`,
			capacity.Resources{CPU: 100, Memory: 2 << 20}, capacity.Resources{CPU: 100},
		},
		"a request of 0 is one": {
			`{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, resources: {requests: {cpu: 0, memory: 0}}}]}}`,
			capacity.Resources{}, capacity.Resources{},
		},
		"an init container that is larger, a sidecar, overhead": {
			`{apiVersion: v1, kind: Pod, spec: {overhead: {cpu: 1m}, initContainers: [{name: s, restartPolicy: Always}, {name: i, resources: {requests: {cpu: 1}}}], containers: [{name: a}]}}`,
			capacity.Resources{CPU: 1101, Memory: 2 << 20}, capacity.Resources{CPU: 1001},
		},
		"the pod as a whole": {
			`{apiVersion: v1, kind: Pod, spec: {resources: {requests: {cpu: 2}}, containers: [{name: a}]}}`,
			capacity.Resources{CPU: 2000, Memory: 1 << 20}, capacity.Resources{CPU: 2000},
		},
		"no pods": {
			`{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 0, template: {spec: {containers: [{name: a}]}}}}`,
			capacity.Resources{}, capacity.Resources{},
		},
		"pod sets of several templates": {
			`{apiVersion: leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet, spec: {replicas: 2, leaderWorkerTemplate: {size: 3, workerTemplate: {spec: {containers: [{name: a}]}}, leaderTemplate: {spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}}}}}`,
			capacity.Resources{CPU: 2400, Memory: 6 << 20}, capacity.Resources{CPU: 2000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			object := workload.Kinds().Read(parse(t, row.object))
			for _, step := range []struct {
				defaults corev1.ResourceList
				want     capacity.Resources
			}{{nil, row.plain}, {defaults, row.with}, {nil, row.plain}} {
				got, err := object.Count(step.defaults)
				if err != nil || !got.Requests.Equal(step.want) {
					t.Errorf("with %v: requests %+v, want %+v; %v", step.defaults, got.Requests, step.want, err)
				}
			}
		})
	}
	broken := workload.Kinds().Read(parse(t, `{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, resources: {requests: {cpu: -1}}}]}}`))
	if got, err := broken.Count(defaults); err == nil || got.Name != "p" || !strings.Contains(err.Error(), "containers[a].resources.requests.cpu") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCountingIsBounded: an object of some kilobytes cannot have each of its containers counted with thousands of resources.
func TestCountingIsBounded(t *testing.T) {
	defaults := corev1.ResourceList{}
	for i := range 300 {
		defaults[corev1.ResourceName(fmt.Sprint("example.com/", i))] = resource.MustParse("1")
	}
	const few, many = 100, 300
	for name, row := range map[string]struct {
		pod      func(containers int) string
		defaults corev1.ResourceList
	}{
		"defaults of LimitRanges": {func(n int) string { return "containers: [" + strings.Repeat("{name: a}, ", n) + "]" }, defaults},
		"a sidecar, which counts for each container that is started after it": {func(n int) string {
			requests := ""
			for i := range 300 {
				requests += fmt.Sprintf("hugepages-%dKi: 0, ", 4<<i%30+i)
			}
			return "containers: [{name: a}], initContainers: [{name: b, restartPolicy: Always, resources: {requests: {" + requests + "}}}, " + strings.Repeat("{name: a}, ", n) + "]"
		}, nil},
	} {
		for _, n := range []int{few, many} {
			object := workload.Kinds().Read(parse(t, "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {"+row.pod(n)+"}}"))
			_, err := object.Count(row.defaults)
			if refused := err != nil && strings.Contains(err.Error(), "spec: the containers, times the resources"); refused != (n == many) {
				t.Errorf("%s, %d containers: %v", name, n, err)
			}
		}
	}
}
