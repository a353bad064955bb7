package scoring

import (
	"github.com/kcp-placement/placement/engine/snapshot"
)

// affinityFactor is the sum of the policies' affinity terms for a cluster.
var affinityFactor = termFactor("affinity", Affinity)

func termFactor(name string, f Factor) factor {
	return factor{
		name: name,
		score: func(row *snapshot.Row, a *Asked) int64 {
			return scoreTerms(f, row, a.Terms)
		},
		because: func(row *snapshot.Row, a *Asked) string {
			return describeTerms(f, row, a.Terms)
		},
	}
}
