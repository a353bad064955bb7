package placement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/internal/toleration"
	"github.com/kcp-placement/placement/engine/stability"
)

// SchedulingSpec is how policies schedule workloads: fields of a placement's spec, in the same form. Each applies to placements that
// leave it out, except for affinity terms and tolerations, which are added to those of the placement.
type SchedulingSpec struct {
	Strategy          v1alpha1.Strategy               `json:"strategy,omitzero"`
	NumberOfClusters  *intstr.IntOrString             `json:"numberOfClusters,omitempty"`
	MinClusters       int32                           `json:"minClusters,omitempty"`
	SpreadConstraints []v1alpha1.SpreadConstraint     `json:"spreadConstraints,omitempty"`
	ReplicaScheduling *v1alpha1.ReplicaScheduling     `json:"replicaScheduling,omitempty"`
	WorkloadAffinity  []v1alpha1.WorkloadAffinityTerm `json:"workloadAffinity,omitempty"`
	Tolerations       []corev1.Toleration             `json:"tolerations,omitempty"`
	Stability         *StabilityTerm                  `json:"stability,omitempty"`
}

// StabilityTerm is what policies require of moves for a gain, if the placement has any: the larger value of both applies.
type StabilityTerm struct {
	// MinGain is in points of the total score, After in seconds.
	MinGain int32 `json:"minGain,omitempty"`
	After   int64 `json:"after,omitempty"`
	// Pinned prevents workloads from moving for a gain.
	Pinned bool `json:"pinned,omitempty"`
}

// validate returns the first invalid field.
func (t *StabilityTerm) validate(path *field.Path) *field.Error {
	switch {
	case t == nil:
	case t.MinGain < 0 || t.MinGain > 100:
		return field.Invalid(path.Child("minGain"), t.MinGain, "must be from 0 to 100")
	case t.After < 0 || t.After > maxAfter:
		return field.Invalid(path.Child("after"), t.After, fmt.Sprintf("must be from 0 to %d seconds", maxAfter))
	}
	return nil
}

// Steadied returns the given rules combined with those of the policies for workloads scheduled by this placement; nil if they do not
// move for a gain.
func (p *Placement) Steadied(rules *stability.Rules) *stability.Rules {
	if rules == nil || p.scheduling == nil || p.scheduling.spec.Stability == nil {
		return rules
	}
	term, steadied := p.scheduling.spec.Stability, *rules
	steadied.MinGain = max(rules.MinGain, int64(term.MinGain))
	steadied.After = max(rules.After, time.Duration(term.After)*time.Second)
	steadied.Pinned = rules.Pinned || term.Pinned
	return &steadied
}

// Scheduling is a compiled SchedulingSpec. It is immutable.
type Scheduling struct {
	spec SchedulingSpec
	// compiled is a placement that consists only of the spec.
	compiled Placement
	// text is the spec as JSON, repels identifies the terms that keep others out.
	text, repels string
}

// String returns the spec as JSON.
func (s *Scheduling) String() string {
	if s == nil {
		return "{}"
	}
	return s.text
}

// Bounds of lists, the same as in the schema of a placement.
const (
	maxSpreadConstraints = 8
	maxClusterWeights    = 64
	maxAffinity          = 16
	maxNamespaces        = 32
	maxTolerations       = 32
	maxAfter             = 366 * 24 * 60 * 60
)

// CompileScheduling validates and compiles a spec from policies, as Compile does for a placement. The error names the first field that is
// invalid.
func CompileScheduling(spec *SchedulingSpec) (*Scheduling, error) {
	s := &Scheduling{spec: *spec, compiled: Placement{Strategy: cmp.Or(spec.Strategy.Type, v1alpha1.StrategySpread)}}
	p := &s.compiled
	if n := len(spec.SpreadConstraints); n > maxSpreadConstraints {
		return nil, field.TooMany(field.NewPath("spreadConstraints"), n, maxSpreadConstraints)
	}
	if n := len(spec.WorkloadAffinity); n > maxAffinity {
		return nil, field.TooMany(field.NewPath("workloadAffinity"), n, maxAffinity)
	}
	if n := len(spec.Tolerations); n > maxTolerations {
		return nil, field.TooMany(field.NewPath("tolerations"), n, maxTolerations)
	}
	if r := spec.ReplicaScheduling; r != nil && len(r.Weights) > maxClusterWeights {
		return nil, field.TooMany(field.NewPath("replicaScheduling", "weights"), len(r.Weights), maxClusterWeights)
	}
	errs := p.compileNumbers(spec)
	errs = append(errs, p.compileSpread(field.NewPath("spreadConstraints"), spec.SpreadConstraints)...)
	errs = append(errs, p.compileDivision(field.NewPath("replicaScheduling"), &v1alpha1.WorkloadPlacementSpec{ReplicaScheduling: spec.ReplicaScheduling})...)
	errs = append(errs, p.compileAffinity(field.NewPath("workloadAffinity"), spec.WorkloadAffinity)...)
	errs = append(errs, toleration.Validate(field.NewPath("tolerations"), spec.Tolerations)...)
	if err := spec.Stability.validate(field.NewPath("stability")); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errs[0]
	}
	for i := range p.Affinity {
		p.Affinity[i].Name = "scheduling." + p.Affinity[i].Name
	}
	content, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	s.text, s.repels = string(content), repelsID(spec.WorkloadAffinity)
	return s, nil
}

