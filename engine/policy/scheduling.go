package policy

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/internal/decode"
)

// decodeScheduling reads what policies say in the form of a placement's spec; nil where that is nothing.
func decodeScheduling(t *ast.Term) (*placement.Scheduling, error) {
	if object, ok := t.Value.(ast.Object); !ok {
		return nil, fmt.Errorf("it must be an object with fields of a placement's spec, and is %s", short(t))
	} else if object.Len() == 0 {
		return nil, nil
	}
	value, err := plain(t.Value)
	if err != nil {
		return nil, err
	}
	if unknown := decode.Unknown[placement.SchedulingSpec](value); len(unknown) > 0 {
		return nil, unknown[0]
	}
	spec, problems := decode.To[placement.SchedulingSpec](value)
	if len(problems) > 0 {
		return nil, problems[0]
	}
	if r := spec.ReplicaScheduling; r != nil {
		for i, w := range r.Weights {
			selectors := []*metav1.LabelSelector{w.LocationSelector}
			if w.ClusterSelector != nil {
				selectors = append(selectors, w.ClusterSelector.LabelSelector)
			}
			for _, s := range selectors {
				if err := boundSelector(fmt.Sprintf("replicaScheduling.weights[%d]", i), s); err != nil {
					return nil, err
				}
			}
		}
	}
	return placement.CompileScheduling(&spec)
}

// plain is a value of Rego as JSON has it. A set is a list.
func plain(v ast.Value) (value any, err error) {
	of, err := ast.JSON(v)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	return value, json.Unmarshal(text, &value)
}
