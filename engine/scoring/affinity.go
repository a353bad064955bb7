package scoring

import (
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// affinityFactor is what the policies' affinity terms say of a cluster.
var affinityFactor = termFactor("affinity", Affinity)

func termFactor(name string, f Factor) factor {
	return factor{
		name: name,
		score: func(row *snapshot.Row, _ capacity.Resources, terms []Term) int64 {
			return scoreTerms(f, row, terms)
		},
		because: func(row *snapshot.Row, _ capacity.Resources, terms []Term) string {
			return describeTerms(f, row, terms)
		},
	}
}