// repelsID identifies the terms that keep others out, including their positions.
func repelsID(terms []v1alpha1.WorkloadAffinityTerm) string {
	id := sha256.New()
	for i := range terms {
		if t := &terms[i]; t.Required && t.Type == v1alpha1.WorkloadsRepel {
			_, _ = fmt.Fprintf(id, "%d %q %q %q\n", i, t.TopologyKey, t.Namespaces, metav1.FormatLabelSelector(t.LabelSelector))
		}
	}
	return hex.EncodeToString(id.Sum(nil))
}

// compileNumbers compiles the strategy and the numbers of clusters.
func (p *Placement) compileNumbers(spec *SchedulingSpec) (errs field.ErrorList) {
	number, all, err := numberOf(field.NewPath("numberOfClusters"), spec.NumberOfClusters)
	if err != nil {
		errs = append(errs, err)
	}
	if p.OneCluster() && spec.NumberOfClusters == nil {
		number = 1
	}
	p.NumberOfClusters, p.AllClusters, p.MinClusters = number, all, max(int(spec.MinClusters), 1)
	if at := field.NewPath("strategy", "type"); !slices.Contains(v1alpha1.StrategyTypes, p.Strategy) {
		errs = append(errs, field.NotSupported(at, p.Strategy, v1alpha1.StrategyTypes))
	} else if p.OneCluster() && number != 1 && err == nil {
		errs = append(errs, field.Invalid(field.NewPath("numberOfClusters"), spec.NumberOfClusters.String(), oneCluster(p.Strategy)+": use Spread, BinPack or Weighted"))
	}
	switch at := field.NewPath("minClusters"); {
	case spec.MinClusters < 0 || spec.MinClusters > v1alpha1.MaxClusters:
		errs = append(errs, field.Invalid(at, spec.MinClusters, fmt.Sprintf("must be from 1 to %d", v1alpha1.MaxClusters)))
	case (spec.NumberOfClusters != nil || p.OneCluster()) && p.MinClusters > number:
		errs = append(errs, field.Invalid(at, spec.MinClusters, fmt.Sprintf("is above the number of clusters, which is %d", number)))
	}
	return errs
}

// OneCluster reports whether the strategy gives each workload one cluster.
func (p *Placement) OneCluster() bool {
	return p.Strategy == v1alpha1.StrategyRoundRobin || p.Strategy == v1alpha1.StrategyAffinity
}

func oneCluster(s v1alpha1.StrategyType) string {
	return fmt.Sprintf("strategy %s gives each workload one cluster", s)
}

