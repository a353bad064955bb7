package agent

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
)

// A cluster of the size that Kubernetes is made for at most.
const (
	benchNodes     = 5_000
	benchPods      = 100_000
	benchWorkloads = 5_000
)

// benchPod is a pod as it comes from the server.
func benchPod(i int) *corev1.Pod {
	p := testPod(fmt.Sprintf("workload-%d-7d4b9c6f5d-%05d", i%benchWorkloads, i), fmt.Sprintf("node-%04d.eu-central.example.com", i%benchNodes),
		requesting("cpu", "250m", "memory", "512Mi"), of(fmt.Sprintf("00000000-0000-4000-8000-%012d", i%benchWorkloads)))
	p.UID = "11111111-0000-4000-8000-000000000000"
	return p
}

func benchNode(i int) *corev1.Node {
	name := fmt.Sprintf("node-%04d.eu-central.example.com", i)
	labels := []string{
		"kubernetes.io/hostname", name, "kubernetes.io/arch", "amd64", "kubernetes.io/os", "linux", "example.com/serial", fmt.Sprint("serial-", i),
		"topology.kubernetes.io/region", "eu-central", "topology.kubernetes.io/zone", fmt.Sprint("eu-central-", i%3), "node.kubernetes.io/instance-type", fmt.Sprint("type-", i%5),
		"example.com/rack", fmt.Sprint("rack-", i%250), "example.com/pool", fmt.Sprint("pool-", i%7),
	}
	for j := range 20 { // as node feature discovery sets
		labels = append(labels, fmt.Sprint("feature.node.kubernetes.io/cpu-cpuid.", j), fmt.Sprint(i%2 == j%2))
	}
	return testNode(name, labelled(labels...), having("cpu", "32", "memory", "128Gi", "pods", "110", "ephemeral-storage", "100Gi", "nvidia.com/gpu", "4"))
}

func benchCluster(b *testing.B) *cluster {
	c := newClusterFor(fake.NewClientset().CoreV1(), DefaultInterval, nil, clock.RealClock{})
	nodes, pods := c.nodeStore(), c.podStore()
	for i := range benchNodes {
		if err := nodes.Add(benchNode(i)); err != nil {
			b.Fatal(err)
		}
	}
	for i := range benchPods {
		if err := pods.Add(benchPod(i)); err != nil {
			b.Fatal(err)
		}
	}
	c.nodes.synced, c.pods.synced, c.uid, c.answered = true, true, "cluster", time.Now().Add(time.Hour)
	return c
}

// BenchmarkMemory measures what the agent keeps of 5,000 nodes and 100,000 pods.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := benchCluster(b)
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(c)
		b.StartTimer()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-live")
	}
}

// BenchmarkPodEvent measures a pod that comes and goes, in a cluster of that size.
func BenchmarkPodEvent(b *testing.B) {
	pods, pod := benchCluster(b).podStore(), benchPod(benchPods)
	b.ReportAllocs()
	for b.Loop() {
		if pods.Add(pod) != nil || pods.Delete(pod) != nil {
			b.Fatal("it is not taken")
		}
	}
}

// BenchmarkReport measures to sum up and compare a cluster of that size.
func BenchmarkReport(b *testing.B) {
	c := benchCluster(b)
	last, err := c.report()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := c.report(); err != nil || r.material(last, 1) {
			b.Fatal("nothing has changed", err)
		}
	}
}

// BenchmarkNodeLabels measures to summarize the nodes of such a cluster anew, after a label of one has changed.
func BenchmarkNodeLabels(b *testing.B) {
	c := benchCluster(b)
	nodes, changed := c.nodeStore(), []*corev1.Node{benchNode(0), benchNode(0)}
	changed[1].Labels["example.com/pool"] = "another"
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := nodes.Update(changed[(i+1)%2]); err != nil {
			b.Fatal(err)
		}
		c.usage.nodeSummary()
	}
}
