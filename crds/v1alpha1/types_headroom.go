package v1alpha1

// Headroom is the spare capacity that a placement asks for. It is checked and said in condition HeadroomAvailable; nothing is reserved
// for it, and no workload waits or moves because of it.
type Headroom struct {
	// survive asks that the loss of any one domain leaves every workload of the placement a place.
	//
	// +required
	Survive SurviveLoss `json:"survive"`
}

// SurviveLoss names what may be lost.
type SurviveLoss struct {
	// topologyKey divides clusters into domains, as in spreadConstraints: cluster, location, capability:<type>/<attribute>, or the key of
	// a label. The clusters of one domain are lost together.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	TopologyKey string `json:"topologyKey"`
}
