package simulation

import (
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
)

// followRollout makes the shadow policies decide for the same placements as in the controller.
func (s *Simulation) followRollout(w *workspace) {
	var candidate *policy.Set
	for _, c := range w.Configs {
		rollout := c.Typed.Status.PolicyRollout
		if c.Typed.Spec.PolicyRollout == nil || rollout == nil || rollout.Percent == 0 {
			continue
		}
		if set, err := s.policies.Compile(w.TextsOf(v1alpha1.PolicySetShadow)); err == nil && set.Digest() == rollout.Digest {
			candidate = set
			for _, p := range w.placements {
				p.candidate = rollout.Includes(p.uid)
			}
		}
	}
	s.engine.SetShadowPolicies(w.Name, candidate)
}
