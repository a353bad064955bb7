package controller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
)

// leader is a controller with the view of its informers.
type leader struct {
	*model
	workspace *workspace
	view      cacheView
	// deliverer delivers what the last pass has handed over, round, which came to outcome.
	deliverer *delivery.Deliverer
	round     *delivery.Round
	outcome   *delivery.Result
	// beats are the heartbeats that it has seen, by cluster.
	beats map[string]heartbeat
	// tainted is when it was first shown a cluster's taint that does not say when it was added.
	tainted map[string]time.Time
	// configured is the PlacementConfig as it has written it last, while it was shown configuredOn.
	configured, configuredOn *v1alpha1.PlacementConfig
	// decided is where workloads belonged before the pass, by what was decided and may not have been written; preempted are those
	// that have made room in it.
	decided   map[string][]string
	preempted map[string]bool
	// fenced says that its lease has expired, breaks that it writes once all the same.
	fenced, breaks bool
	// killAfter is the number of writes before it is killed, dead says that it was.
	killAfter int
	dead      bool
	// panicAt is the number of decisions before the engine panics, panicsLate says that it has reserved by then. failAt is
	// the number of writes before one fails.
	panicAt    int
	panicsLate bool
	failAt     int
	// meddle is what others do just before each of its writes.
	meddle func()
}

var errKilled = errors.New("killed")

// brokenWrite is how a write fails.
type brokenWrite int

const (
	// refusedWrite is answered by the server: nothing is written.
	refusedWrite brokenWrite = iota
	// lostWrite and lostAnswer look the same to the controller: a write that did not reach the server, and one that did.
	lostWrite
	lostAnswer
)

// elect starts a new leader. Where it finds decisions, it takes the budget of disruptions for used up, and knows of the moves for a gain that
// these tell.
func (m *model) elect() {
	if len(m.decisions) == 0 {
		m.disrupted = nil
	}
	m.forgetGains()
	e, err := engine.New(engine.Options{Policies: m.policies})
	if err != nil {
		m.Fatal(err)
	}
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		m.Fatal(err)
	}
	batchSize := rapid.SampledFrom([]int{1, 2, 3, 1000}).Draw(m.T, "batch size")
	l := &leader{model: m, killAfter: -1, panicAt: -1, failAt: -1, beats: map[string]heartbeat{}, tainted: map[string]time.Time{}, preempted: map[string]bool{}}
	l.workspace = newWorkspace("ws", e, m.policies, metrics, limits{batchSize: batchSize, batchTimeout: time.Hour, grace: 10 * time.Minute, failoverAfter: 40 * time.Minute, reservationTimeout: 30 * time.Minute, disruptions: m.budget, unhealthyThreshold: 0.55}, actions{
		listDecisions: func(context.Context) ([]*v1alpha1.PlacementDecision, error) {
			return sorted(m.decisions), nil
		},
		writeDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
			return l.write(types.NamespacedName{Namespace: d.Namespace, Name: d.Name}, d.ResourceVersion, d)
		},
		deleteDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) error {
			_, err := l.write(types.NamespacedName{Namespace: d.Namespace, Name: d.Name}, d.ResourceVersion, nil)
			return err
		},
		writeStatus: func(_ context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			return p, l.alive()
		},
		writeConfig: func(_ context.Context, c *v1alpha1.PlacementConfig) (*v1alpha1.PlacementConfig, error) {
			if err := l.alive(); err != nil {
				return nil, err
			}
			if m.config == nil || m.config.ResourceVersion != c.ResourceVersion {
				return nil, apierrors.NewConflict(schema.GroupResource{}, c.Name, errors.New("changed"))
			}
			m.config = c.DeepCopy()
			m.config.ResourceVersion = m.next()
			l.configured, l.configuredOn = m.config, l.view.config
			return m.config, nil
		},
		writePlan: func(_ context.Context, p *v1alpha1.RebalancePlan) (*v1alpha1.RebalancePlan, error) {
			current := m.plans[p.Name]
			if err := l.alive(); err != nil {
				return nil, err
			}
			if current == nil || current.ResourceVersion != p.ResourceVersion {
				return nil, apierrors.NewConflict(schema.GroupResource{}, p.Name, errors.New("changed"))
			}
			written := current.DeepCopy()
			written.Status, written.ResourceVersion = *p.Status.DeepCopy(), m.next()
			m.plans[p.Name] = written
			return written, nil
		},
		writeConditions: func(_ context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
			current := m.registrations[r.Name]
			if err := l.alive(); err != nil {
				return nil, err
			}
			if current == nil || current.ResourceVersion != r.ResourceVersion {
				return nil, apierrors.NewConflict(schema.GroupResource{}, r.Name, errors.New("changed"))
			}
			written := r.DeepCopy()
			written.ResourceVersion = m.next()
			m.registrations[r.Name] = written
			return written, nil
		},
		liveUIDs: func(_ context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
			there := map[types.NamespacedName]types.UID{}
			for _, name := range names {
				w, r := m.workloads[name.Name], m.registrations[name.Name]
				switch {
				case resource == deployments && m.visible && w != nil:
					there[name] = w.UID
				case resource == clusterResource && r != nil:
					there[name] = r.UID
				case resource == placementResource, resource == configResource && m.config != nil:
					there[name] = "some"
				}
			}
			return there, l.alive()
		},
		stillBound: func(_ context.Context, b *apisv1alpha2.APIBinding) (bool, error) {
			return b.ResourceVersion == m.binding, l.alive()
		},
		readHeartbeat: func(_ context.Context, cluster string) (heartbeat, bool, error) {
			l.hear(cluster)
			beat, found := l.beats[cluster]
			return beat, found, l.alive()
		},
		annotate: func(context.Context, *corev1.ConfigMap, string, string) error { return l.alive() },
		event: func(about runtime.Object, _, reason, message string) {
			if w, is := about.(*workloadObject); is && reason == string(v1alpha1.ChangePreempted) {
				l.expectVictim(w, message)
			}
		},
	})
	l.view.kinds = watchedKinds(workload.Kinds(), []schema.GroupVersionResource{deployments})
	l.workspace.now, l.workspace.slicing = func() time.Time { return m.clock }, m.slicing
	ask := l.workspace.ask
	l.workspace.ask = func(ctx context.Context, request engine.Request) (*engine.Decision, error) {
		l.panicAt--
		if l.panicAt == -1 && !l.panicsLate {
			panic("before the decision")
		}
		decision, err := ask(ctx, request)
		if l.panicAt == -1 {
			panic("after the decision")
		}
		if err == nil {
			l.happens("decisions")
			l.expectDecisionToBeFair(&request, decision)
		}
		return decision, err
	}
	l.beginDelivering()
	l.show(allKinds)
	m.leader = l
	if m.rogue {
		l.pass() // reads the durable decisions before a former leader writes
	}
}

