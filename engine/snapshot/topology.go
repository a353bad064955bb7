package snapshot

import (
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TopologyKey divides clusters into domains, one for each value: the location, the name, an attribute of a capability, or a label.
type TopologyKey string

// Domain returns the domain that a cluster is in; false where it is in none.
func (k TopologyKey) Domain(c *Cluster) (domain string, found bool) {
	switch k {
	case v1alpha1.TopologyKeyLocation:
		return c.Location, c.Location != ""
	case v1alpha1.TopologyKeyCluster:
		return c.Name, true
	}
	if capability, attribute, is := k.capability(); is {
		offered, _ := c.Capability(capability)
		domain, found = offered.Attributes[attribute]
		return domain, found
	}
	domain, found = c.Labels[string(k)]
	return domain, found
}

// capability splits a key of the form capability:<type>/<attribute>.
func (k TopologyKey) capability() (capability, attribute string, is bool) {
	rest, is := strings.CutPrefix(string(k), v1alpha1.TopologyKeyCapability)
	if !is {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}
