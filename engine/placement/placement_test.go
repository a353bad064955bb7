package placement_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestCompileNamesEveryField: an author learns of everything that is wrong at once, each error in its place.
func TestCompileNamesEveryField(t *testing.T) {
	compiler, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = placement.Compile(&v1alpha1.WorkloadPlacement{Spec: v1alpha1.WorkloadPlacementSpec{
		WorkloadSelector: v1alpha1.WorkloadSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a b": "c"}}},
		LocationSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "In", Values: make([]string, 256)}}},
		Constraints: []v1alpha1.Constraint{
			{Name: "fine", Expression: "true"},
			{Name: "typo", Expression: "cluster.nam == 'a'"},
		},
		Tolerations:      []corev1.Toleration{{Operator: "Like"}, {Operator: "Exists", Value: "v"}, {Effect: "Never", Key: "k"}, {}, {Key: "k", TolerationSeconds: ptr.To[int64](60)}, {Key: "k", Operator: "Gt", Value: "5m"}, {Key: "k", Operator: "Lt", Value: "-5"}},
		Strategy:         v1alpha1.Strategy{Type: "Best"},
		NumberOfClusters: ptr.To(intstr.FromInt32(0)),
	}}, compiler, ranking.ClustersOf)
	for _, want := range []string{
		`spec.workloadSelector.labelSelector: Invalid value: key: Invalid value: "a b": name part must consist of`,
		`spec.locationSelector: Invalid value: it has 257 labels, expressions and values, more than 256`,
		`spec.constraints[1].expression: Invalid value: "cluster.nam == 'a'": constraint "typo": 1:8: undefined field 'nam'`,
		`spec.tolerations[0].operator: Unsupported value: "Like": supported values: "Equal", "Exists", "Gt", "Lt"`,
		`spec.tolerations[1].value: Invalid value: "v": must be empty where operator is Exists`,
		`spec.tolerations[2].effect: Unsupported value: "Never"`,
		`spec.tolerations[3].operator: Invalid value: "": must be Exists where key is empty`,
		`spec.tolerations[4].effect: Invalid value: "": must be NoExecute where tolerationSeconds is set`,
		`spec.tolerations[5].value: Invalid value: "5m": must be an integer where operator is Gt`,
		`spec.strategy.type: Unsupported value: "Best": supported values: "Affinity", "BinPack", "RoundRobin", "Spread", "Weighted"`,
		`spec.numberOfClusters: Invalid value: 0: must be from 1 to 1000`,
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("no %s\nin %v", want, err)
		}
	}
}

// TestOwner: a workload belongs to the placement that its annotation names, otherwise to the oldest that selects it.
func TestOwner(t *testing.T) {
	selecting := func(name string, matching map[string]string) placement.Selector {
		selector, err := placement.CompileSelector(&v1alpha1.WorkloadPlacement{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec:       v1alpha1.WorkloadPlacementSpec{WorkloadSelector: v1alpha1.WorkloadSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: matching}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return selector
	}
	selectors := []placement.Selector{
		selecting("databases", map[string]string{"kind": "database"}),
		selecting("oldest", nil),
		selecting("newer", nil),
	}
	for name, test := range map[string]struct {
		namespace, annotation string
		owner                 int
		others                []int
	}{
		"the oldest that selects it":               {"shop", "", 1, []int{2}},
		"the one that is named":                    {"shop", "newer", 2, []int{1}},
		"one that is named and does not select it": {"shop", "databases", 1, []int{2}},
		"placements of another namespace own none": {"other", "", -1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := &workload.Workload{Reference: workload.Reference{Namespace: test.namespace}, Annotations: map[string]string{v1alpha1.AnnotationPlacement: test.annotation}}
			if owner, others := placement.Owner(selectors, w); owner != test.owner || !slices.Equal(others, test.others) {
				t.Errorf("owner %d, others %v", owner, others)
			}
		})
	}
}