func (l *leader) alive() error {
	if l.dead || l.fenced && !l.breaks {
		return errKilled
	}
	return nil
}

// write stores or deletes a slice as an API server does, and checks that nothing is promised twice.
func (l *leader) write(name types.NamespacedName, version string, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
	if l.meddle != nil {
		l.meddle()
	}
	if err := l.attempt(func() error { return nil }); err != nil {
		return nil, err
	}
	l.breaks = false
	outcome, broken := l.broken[name.Name]
	switch {
	case broken && outcome == refusedWrite:
		return nil, apierrors.NewForbidden(schema.GroupResource{}, name.Name, errors.New("not now"))
	case broken && outcome == lostWrite:
		return nil, apierrors.NewTimeoutError("try later", 1)
	}
	current := l.decisions[name]
	switch {
	case version == "" && current != nil:
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{}, name.Name)
	case version != "" && (current == nil || current.ResourceVersion != version):
		return nil, apierrors.NewConflict(schema.GroupResource{}, name.Name, errors.New("changed"))
	}
	before, stays, was := l.load(), l.notToBeSeen(), l.durable()
	if d == nil {
		delete(l.decisions, name)
	} else {
		d = d.DeepCopy()
		d.ResourceVersion = l.next()
		if d.UID == "" {
			d.UID = types.UID("uid-" + d.ResourceVersion)
		}
		l.decisions[name] = d
	}
	l.happens("writes of decisions")
	durable := l.durable()
	l.followChanges(was, durable)
	l.expectGone(was, durable)
	for workload, clusters := range stays {
		if after := clusterNames(durable[workload].Clusters); !slices.Equal(after, clusters) && !slices.Equal(after, l.decided[workload]) && !l.rogue {
			l.Fatalf("%s cannot be seen, is on %v, was on %v, and was to be on %v", workload, after, clusters, l.decided[workload])
		}
	}
	after := l.load()
	for _, c := range l.view.clusters {
		has := millis(c.Status.Allocatable)
		if usage := l.view.usages[c.Name]; usage != nil {
			has = millis(usage.Allocatable) // whatever the status says, which is of another report
		}
		if !l.rogue && after[c.Name] > has && after[c.Name] > before[c.Name] { // a rogue's writes may not be known yet
			l.Fatalf("%s: %d promised and in use of %d, was %d", c.Name, after[c.Name], has, before[c.Name])
		}
	}
	if broken {
		return nil, apierrors.NewTimeoutError("try later", 1)
	}
	return d, nil
}

