package console

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/offline/description"
	"github.com/kcp-placement/placement/offline/simulation"
)

// The answers of the API. Where the command line prints the same, they have its JSON. CPU is in millicores, memory and storage in
// bytes, other resources in whole units. Fields may be added; none changes its meaning.

// Workspaces is the answer of GET /api/v1/workspaces.
type Workspaces struct {
	// Workspaces that there are to look at, by name. Others may be opened by their paths where Source is server.
	Workspaces []Workspace `json:"workspaces"`
	// Source is files, live (one workspace, by a kubeconfig) or server (any workspace that the caller's token may read).
	Source string `json:"source"`
	// From names the files or the server.
	From string `json:"from"`
	// Version of the console's program.
	Version string `json:"version"`
}

// Workspace is one of the workspaces that there are to look at.
type Workspace struct {
	Name string `json:"name"`
	// Path of a live workspace, for example root:team-shop.
	Path string `json:"path,omitempty"`
	// Behind is set where what is shown is not what is.
	Behind *Behind `json:"behind,omitempty"`
}

// Behind says since when, and why, what is shown may not be what is.
type Behind struct {
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
}

// Shown is what every answer about a workspace begins with.
type Shown struct {
	Workspace string `json:"workspace"`
	// At is when the objects were read that the answer is about.
	At time.Time `json:"at"`
	// Version of those objects: the same version, the same answer.
	Version string `json:"version"`
	// Behind is set where they may not be what is.
	Behind *Behind `json:"behind,omitempty"`
	// Simulated: there is no PlacementDecision in the files, so that what is shown is where the workloads would run.
	Simulated bool `json:"simulated,omitempty"`
	// Problems are objects and policies that are wrong, and what could not be read.
	Problems []string `json:"problems,omitempty"`
}

// Fleet is the answer of GET /api/v1/fleet.
type Fleet struct {
	Shown
	// Clusters by name.
	Clusters []Cluster `json:"clusters"`
	// Changes that the console has seen of clusters and workloads, the latest first.
	Changes []Event `json:"changes"`
	// Headroom of the placements that ask for it.
	Headroom []simulation.Headroom `json:"headroom,omitempty"`
	// Suspended is what the controller decides nothing on now.
	Suspended []simulation.Suspended `json:"suspended,omitempty"`
	Summary   simulation.TopSummary  `json:"summary"`
}

// Cluster is a cluster as kubectl placement top has it, with what its registration says.
type Cluster struct {
	simulation.ClusterLoad
	Labels       map[string]string `json:"labels,omitempty"`
	Capabilities []Capability      `json:"capabilities,omitempty"`
	Taints       []Taint           `json:"taints,omitempty"`
	Conditions   []Condition       `json:"conditions,omitempty"`
	// Lost: it has not been heard of, or has been not Ready, for so long that what runs there is placed elsewhere.
	Lost bool `json:"lost,omitempty"`
	// OvercommittedResources have more in use than there is.
	OvercommittedResources []string `json:"overcommitted,omitempty"`
	// HealthScore, PerformanceScore and CostScore are what constraints and factors read, 0 to 100.
	HealthScore      int64 `json:"healthScore"`
	PerformanceScore int64 `json:"performanceScore"`
	CostScore        int64 `json:"costScore"`
	// Headroom is the least share of a resource that is free, in percent; negative where the cluster is overcommitted.
	Headroom int64 `json:"headroom"`
	// Workloads is how many workloads are placed there, Waiting how many wait that it is the nearest cluster for, or that are
	// nominated for it.
	Workloads int `json:"workloads"`
	Waiting   int `json:"waiting"`
}

