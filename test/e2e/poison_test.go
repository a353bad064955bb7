package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPoison: what one tenant writes, and the API server accepts, delays no other tenant: neither a quantity whose parsing
// takes a minute, nor a time that Go cannot read, not even for a controller that starts over.
func TestPoison(t *testing.T) {
	var team, mallory *team
	t.Run("team", func(t *testing.T) { team = newTeam(t) })
	t.Run("mallory", func(t *testing.T) { mallory = newTeam(t) })
	team.T, mallory.T = t, t
	team.apply(cluster("good", "64"), placement("app"), deployment("one", "app", "1"))
	team.expect("Deployment one", "good")

	mallory.apply(
		strings.Replace(cluster("slow", "4"), "status:", "status:\n  largestFree: {cpu: \"1e-99999999\"}", 1),
		cluster("odd", "4", `taints: [{key: k, effect: NoSchedule, timeAdded: "2026-01-01t00:00:00z"}]`),
		cluster("fine", "4"), placement("app"), deployment("mine", "app", "1"))
	start := time.Now()
	team.apply(cluster("second", "64"), placement("other", "clusterSelector: {clusterNames: [second]}"), deployment("two", "other", "1"))
	team.expect("Deployment two", "second")
	t.Logf("another tenant's new cluster was followed within %s", time.Since(start).Round(time.Millisecond))
	mallory.expect("Deployment mine", "fine") // what can be read of one's own is followed, too

	current.stop()
	next, err := startController(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	current = next
	team.eventually("ready", "<nil>", func() string { return fmt.Sprint(next.Ready()) })
	team.apply(deployment("three", "app", "1"))
	team.expect("Deployment three", "good,second")
}
