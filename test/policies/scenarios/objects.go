// Package scenarios has decision scenarios in plain text, each file in testdata a story, and reads the objects in them. Its own test
// runs them on the engine, the end-to-end tests on a controller beside a real kcp.
package scenarios

import (
	"cmp"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/internal/sharing"
)

// Cluster is a registration, and what its agent reports of workloads; Usage is nil where it reports nothing.
type Cluster struct {
	*v1alpha1.ClusterRegistration
	Usage *v1alpha1.ClusterUsage
}

// Clusters reads the spec and the status of registrations, and usages, from a map by name; nil stands for a cluster that goes. A cluster
// without conditions is Ready.
func Clusters(input string) (map[string]*Cluster, error) {
	type status struct {
		v1alpha1.ClusterRegistrationStatus
	} // below the spec: drain is that of the spec
	type registration struct {
		Labels map[string]string `json:"labels"`
		v1alpha1.ClusterRegistrationSpec
		status
		Usage *v1alpha1.ClusterUsage `json:"usage"`
	}
	read := map[string]*registration{}
	if err := yaml.UnmarshalStrict([]byte(input), &read); err != nil {
		return nil, err
	}
	clusters := make(map[string]*Cluster, len(read))
	for name, c := range read {
		if clusters[name] = nil; c == nil {
			continue
		}
		r := &v1alpha1.ClusterRegistration{Spec: c.ClusterRegistrationSpec, Status: c.ClusterRegistrationStatus}
		r.Name, r.Labels = name, c.Labels
		if r.Status.Conditions == nil {
			r.Status.Conditions = conditionsv1alpha1.Conditions{{Type: v1alpha1.ReadyCondition, Status: "True"}}
		}
		clusters[name] = &Cluster{r, c.Usage}
	}
	return clusters, nil
}

// Scores reads a list of ClusterScores with their names.
func Scores(input string) (scores []*v1alpha1.ClusterScore, err error) {
	var list []struct {
		Name string `json:"name"`
		v1alpha1.ClusterScore
	}
	if err := yaml.UnmarshalStrict([]byte(input), &list); err != nil {
		return nil, err
	}
	for i := range list {
		list[i].ClusterScore.Name = list[i].Name
		scores = append(scores, &list[i].ClusterScore)
	}
	return scores, nil
}

// Placement reads the spec of a placement in namespace default, unless its name is NAMESPACE/NAME.
func Placement(name, input string) (*v1alpha1.WorkloadPlacement, error) {
	p := &v1alpha1.WorkloadPlacement{}
	p.Name, p.Namespace = name, "default"
	if namespace, name, both := strings.Cut(name, "/"); both {
		p.Namespace, p.Name = namespace, name
	}
	return p, yaml.UnmarshalStrict([]byte(input), &p.Spec)
}

// Policies reads modules by file name.
func Policies(input string) (modules map[string]string, err error) {
	return modules, yaml.UnmarshalStrict([]byte(input), &modules)
}

// Workload reads {requests, replicas, labels, annotations, namespace, pod}; pod is more of the spec of its pods.
func Workload(kind, name, input string) (*unstructured.Unstructured, error) {
	var spec struct {
		Replicas            *int64            `json:"replicas,omitempty"`
		Labels, Annotations map[string]string `json:",omitempty"`
		Requests            map[string]any    `json:"requests,omitempty"`
		Namespace           string            `json:"namespace,omitempty"`
		Pod                 map[string]any    `json:"pod,omitempty"`
	}
	if err := yaml.UnmarshalStrict([]byte(input), &spec); err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion("apps/v1")
	object.SetKind(kind)
	object.SetNamespace(cmp.Or(spec.Namespace, "default"))
	object.SetName(name)
	object.SetUID(types.UID("uid-" + name))
	object.SetLabels(spec.Labels)
	object.SetAnnotations(spec.Annotations)
	container := map[string]any{"name": "main", "resources": map[string]any{"requests": spec.Requests}}
	pod := map[string]any{"containers": []any{container}}
	maps.Copy(pod, spec.Pod)
	fields := map[string]any{"template": map[string]any{"spec": pod}}
	if spec.Replicas != nil {
		fields["replicas"] = *spec.Replicas
	}
	object.Object["spec"] = fields
	return object, nil
}

// Grants reads a list of {set, clusters, quota, clusterQuota, guaranteed, borrowingLimit, weight}.
func Grants(input string) (grants []engine.Grant, err error) {
	var list []struct {
		Set                                             string   `json:"set"`
		Clusters                                        []string `json:"clusters"`
		Quota, ClusterQuota, Guaranteed, BorrowingLimit corev1.ResourceList
		Weight                                          int64 `json:"weight"`
	}
	if err := yaml.Unmarshal([]byte(input), &list); err != nil {
		return nil, err
	}
	for _, g := range list {
		grants = append(grants, engine.Grant{
			Set: g.Set, Clusters: g.Clusters, Quota: sharing.Amounts(g.Quota), ClusterQuota: sharing.Amounts(g.ClusterQuota),
			Guaranteed: sharing.Amounts(g.Guaranteed), BorrowingLimit: sharing.Amounts(g.BorrowingLimit), Weight: max(1, g.Weight),
		})
	}
	return grants, nil
}
