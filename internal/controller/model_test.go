package controller

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/policy"
)

// TestNothingIsPromisedTwice drives random histories of a workspace with two to five clusters. Workloads are created, scaled,
// changed and deleted; their pods start late, in part or never; clusters report late, again or out of order, in three
// objects that are shown in any order, shrink, vanish and return; passes are cut short, the engine panics, writes fail, once or
// for a while, refused or with an unknown outcome, controllers are killed between any two writes, and a new one leads while the
// former goes on deciding. Clusters are cordoned and drained, with a deadline or without, are not ready, and fall silent until they are
// lost, some of them or all; taints NoExecute come and go, and labels that violate constraints; placements and the workspace are
// suspended; plans and gains have workloads move, the most important take the place of others. In some histories what workloads lose has
// to wait for the brake, in some all that is decided is delivered (model_delivery_test.go).
//
// Invariants:
//   - no write promises more on a cluster than it has, by the last report that the controller knows, what is being left included,
//   - after each pass the ledger holds exactly what the decisions promise,
//   - at rest, no workload waits that fits on a cluster, and none is on a cluster that is drained and could be elsewhere,
//   - no pass takes a workload off all its clusters unless it makes room, or must leave each of them: the cluster is gone or lost, a taint
//     NoExecute is not tolerated or not any more, or a constraint required during execution is violated,
//   - nothing comes to a cluster that is cordoned or drained, and nothing is decided on what is suspended,
//   - where the most important workloads take the place of others, these are less important, and the write that gives them the place
//     comes after the one that takes it from the others,
//   - no interval has more disruptions than its budget, not even across a change of leader; only one workload fails over in each while most
//     clusters are silent, and none while all are,
//   - no workload moves for a gain within its cool-down, out of its windows or beyond its budget, and no third move undoes the first,
//   - what is delivered has a copy wherever it goes; what is said to be gone is gone; at rest each workload runs where it is decided to be,
//   - when all workloads are gone, all capacity is free.
//
// In some histories a former leader writes once more, past its fence, while clusters run no more than was promised. There,
// at rest, no cluster is promised more than it has.
//
// -rapid.checks and -rapid.steps set the number of histories and their length. PLACEMENT_MODEL=10m makes new histories for ten
// minutes. The log says what has happened how often: a kind of event that never happens fails the test.
func TestNothingIsPromisedTwice(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	makeHistories(t, 400, always, func(t *rapid.T) map[string]int {
		m := newModel(t, policies)
		m.run()
		return m.happened
	})
}

// makeHistories makes random histories, so many at least, each of which returns what has happened in it. What is to happen always must
// have happened in one of them.
func makeHistories(t *testing.T, fewest int, always []string, make func(*rapid.T) map[string]int) {
	var long time.Duration
	if text := os.Getenv("PLACEMENT_MODEL"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal("PLACEMENT_MODEL: ", err)
		}
	}
	histories, happened := 0, map[string]int{}
	for start := time.Now(); ; {
		rapid.Check(t, func(t *rapid.T) {
			in := make(t)
			histories++
			for what, n := range in {
				happened[what] += n
			}
		})
		if t.Failed() || histories >= fewest && time.Since(start) >= long {
			break
		}
	}
	for _, what := range always {
		if happened[what] == 0 && histories >= fewest && !t.Failed() {
			t.Errorf("%s: it never happened in %d histories", what, histories)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(happened)) {
		t.Logf("%s: %d, %.2f in each of %d histories", what, happened[what], float64(happened[what])/float64(histories), histories)
	}
}

// always are the events without which histories are too thin to show anything.
var always = []string{
	"change Placed", "change ClustersAdded", "change Rescheduled", "change Evicted", "change Failover", "change Returned", "change Rebalanced",
	"change Drained", "change Gain", "victims", "a candidate decides", "a rollout goes back", "shadow policies are evaluated", "failover while most clusters are silent", "passes while failover is stopped", "passes while failover is slowed", "departures", "reservations that fall",
}
