// Package scoring ranks: it gives every feasible cluster its five factor scores and weighs them into one total.
package scoring

import "k8s.io/apimachinery/pkg/labels"

// Factor is one point of view on a cluster, scored 0..100.
type Factor int

// The factors.
const (
	Capacity Factor = iota
	Health
	Performance
	Affinity
	Location
	NumFactors int = iota
)

// FactorNames are the names that policies use, indexed by Factor.
var FactorNames = [NumFactors]string{"capacity", "health", "performance", "affinity", "location"}

// String gives the factor's name in policies.
func (f Factor) String() string { return FactorNames[f] }

// Weights says how much each factor counts, 0..100, indexed by Factor.
type Weights [NumFactors]int64

// Term moves the affinity or location factor of the clusters that match, and of those that do not.
type Term struct {
	Match Match
	// Factor is Affinity or Location.
	Factor Factor
	// OnMatch is added to the factor of a cluster that matches, Otherwise to that of one that does not.
	OnMatch, Otherwise int64
	// Required excludes clusters that do not match.
	Required bool
	// Reason is the policy's own words for the term.
	Reason string
}

// Match says which clusters a term is about: those for which every part that is set holds.
type Match struct {
	ClusterNames []string
	Location     string
	// Labels selects by the cluster's labels; nil selects all.
	Labels labels.Selector
	// Capability that must be available.
	Capability string
}
