package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of a score's value.
const (
	MinScore = -100
	MaxScore = 100
)

// ClusterScore gives a cluster scores from outside: its price, its carbon intensity, how close it is to its users. Policies use
// them by name, as weights and in terms; without such a policy they have no effect. Several objects may be about one cluster, for
// example one from each provider; where two of them give the same score, the older object counts, then the first by name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=placement,path=clusterscores,shortName=clscore
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.clusterName`,description="The ClusterRegistration that the scores are about"
// +kubebuilder:printcolumn:name="Scores",type=string,JSONPath=`.scores[*].name`,description="The names of the scores"
// +kubebuilder:printcolumn:name="Valid-Until",type=string,JSONPath=`.validUntil`,description="When the scores run out"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterScore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// clusterName is the name of the ClusterRegistration that the scores are about. While there is none of that name, they have no
	// effect.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterName string `json:"clusterName"`

	// scores by name.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Scores []NamedScore `json:"scores,omitempty"`

	// validUntil is when the scores run out. From then on they weigh nothing, as if there were none, until the provider moves the
	// time. Left out, they are valid for ever.
	//
	// +optional
	ValidUntil *metav1.Time `json:"validUntil,omitempty"`
}

// NamedScore is one score of a cluster.
type NamedScore struct {
	// name by which policies use the score, for example carbon or example.com/price. Providers that may give different scores the
	// same name put a domain before it.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// value from -100, the worst, to 100, the best. 0 says neither.
	//
	// +required
	// +kubebuilder:validation:Minimum=-100
	// +kubebuilder:validation:Maximum=100
	Value int32 `json:"value"`
}

// ClusterScoreList is a list of ClusterScores.
//
// +kubebuilder:object:root=true
type ClusterScoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ClusterScore `json:"items"`
}
