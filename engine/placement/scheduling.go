package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// SchedulingSpec is how policies schedule workloads: fields of a placement's spec, in the same form. Each counts for placements that
// leave it out.
type SchedulingSpec struct {
	NumberOfClusters  *intstr.IntOrString         `json:"numberOfClusters,omitempty"`
	MinClusters       int32                       `json:"minClusters,omitempty"`
	SpreadConstraints []v1alpha1.SpreadConstraint `json:"spreadConstraints,omitempty"`
	ReplicaScheduling *v1alpha1.ReplicaScheduling `json:"replicaScheduling,omitempty"`
}

// Scheduling is a compiled SchedulingSpec. It is immutable.
type Scheduling struct {
	spec SchedulingSpec
	// compiled is a placement that has only what the spec says.
	compiled Placement
	// text is the spec as JSON.
	text string
}

// String returns what the policies say, as JSON.
func (s *Scheduling) String() string {
	if s == nil {
		return "{}"
	}
	return s.text
}

// Bounds of lists, which the schema of a placement has, too.
const (
	maxSpreadConstraints = 8
	maxClusterWeights    = 64
)

// CompileScheduling validates and compiles what policies say, as Compile does for a placement. It names the first field that is
// invalid.
func CompileScheduling(spec *SchedulingSpec) (*Scheduling, error) {
	s := &Scheduling{spec: *spec, compiled: Placement{Strategy: v1alpha1.StrategySpread}}
	p := &s.compiled
	var errs field.ErrorList
	if n := len(spec.SpreadConstraints); n > maxSpreadConstraints {
		return nil, field.TooMany(field.NewPath("spreadConstraints"), n, maxSpreadConstraints)
	}
	if r := spec.ReplicaScheduling; r != nil && len(r.Weights) > maxClusterWeights {
		return nil, field.TooMany(field.NewPath("replicaScheduling", "weights"), len(r.Weights), maxClusterWeights)
	}
	number, all, err := numberOf(field.NewPath("numberOfClusters"), spec.NumberOfClusters)
	if err != nil {
		errs = append(errs, err)
	}
	p.NumberOfClusters, p.AllClusters, p.MinClusters = number, all, max(int(spec.MinClusters), 1)
	switch at := field.NewPath("minClusters"); {
	case spec.MinClusters < 0 || spec.MinClusters > v1alpha1.MaxClusters:
		errs = append(errs, field.Invalid(at, spec.MinClusters, fmt.Sprintf("must be from 1 to %d", v1alpha1.MaxClusters)))
	case spec.NumberOfClusters != nil && p.MinClusters > number:
		errs = append(errs, field.Invalid(at, spec.MinClusters, fmt.Sprintf("is above the number of clusters, which is %d", number)))
	}
	errs = append(errs, p.compileSpread(field.NewPath("spreadConstraints"), spec.SpreadConstraints)...)
	errs = append(errs, p.compileDivision(field.NewPath("replicaScheduling"), &v1alpha1.WorkloadPlacementSpec{ReplicaScheduling: spec.ReplicaScheduling})...)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	content, failed := json.Marshal(spec)
	if failed != nil {
		return nil, failed
	}
	s.text = string(content)
	return s, nil
}

// Under returns the placement under what policies say: each field that it leaves out is as they say, as far as that agrees with
// those that it does not leave out. It is the placement itself where that changes nothing.
func (p *Placement) Under(s *Scheduling) *Placement {
	if s == nil {
		return p
	}
	under := *p
	under.ByPolicies, under.Overruled = nil, nil
	single := p.Strategy == v1alpha1.StrategyRoundRobin || p.Strategy == v1alpha1.StrategyAffinity
	take := func(name string, given, left bool, contradiction string) bool {
		switch {
		case !given || !left:
			return false
		case contradiction != "":
			under.Overruled = append(under.Overruled, fmt.Sprintf("%s: %s", name, contradiction))
			return false
		}
		under.ByPolicies = append(under.ByPolicies, name)
		return true
	}
	oneCluster := ""
	if single {
		oneCluster = fmt.Sprintf("strategy %s gives each workload one cluster", p.Strategy)
	}
	if take("numberOfClusters", s.spec.NumberOfClusters != nil, !p.says.number, oneCluster) {
		under.NumberOfClusters, under.AllClusters = s.compiled.NumberOfClusters, s.compiled.AllClusters
		under.MinClusters = min(under.MinClusters, under.NumberOfClusters)
	}
	tooFew := ""
	if s.compiled.MinClusters > under.NumberOfClusters {
		tooFew = fmt.Sprintf("%d is above the number of clusters, which is %d", s.compiled.MinClusters, under.NumberOfClusters)
	}
	if take("minClusters", s.compiled.MinClusters > 1, !p.says.least, tooFew) {
		under.MinClusters = s.compiled.MinClusters
	}
	if take("spreadConstraints", len(s.compiled.Spread) > 0, len(p.Spread) == 0, "") {
		under.Spread = s.compiled.Spread
	}
	if take("replicaScheduling", s.compiled.Division != nil, !p.says.replicas, oneCluster) {
		under.Division = s.compiled.Division
	}
	if len(under.ByPolicies)+len(under.Overruled) == 0 {
		return p
	}
	sum := sha256.Sum256([]byte(p.Digest + "\n" + s.text))
	under.Digest = hex.EncodeToString(sum[:])
	under.Groups = make([]*Placement, len(p.Groups))
	for i, g := range p.Groups {
		under.Groups[i] = g.Under(s)
	}
	return &under
}

// says is which fields a placement does not leave to policies.
type says struct{ number, least, replicas bool }

func saysOf(spec *v1alpha1.WorkloadPlacementSpec) says {
	return says{number: spec.NumberOfClusters != nil, least: spec.MinClusters > 1, replicas: spec.ReplicaScheduling != nil}
}

// numberOf reads a number of clusters.
func numberOf(path *field.Path, n *intstr.IntOrString) (number int, all bool, err *field.Error) {
	switch {
	case n == nil:
		return v1alpha1.DefaultNumberOfClusters, false, nil
	case n.Type == intstr.String && n.StrVal == v1alpha1.AllClusters:
		return v1alpha1.MaxClusters, true, nil
	case n.Type == intstr.String:
		return 1, false, field.Invalid(path, n.StrVal, "must be a number without quotes, or "+v1alpha1.AllClusters)
	case n.IntVal < 1 || n.IntVal > v1alpha1.MaxClusters:
		return 1, false, field.Invalid(path, n.IntVal, fmt.Sprintf("must be from 1 to %d", v1alpha1.MaxClusters))
	}
	return int(n.IntVal), false, nil
}
