package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/kcp-placement/placement/offline/report"
)

// timesBareTarget is how many decisions are to be published in the time that one bare write takes.
const timesBareTarget = 10

// result is what was measured.
type result struct {
	Bare      bareResult     `json:"bare"`
	BareWrite streamResult   `json:"bareWrite"`
	Burst     burstResult    `json:"burst"`
	Steady    steadyResult   `json:"steady"`
	Restart   restartResult  `json:"restart"`
	Delivery  deliveryResult `json:"delivery"`
}

// bareResult is how fast small objects are created without an engine.
type bareResult struct {
	Writers   int     `json:"writers"`
	Objects   int     `json:"objects"`
	PerSecond float64 `json:"perSecond"`
}

// burstResult is how fast a burst of workloads is placed, and at what cost.
type burstResult struct {
	Decisions         int     `json:"decisions"`
	PlacementsSeconds float64 `json:"placementsSeconds"`
	Seconds           float64 `json:"seconds"`
	PerSecond         float64 `json:"perSecond"`
	TimesBare         float64 `json:"timesBare"`
	writes
	Passes        float64 `json:"passes"`
	ControllerCPU float64 `json:"controllerCPUSeconds"`
}

// writes of the controller, by kind of object. NotOK are conflicts, errors and dropped events.
type writes struct {
	Decisions float64 `json:"decisionWrites"`
	Statuses  float64 `json:"statusWrites"`
	Events    float64 `json:"eventWrites"`
	NotOK     float64 `json:"writesNotOK"`
}

func (w writes) String() string {
	return fmt.Sprintf("%.0f, %.0f, %.0f; %.0f", w.Decisions, w.Statuses, w.Events, w.NotOK)
}

// steadyResult is how long it takes to place single workloads in a stream, and what the controller writes for it.
type steadyResult struct {
	streamResult
	writes
}

// streamResult is how long single objects take: the create call, and from its call and its return until the decision is seen.
type streamResult struct {
	Objects        int       `json:"objects"`
	Created        quantiles `json:"created"`
	SeenFromCall   quantiles `json:"seenFromCall"`
	SeenFromReturn quantiles `json:"seenFromReturn"`
}

// restartResult is how a controller starts where everything is placed.
type restartResult struct {
	Workloads     int     `json:"workloads"`
	ReadySeconds  float64 `json:"readySeconds"`
	LoadedSeconds float64 `json:"loadedSeconds"`
	Writes        float64 `json:"writes"`
	Changed       int     `json:"changedObjects"`
}

// quantiles in milliseconds.
type quantiles struct {
	P50 float64 `json:"p50ms"`
	P99 float64 `json:"p99ms"`
}

func quantilesOf(all []time.Duration) quantiles {
	slices.Sort(all)
	at := func(percent int) float64 {
		// The least value that percent of all do not exceed.
		return all[max(0, (len(all)*percent+99)/100-1)].Seconds() * 1000
	}
	return quantiles{at(50), at(99)}
}

func (q quantiles) String() string { return fmt.Sprintf("%.1f / %.1f ms", q.P50, q.P99) }

func (r *result) print(w io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	t := report.NewTable(w)
	t.AppendHeader(table.Row{"STEP", "MEASURED", "VALUE", "TARGET", ""})
	verdict := func(met bool) string {
		if met {
			return "met"
		}
		return "missed"
	}
	placing := []table.Row{
		{"bare", fmt.Sprintf("writes a second, %d at once", r.Bare.Writers), fmt.Sprintf("%.0f", r.Bare.PerSecond)},
		{"", "create returned, p50 / p99", r.BareWrite.Created},
		{"", "create to seen, p50 / p99", r.BareWrite.SeenFromCall},
		{"burst", fmt.Sprintf("%d decisions", r.Burst.Decisions), fmt.Sprintf("%.2f s", r.Burst.Seconds)},
		{"", "decisions a second", fmt.Sprintf("%.0f", r.Burst.PerSecond)},
		{"", "for each bare write", fmt.Sprintf("%.1f", r.Burst.TimesBare), fmt.Sprintf(">= %d", timesBareTarget), verdict(r.Burst.TimesBare >= timesBareTarget)},
		{"", "writes: decisions, statuses, events; failed", r.Burst.writes},
		{"", "passes, the controller's CPU", fmt.Sprintf("%.0f, %.1f s", r.Burst.Passes, r.Burst.ControllerCPU)},
		{"steady", fmt.Sprintf("%d Deployments: create returned, p50 / p99", r.Steady.Objects), r.Steady.Created},
		{"", "create to decision seen, p50 / p99", r.Steady.SeenFromCall},
		{"", "create returned to decision seen, p50 / p99", r.Steady.SeenFromReturn},
		{"", "writes: decisions, statuses, events; failed", r.Steady.writes},
		{"restart", fmt.Sprintf("%d workloads: ready", r.Restart.Workloads), fmt.Sprintf("%.2f s", r.Restart.ReadySeconds)},
		{"", "all first passes made", fmt.Sprintf("%.2f s", r.Restart.LoadedSeconds)},
		{"", "writes", fmt.Sprintf("%.0f", r.Restart.Writes), "0", verdict(r.Restart.Writes == 0)},
		{"", "objects changed", r.Restart.Changed, "0", verdict(r.Restart.Changed == 0)},
	}
	if r.Burst.Decisions > 0 {
		t.AppendRows(placing)
	}
	if d := &r.Delivery; d.Clusters > 0 {
		t.AppendRows([]table.Row{
			{"deliver", fmt.Sprintf("%d Deployments to %d clusters: all ready", d.Burst.Workloads, d.Clusters), fmt.Sprintf("%.1f s", d.Burst.Seconds)},
			{"", "gathered writes for each: Works, decisions", fmt.Sprintf("%.2f", d.Burst.Gathered), fmt.Sprintf("<= %.1f", writesTarget), verdict(d.Burst.Gathered <= writesTarget)},
			{"", "writes of each Deployment: status, finalizer", fmt.Sprintf("%.2f", d.Burst.Own)},
			{"", fmt.Sprintf("%d in a stream: decision to Work written, p50 / p99", d.Steady.Workloads), d.Steady.Written},
			{"", "decision to applied, p50 / p99", d.Steady.Applied},
			{"", "decision to ready seen in the workspace, p50 / p99", d.Steady.Ready, "p50 <= 2 s", verdict(d.Steady.Ready.P50 <= readyTarget.Seconds()*1000)},
			{"", "writes for each: gathered, own", fmt.Sprintf("%.2f, %.2f", d.Steady.Gathered, d.Steady.Own)},
		})
	}
	t.Render()
	return nil
}