// Under returns the placement as policies schedule it: each field that it leaves out is taken from the policies, provided it agrees with
// the fields that are set, and the policies' affinity terms and tolerations are added. It returns the placement itself if nothing
// changes.
func (p *Placement) Under(s *Scheduling) *Placement {
	if s == nil {
		return p
	}
	under := *p
	under.ByPolicies, under.Overruled, under.scheduling = nil, nil, s
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
	if take("strategy", s.compiled.Strategy != v1alpha1.StrategySpread, p.Strategy == v1alpha1.StrategySpread, p.against(s.compiled.Strategy)) {
		if under.Strategy = s.compiled.Strategy; under.OneCluster() {
			under.NumberOfClusters, under.AllClusters = 1, false
		}
	}
	single := ""
	if under.OneCluster() {
		single = oneCluster(under.Strategy)
	}
	fewer := ""
	if p.says.least && s.compiled.NumberOfClusters < p.MinClusters {
		fewer = fmt.Sprintf("%d is below minClusters, which the placement says is %d", s.compiled.NumberOfClusters, p.MinClusters)
	}
	changes := s.compiled.NumberOfClusters > 1 || under.NumberOfClusters > 1
	if take("numberOfClusters", s.spec.NumberOfClusters != nil && changes, !p.says.number, cmp.Or(single, fewer)) {
		under.NumberOfClusters, under.AllClusters = s.compiled.NumberOfClusters, s.compiled.AllClusters
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
	if take("replicaScheduling", s.compiled.Division != nil, !p.says.replicas, single) {
		under.Division = s.compiled.Division
	}
	if take("workloadAffinity", len(s.compiled.Affinity) > 0, true, "") {
		under.addAffinity(s)
	}
	if take("tolerations", len(s.spec.Tolerations) > 0, true, "") {
		// The first toleration that matches a taint counts, so those of the placement take precedence.
		under.Tolerations = slices.Concat(p.Tolerations, s.spec.Tolerations)
		under.TolerationsEnd = p.TolerationsEnd || tolerationsEnd(s.spec.Tolerations)
	}
	take("stability", s.spec.Stability != nil, true, "")
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

// Alone returns a placement that leaves everything to the policies.
func (s *Scheduling) Alone() *Placement {
	return (&Placement{Strategy: v1alpha1.StrategySpread, NumberOfClusters: v1alpha1.DefaultNumberOfClusters, MinClusters: 1}).Under(s)
}

// Object returns the object of a placement as its author would have to write it to get what the policies add.
func (p *Placement) Object(object *v1alpha1.WorkloadPlacement) *v1alpha1.WorkloadPlacement {
	written := object.DeepCopy()
	for _, name := range p.ByPolicies {
		switch from, to := &p.scheduling.spec, &written.Spec; name {
		case "strategy":
			to.Strategy = from.Strategy
		case "numberOfClusters":
			to.NumberOfClusters = from.NumberOfClusters
		case "minClusters":
			to.MinClusters = from.MinClusters
		case "spreadConstraints":
			to.SpreadConstraints = from.SpreadConstraints
		case "replicaScheduling":
			to.ReplicaScheduling = from.ReplicaScheduling
		case "workloadAffinity":
			to.WorkloadAffinity = slices.Concat(to.WorkloadAffinity, from.WorkloadAffinity)
		case "tolerations":
			to.Tolerations = slices.Concat(to.Tolerations, from.Tolerations)
		}
	}
	return written
}

// FieldOf returns the origin of a field of Object: fields set by policies begin with scheduling, the name of the policies' document.
func (p *Placement) FieldOf(object *v1alpha1.WorkloadPlacement, name string) string {
	for _, by := range p.ByPolicies {
		rest, is := strings.CutPrefix(name, "spec."+by)
		if !is {
			continue
		}
		if own, added := map[string]int{"workloadAffinity": len(object.Spec.WorkloadAffinity), "tolerations": len(object.Spec.Tolerations)}[by]; added {
			var index int
			if n, _ := fmt.Sscanf(rest, "[%d]", &index); n == 0 || index < own {
				return name
			}
			_, rest, _ = strings.Cut(rest, "]")
			rest = fmt.Sprintf("[%d]%s", index-own, rest)
		}
		return "scheduling." + by + rest
	}
	return name
}

// against returns which field of the placement rules out a strategy from policies; empty if none.
func (p *Placement) against(strategy v1alpha1.StrategyType) string {
	if one := (&Placement{Strategy: strategy}).OneCluster(); !one {
		return ""
	}
	switch {
	case p.says.number && p.NumberOfClusters > 1:
		return oneCluster(strategy) + ", and the placement says numberOfClusters"
	case p.says.least:
		return oneCluster(strategy) + ", and the placement says minClusters"
	case p.Division != nil:
		return oneCluster(strategy) + ", and the placement divides replicas"
	}
	return ""
}

// addAffinity adds the terms of policies. Terms that name no namespace are about the namespace of the placement.
func (p *Placement) addAffinity(s *Scheduling) {
	added := slices.Clone(s.compiled.Affinity)
	for i := range added {
		added[i].Others = added[i].Others.of(p.Namespace)
	}
	p.Affinity = slices.Concat(p.Affinity, added)
	p.repelBy(s.repels, added)
}

// says records which fields a placement sets itself.
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
