package engine

// Grant is what a workspace may have of the clusters of one set of a fleet. Amounts are by resource, in the units of
// capacity.Resources. A resource that is left out is not bounded.
type Grant struct {
	// Set is the name of the ClusterSet.
	Set string
	// Clusters of the fleet that the set has. What is promised on one that several sets have counts in each, and the quotas of all hold.
	Clusters []string
	// Quota is the most that the workspace may be promised on all of them, ClusterQuota on each.
	Quota        map[string]int64
	ClusterQuota map[string]int64
	// Guaranteed is what it has first call on.
	Guaranteed map[string]int64
	// BorrowingLimit is how much more than what is guaranteed it may have.
	BorrowingLimit map[string]int64
	// Weight of the workspace among others, at least 1.
	Weight int64
}