// allKinds has a bit for each kind of object.
const allKinds = 511

// show brings informers up to date; each bit of kinds is one kind of object.
func (l *leader) show(kinds int) {
	if kinds&1 != 0 {
		l.view.clusters = nil
		for _, name := range slices.Sorted(maps.Keys(l.registrations)) {
			r := l.registrations[name]
			l.view.clusters = append(l.view.clusters, r)
		}
	}
	if kinds&2 != 0 {
		l.view.placements = slices.Clone(l.placements)
	}
	if kinds&4 != 0 {
		l.view.decisions = sorted(l.decisions)
	}
	if kinds&8 != 0 {
		l.view.workloads = nil
		for _, name := range slices.Sorted(maps.Keys(l.workloads)) {
			if !l.visible {
				break
			}
			l.view.workloads = append(l.view.workloads, l.workloads[name])
		}
	}
	if kinds&128 != 0 {
		l.view.plans = nil
		for _, name := range slices.Sorted(maps.Keys(l.plans)) {
			l.view.plans = append(l.view.plans, l.plans[name])
		}
	}
	if kinds&256 != 0 {
		l.view.works = l.storedWorks()
	}
	if kinds&16 != 0 {
		l.view.usages = maps.Clone(l.usages)
		l.view.config, l.view.configMaps = l.config, l.configMaps
	}
	if kinds&32 != 0 {
		for name := range l.leases {
			l.hear(name)
		}
	}
	if kinds&64 != 0 {
		l.view.binding, l.view.hidden = testBinding("deployments.apps"), nil
		l.view.binding.ResourceVersion = l.binding
		l.view.binding.ManagedFields = []metav1.ManagedFieldsEntry{{Time: &metav1.Time{Time: l.boundAt}}}
		if !l.claimed {
			l.view.binding.Spec.PermissionClaims[0].State = apisv1alpha2.ClaimRejected
			l.view.hidden = hiddenBy(l.view.binding, []schema.GroupVersionResource{deployments})
		}
	}
	l.view.heard = map[types.UID]heartbeat{}
	for _, r := range l.view.clusters {
		if beat, found := l.beats[r.Name]; found && beat.holder == r.Status.ClusterUID {
			l.view.heard[r.UID] = beat
		}
	}
}

// hear records the latest heartbeat of a cluster.
func (l *leader) hear(cluster string) {
	if beat := l.leases[cluster]; !beat.renewed.Equal(l.beats[cluster].renewed) {
		beat.at = l.clock
		l.beats[cluster] = beat
	}
}

// pass makes passes until no other is due at once, and compares the ledger with the decisions.
func (l *leader) pass() {
	for n := 0; ; n++ {
		if n == 1000 {
			l.Fatalf("passes go on for ever: %v", l.durable())
		}
		before := l.durable()
		l.decided, l.preempted = l.belongs(), map[string]bool{}
		l.seeTaints()
		allowed := l.allowedCandidate()
		r := l.workspace.reconcile(klog.NewContext(context.Background(), klog.Logger{}), l.view)
		expectNoPanic(l.T, r.errs...)
		if l.workspace.loss.failover != failoverNormal {
			l.happens("passes while failover is " + strings.ToLower(string(l.workspace.loss.failover)))
		}
		if !l.fenced && !l.rogue && !l.dead {
			l.expectTheLedgerToBeTrue(r.err() == nil && len(l.workspace.writeFailures) == 0)
			l.expectNothingLosesItsPlace(before)
		}
		if !l.fenced && !l.dead {
			l.expectCandidateWithin(allowed)
		}
		if r.err() != nil || !r.again {
			return
		}
	}
}
