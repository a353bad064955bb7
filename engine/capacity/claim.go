package capacity

import "k8s.io/apimachinery/pkg/types"

// Owner identifies the holder of a claim.
type Owner struct {
	APIVersion, Kind, Namespace, Name string
	// Held is 0 for the owner's own claim. Any other number identifies a claim on what the owner has given up, kept until that is durable.
	Held int64
}

// Claim is a promise to one owner. It is immutable once granted.
type Claim struct {
	// UID identifies the owner in the reports of clusters; if it is empty, no report counts the owner.
	UID string
	// Group is the set of claims that this claim counts towards; a strategy rotates over the clusters of a group.
	Group types.NamespacedName
	// Labels of the owner, as far as they are known, Idle if it runs nothing, and Repels, the ID of the policy terms by which it repels
	// other workloads. Affinity between workloads reads all three.
	Labels map[string]string
	Idle   bool
	Repels string
	// Shares, one on each cluster of the claim.
	Shares []Share
	// stakes has one for each of Shares while the claim is granted.
	stakes []stake
}

// NewClaim returns a claim with that many shares. Up to three shares are allocated together with the claim.
func NewClaim(shares int) *Claim {
	switch shares {
	case 1:
		c := &struct {
			Claim
			shares [1]Share
			stakes [1]stake
		}{}
		c.Shares, c.Claim.stakes = c.shares[:], c.stakes[:]
		return &c.Claim
	case 2, 3:
		c := &struct {
			Claim
			shares [3]Share
			stakes [3]stake
		}{}
		c.Shares, c.Claim.stakes = c.shares[:shares:shares], c.stakes[:]
		return &c.Claim
	default:
		return &Claim{Shares: make([]Share, shares)}
	}
}

// SameOwner copies what is known of the owner from its previous claim, which may be nil, if both have the same UID.
func (c *Claim) SameOwner(before *Claim) {
	if before != nil && before.UID == c.UID {
		c.Labels, c.Idle, c.Repels = before.Labels, before.Idle, before.Repels
	}
}

// Share is what is promised on one cluster.
type Share struct {
	Cluster string
	Amount  Resources
	// Expired reports that the reservation has expired: nothing is reserved there any more.
	Expired bool
}

// Reserved returns what the share reserves, given what its cluster counts for the owner.
func (s *Share) Reserved(counted Resources) Resources {
	if s.Expired {
		return Resources{}
	}
	return s.Amount.Without(counted)
}

// ShareOn returns the share of a claim on a cluster, nil if it has none there.
func (c *Claim) ShareOn(cluster string) *Share {
	if c == nil {
		return nil
	}
	for i := range c.Shares {
		if c.Shares[i].Cluster == cluster {
			return &c.Shares[i]
		}
	}
	return nil
}