// Capability of a cluster.
type Capability struct {
	Type       string            `json:"type"`
	Available  bool              `json:"available"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Taint of a cluster.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Condition of a cluster.
type Condition struct {
	Type               string      `json:"type"`
	Status             string      `json:"status"`
	Reason             string      `json:"reason,omitempty"`
	Message            string      `json:"message,omitempty"`
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
}

// Event is something that the console has seen to change.
type Event struct {
	At time.Time `json:"at"`
	// Kind is cluster, placed, moved, waiting, removed or policies.
	Kind string `json:"kind"`
	// Text says it in a sentence.
	Text string `json:"text"`
	// Cluster and Workload are what it is about, if that is one.
	Cluster  string               `json:"cluster,omitempty"`
	Workload *simulation.Workload `json:"workload,omitempty"`
}

// State of a workload.
type State string

// The states. A workload is in the first of these that it meets.
const (
	// Failed: it cannot be decided, since it, its placement or a policy is wrong.
	Failed State = "Failed"
	// Unselected: no placement selects it.
	Unselected State = "Unselected"
	// Ended: it has finished, or is suspended, and is placed no more.
	Ended State = "Ended"
	// Waiting: it has no clusters.
	Waiting State = "Waiting"
	// Moving: it leaves a cluster.
	Moving State = "Moving"
	// Partial: it has fewer clusters than its placement asks for, or some of its replicas wait for room.
	Partial State = "Partial"
	// Running: it has all that it asks for.
	Running State = "Running"
)

// Workloads is the answer of GET /api/v1/workloads.
type Workloads struct {
	Shown
	// Total is how many there are that the query selects.
	Total int `json:"total"`
	// States counts those, by state, with every state but that of the query.
	States map[State]int `json:"states"`
	// Namespaces and Placements are those that there are to choose from.
	Namespaces []string `json:"namespaces"`
	Placements []string `json:"placements"`
	// Workloads in the order in which they are placed; limit bounds them.
	Workloads []Workload `json:"workloads"`
	// Continue is the value of that parameter for the next ones; empty at the end.
	Continue string `json:"continue,omitempty"`
}

// Workload is where a workload runs, or what it waits for.
type Workload struct {
	Workload simulation.Workload `json:"workload"`
	// Placement that it belongs to; empty without one.
	Placement string `json:"placement"`
	Priority  int32  `json:"priority"`
	State     State  `json:"state"`
	// Clusters that it runs on, best first.
	Clusters []engine.Choice `json:"clusters"`
	// Leaving are clusters that it leaves and is still delivered to.
	Leaving []string `json:"leaving,omitempty"`
	// Asked is how many clusters its placement asks for.
	Asked int `json:"asked,omitempty"`
	// Group is the fallback group that it stands in.
	Group string `json:"group,omitempty"`
	// Replicas that it asks for, in all; WaitingReplicas have no cluster.
	Replicas        int64 `json:"replicas,omitempty"`
	WaitingReplicas int64 `json:"waitingReplicas,omitempty"`
	// Requests of all replicas.
	Requests map[string]int64 `json:"requests,omitempty"`
	// CreatedAt is when it was created, DecidedAt when its clusters were decided.
	CreatedAt *time.Time `json:"createdAt,omitempty"`
	DecidedAt *time.Time `json:"decidedAt,omitempty"`
	// Queue is its place in the queue, as kubectl placement top has it; absent where it waits for nothing.
	*Queued
	// Error is why it cannot be decided.
	Error string `json:"error,omitempty"`
	// Delivery is how it fares on each cluster whose agent delivers.
	Delivery []Delivery `json:"delivery,omitempty"`
	// Suspended is what has the controller decide nothing on it now; empty where it does.
	Suspended string `json:"suspended,omitempty"`
}

// Queued is what a workload waits for.
type Queued struct {
	// Position in the queue of the workspace: 1 is next.
	Position int `json:"position,omitempty"`
	// Since is when it began to wait, as the controller says.
	Since *metav1.Time `json:"since,omitempty"`
	// WaitsFor says in one line what it waits for.
	WaitsFor string `json:"waitsFor,omitempty"`
	// Nearest is the cluster that is nearest to having a place for it, and Obstacles what it lacks.
	Nearest   string                `json:"nearest,omitempty"`
	Obstacles []simulation.Obstacle `json:"obstacles,omitempty"`
	// BlockedBy are the objects that keep it waiting.
	BlockedBy []v1alpha1.QueueBlocker `json:"blockedBy,omitempty"`
	// NominatedClusters are where others make room for it, and Estimate is when there is room.
	NominatedClusters []string                `json:"nominatedClusters,omitempty"`
	Estimate          *v1alpha1.QueueEstimate `json:"estimate,omitempty"`
	// WouldFit is a cluster that would have a place for it, if it were registered.
	WouldFit *v1alpha1.SuggestedRegistration `json:"wouldFit,omitempty"`
}

// Delivery is how a workload fares on a cluster.
type Delivery struct {
	Cluster string `json:"cluster"`
	// State is what the agent reports: Pending, InProgress, Current, Failed, Terminating or Unknown.
	State string `json:"state"`
	// Replicas that it is to have there.
	Replicas int32  `json:"replicas"`
	Message  string `json:"message,omitempty"`
}

// Why is the answer of GET /api/v1/workloads/{kind}/{namespace}/{name}/why: what kubectl placement explain and describe print.
type Why struct {
	Shown
	*simulation.Explanation
	// Stages is the funnel: how many clusters each stage of the filter rejects, in order, and how many are left. Stages that reject
	// none are left out.
	Stages []Stage `json:"stages"`
	// Constraints of the placement, with the texts that Obstacle.Span is in.
	Constraints []Constraint `json:"constraints,omitempty"`
	// Chain leads from the workload to its pods; the first link that is wrong is where to look.
	Chain []description.Link `json:"chain"`
	// Delivered is how it fares on each of its clusters, and on those that it leaves.
	Delivered []description.Cluster `json:"delivered"`
	// Wrong is the first thing that is wrong; empty where nothing is.
	Wrong string `json:"wrong"`
	// Queue is its place in the queue; absent where it does not wait.
	Queue *Queued `json:"queue,omitempty"`
	// Remedies are the smallest changes that would each admit the workload to a cluster, the nearest cluster first; none where it
	// has all that it asks for.
	Remedies []Remedy `json:"remedies,omitempty"`
	// Suspended is what has the controller decide nothing on it now; empty where it does.
	Suspended string `json:"suspended,omitempty"`
	// Headroom says whether the workloads of its placement survive what that asks to survive; absent where it asks for nothing.
	Headroom *simulation.Headroom `json:"headroom,omitempty"`
}

// Stage of the funnel.
type Stage struct {
	Name     string `json:"name"`
	Rejected int    `json:"rejected"`
	// Left is how many clusters come through this stage.
	Left int `json:"left"`
}

// Constraint of a placement.
type Constraint struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
	Message    string `json:"message,omitempty"`
}

// Remedy is what would make a cluster feasible: all of Needs.
type Remedy struct {
	Cluster string   `json:"cluster"`
	Needs   []string `json:"needs"`
}

// History is the answer of GET /api/v1/workloads/{kind}/{namespace}/{name}/history: what kubectl placement history prints.
type History = description.History

// Policies is the answer of GET /api/v1/policies: what is in force, to start from in the playground.
type Policies struct {
	Shown
	Placements []Text `json:"placements"`
	// Modules of Rego in force by name. In a live workspace a name is that of the ConfigMap and of the key in it.
	Modules map[string]string `json:"modules"`
	// Shadow modules decide nothing.
	Shadow map[string]string `json:"shadow,omitempty"`
	// Builtin modules, which those of the workspace can read and replace.
	Builtin map[string]string `json:"builtin"`
	// Factors of a score, and Defaults, what they weigh where the workspace does not say.
	Factors  []string         `json:"factors"`
	Defaults map[string]int64 `json:"defaults"`
}

// Text is a placement as YAML.
type Text struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	YAML      string `json:"yaml"`
}

// Play is the request of POST /api/v1/playground.
type Play struct {
	// Workspace to play with.
	Workspace string `json:"workspace"`
	// Placements to try as YAML, by namespace/name. One in force that is left out is kept as it is.
	Placements map[string]string `json:"placements,omitempty"`
	// Modules of Rego to try, by name, in place of all in force; those in force where the field is left out.
	Modules map[string]string `json:"modules,omitempty"`
	// Objects as YAML in place of those of the workspace, so that an example can be tried.
	Objects string `json:"objects,omitempty"`
	// Fresh places all workloads anew, under what is in force and under what is tried: diff --fresh.
	Fresh bool `json:"fresh,omitempty"`
	// DisruptionPercent is diff --disruption-percent.
	DisruptionPercent *int `json:"disruptionPercent,omitempty"`
}

// Played is the answer of POST /api/v1/playground.
type Played struct {
	// Findings are those of kubectl placement check in what is tried.
	Findings []Finding `json:"findings"`
	// Diff is what kubectl placement diff prints; absent where there is none, which Note explains.
	Diff *simulation.Diff `json:"diff,omitempty"`
	Note string           `json:"note,omitempty"`
	// ElapsedMs is how long it took, in milliseconds.
	ElapsedMs int64 `json:"elapsedMs"`
}

// Finding is an error or a warning, with its position.
type Finding struct {
	// Severity is error or warning.
	Severity string `json:"severity"`
	Code     string `json:"code"`
	// File is the name of a module, or "placement NAMESPACE/NAME"; empty where it is in neither.
	File string `json:"file"`
	// Line and Column count from 1; 0 where the position is not known.
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Object  string `json:"object"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Completions is the answer of GET /api/v1/completions.
type Completions struct {
	// CEL and Rego are what can be said in the languages.
	CEL  []Completion `json:"cel"`
	Rego []Completion `json:"rego"`
	// Fleet is what the clusters have.
	Fleet Vocabulary `json:"fleet"`
}

// Completion is a word of a language.
type Completion struct {
	Label string `json:"label"`
	// Type is variable, property, function, keyword, namespace or constant.
	Type   string `json:"type"`
	Detail string `json:"detail,omitempty"`
	Info   string `json:"info,omitempty"`
}

// Vocabulary is what the clusters of a fleet have.
type Vocabulary struct {
	Clusters     []string            `json:"clusters"`
	Locations    []string            `json:"locations"`
	Labels       map[string][]string `json:"labels"`
	Capabilities map[string][]string `json:"capabilities"`
	Taints       []string            `json:"taints"`
	Conditions   []string            `json:"conditions"`
	Resources    []string            `json:"resources"`
}

// Library is the answer of GET /api/v1/library.
type Library struct {
	Presets []Preset `json:"presets"`
}

// Preset is a ready policy.
type Preset struct {
	Name        string `json:"name"`
	Title       string `json:"title"`
	Description string `json:"description"`
	// File is the module's name, Module its text. It decides nothing by itself.
	File   string `json:"file"`
	Module string `json:"module"`
	// Entries are the modules by which it comes into force, by name: they go with it. Of a workspace with weights or scheduling of its
	// own, those are in conflict with entries for the same.
	Entries map[string]string `json:"entries"`
}

// Export is the request of POST /api/v1/export.
type Export struct {
	Play
	// As is configmap or scenario.
	As string `json:"as"`
}

// Exported is the answer of POST /api/v1/export.
type Exported struct {
	Filename string `json:"filename"`
	Text     string `json:"text"`
}

// Charts is the answer of GET /api/v1/series.
type Charts struct {
	// Source is watched, for as long as the console has, or prometheus, which adds to that.
	Source string `json:"source"`
	// Problem is why a Prometheus that the console was started with adds nothing.
	Problem string   `json:"problem,omitempty"`
	Series  []Series `json:"series"`
}

// Series is a line of a chart.
type Series struct {
	// Chart that it belongs to, and its Name there.
	Chart string `json:"chart"`
	Name  string `json:"name"`
	// Unit is percent, count, or the name of a resource.
	Unit string `json:"unit"`
	// Points are seconds since 1970, and values.
	Points [][2]float64 `json:"points"`
}

// Problem is the body of every answer that is an error (RFC 9457).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what is wrong, and what to do.
	Detail string `json:"detail"`
}
