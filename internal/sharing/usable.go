package sharing

import "fmt"

// Unusable says why placements do not use the clusters of a binding; where they do, all is empty.
func (b *Binding) Unusable() (reason, field, message string) {
	switch {
	case b.Reason != Bound:
		return b.Reason, b.Field, b.Message
	case len(b.Clusters) == 0:
		return NoClusters, "spec.clusterSet", fmt.Sprintf("ClusterSet %s has no clusters: ask its owners", b.Spec.ClusterSet)
	}
	return "", "", ""
}
