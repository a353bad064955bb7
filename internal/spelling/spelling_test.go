package spelling_test

import (
	"testing"

	"github.com/kcp-placement/placement/internal/spelling"
)

// TestTypo: what is one slip away from a known name is a typo of it; what people name alike is not.
func TestTypo(t *testing.T) {
	for _, test := range []struct{ misspelt, name string }{
		{"teir", "tier"}, {"glod", "gold"}, {"frankfrut", "frankfurt"}, {"maintenanse", "maintenance"}, {"wbe", "web"},
		{"ProD", "prod"}, {"Prodd", "prod"}, {"memry", "memory"}, {"nvidia.com/gpus", "nvidia.com/gpu"}, {"eu-wset", "eu-west"}, {"tcm.kcp.io/disruption", "tmc.kcp.io/disruptions"}, {"eu_west", "eu-west"},
	} {
		if near := spelling.Typo(test.misspelt, []string{"other", test.name}); near != test.name {
			t.Errorf("%s is a typo of %s, and %q is found", test.misspelt, test.name, near)
		}
	}
	for _, test := range []struct{ other, name string }{
		{"web", "db"}, {"a100", "h100"}, {"eu-west-1", "eu-west-2"}, {"v1", "v2"}, {"eu", "us"}, {"a", "b"}, {"", "a"}, {"a", ""},
		{"eu", "e"}, {"prod", "staging"}, {"gold", "old"}, {"prod", "prod"}, {"team-a", "team-b"}, {"eu-west", "eu-east"}, {"prod-eu", "prod-us"},
	} {
		if near := spelling.Typo(test.other, []string{test.name}); near != "" {
			t.Errorf("%s is taken for a typo of %s", test.other, near)
		}
	}
}
