package sharing

import "fmt"

// Unusable returns why placements do not use the clusters of a binding; all results are empty if they do.
func (b *Binding) Unusable() (reason, field, message string) {
	switch {
	case b.Reason != Bound:
		return b.Reason, b.Field, b.Message
	case len(b.Clusters) == 0:
		return NoClusters, "spec.clusterSet", fmt.Sprintf("ClusterSet %s has no clusters: ask its owners", b.Spec.ClusterSet)
	}
	return "", "", ""
}
