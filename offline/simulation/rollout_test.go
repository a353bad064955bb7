package simulation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
)

// TestPolicyRollout: in a live workspace, the shadow policies decide for those placements for which the controller has them do so, as
// long as they are the candidate that the status of the rollout is about.
func TestPolicyRollout(t *testing.T) {
	const policies = `apiVersion: v1
kind: ConfigMap
metadata: {name: next, namespace: default, labels: {openpolicyagent.org/policy: rego, tmc.kcp.io/policy-set: shadow}}
data: {a.rego: 'package placement.affinity

terms contains {"match": {"clusterNames": ["b"]}, "factor": "affinity", "required": true}'}`
	compiler, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := compiler.Compile(read(t, policies)[0].TextsOf(v1alpha1.PolicySetShadow))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		percent int
		digest  string
		want    string
	}{
		{50, set.Digest(), "early: b, late: a"},
		{100, set.Digest(), "early: b, late: b"},
		{0, set.Digest(), "early: a, late: a"},
		{100, "another", "early: a, late: a"},
	} {
		t.Run(fmt.Sprintf("%d %% of %.7s", test.percent, test.digest), func(t *testing.T) {
			texts := []string{cluster("a", "100"), cluster("b", "10"), policies, fmt.Sprintf(`apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementConfig
metadata: {name: cluster}
spec: {policyRollout: {steps: [{percent: 50, pause: 1h}]}}
status: {policyRollout: {phase: Progressing, percent: %d, digest: %q}}`, test.percent, test.digest)}
			for name, uid := range map[string]string{"early": "first", "late": "second"} { // of which only the first is in the first half
				texts = append(texts,
					fmt.Sprintf("apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: %s, namespace: default, uid: %s}\nspec: {workloadSelector: {labelSelector: {matchLabels: {of: %s}}}, numberOfClusters: 1}", name, uid, name),
					deployment(name, len(uid), "1", fmt.Sprintf(", labels: {of: %s}", name)))
			}
			if got := strings.ReplaceAll(where(run(t, load(t, texts...))), "\n", ", "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
