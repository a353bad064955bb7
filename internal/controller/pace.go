package controller

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/disruption"
)

// Pace is how patient the controller is with clusters, and how fast it moves workloads that have to move.
type Pace struct {
	// HeartbeatGracePeriod is how long a cluster that reports may be silent before its Ready condition becomes Unknown; 0
	// means forever.
	HeartbeatGracePeriod time.Duration
	// FailoverAfter is how long it may be silent before it counts as lost: its Ready condition becomes False and its
	// workloads are placed elsewhere; 0 means forever. It is at least HeartbeatGracePeriod.
	FailoverAfter time.Duration
	// ReservationTimeout is how long a cluster that reports which workloads it counts may take to count one that was placed
	// there before the reservation expires; 0 means forever.
	ReservationTimeout time.Duration
	// NotReadyDelay is how long workloads stay on a cluster that reports itself not ready. The engine of a Controller
	// applies it.
	NotReadyDelay time.Duration
	// Disruptions is how many workloads of a workspace may lose a cluster within an interval; the zero value sets no limit.
	Disruptions disruption.Budget
	// UnhealthyFleetThreshold is the share of a workspace's clusters, from 0 to 1, at which failover slows to a tenth of its pace if that
	// many are silent at once; 0 disables this.
	UnhealthyFleetThreshold float64
}

// DefaultPace returns the defaults of the controller's flags.
func DefaultPace() Pace {
	return Pace{
		HeartbeatGracePeriod: 90 * time.Second, FailoverAfter: 5 * time.Minute, ReservationTimeout: 30 * time.Minute,
		NotReadyDelay: engine.DefaultNotReadyDelay, Disruptions: disruption.Default,
		UnhealthyFleetThreshold: 0.55,
	}
}

// AddFlags adds the flags of the controller that set the pace.
func (p *Pace) AddFlags(flags *pflag.FlagSet) {
	flags.DurationVar(&p.HeartbeatGracePeriod, "heartbeat-grace-period", p.HeartbeatGracePeriod, "How long a cluster that reports may be silent before its Ready condition becomes Unknown: no workloads are placed there then, and those that are there stay. 0 is for ever.")
	flags.DurationVar(&p.FailoverAfter, "failover-after", p.FailoverAfter, "How long a cluster that reports may be silent before it is taken for lost: its Ready condition becomes False, and its workloads are placed anew. 0 is for ever.")
	flags.DurationVar(&p.ReservationTimeout, "reservation-timeout", p.ReservationTimeout, "How long a cluster that says which workloads it counts has to count one that was placed there, before what is reserved for it is given up. 0 is for ever.")
	flags.DurationVar(&p.NotReadyDelay, "not-ready-delay", p.NotReadyDelay, "How long workloads stay on a cluster that says of itself that it is not ready. A toleration of the taint tmc.kcp.io/not-ready, effect NoExecute, in their placement says otherwise.")
	flags.IntVar(&p.Disruptions.Percent, "disruption-percent", p.Disruptions.Percent, "Percentage of the placed workloads of a workspace that may lose a cluster within --disruption-interval, for whatever reason. 100 paces nothing.")
	flags.IntVar(&p.Disruptions.Minimum, "disruption-minimum", p.Disruptions.Minimum, "How many workloads of a workspace may lose a cluster within --disruption-interval at least, however few are placed.")
	flags.DurationVar(&p.Disruptions.Interval, "disruption-interval", p.Disruptions.Interval, "Interval that --disruption-percent and --disruption-minimum are about. 0 paces nothing.")
	flags.Float64Var(&p.UnhealthyFleetThreshold, "unhealthy-fleet-threshold", p.UnhealthyFleetThreshold, "Share of the clusters of a workspace, and more than 2 of them, from which on, if so many are silent at once, the workloads of lost clusters are placed anew at a tenth of the pace: it may be the controller that is cut off. If all are silent none is, whatever this says. 0 never slows.")
}

// Validate returns the errors, named by flag.
func (p *Pace) Validate() error {
	var errs []error
	if p.HeartbeatGracePeriod < 0 {
		errs = append(errs, fmt.Errorf("--heartbeat-grace-period must not be negative, is %s", p.HeartbeatGracePeriod))
	}
	if p.FailoverAfter != 0 && p.FailoverAfter < p.HeartbeatGracePeriod {
		errs = append(errs, fmt.Errorf("--failover-after must be 0 or at least --heartbeat-grace-period, %s, is %s", p.HeartbeatGracePeriod, p.FailoverAfter))
	}
	if p.ReservationTimeout < 0 {
		errs = append(errs, fmt.Errorf("--reservation-timeout must not be negative, is %s", p.ReservationTimeout))
	}
	if p.NotReadyDelay <= 0 {
		errs = append(errs, fmt.Errorf("--not-ready-delay must be more than 0, is %s", p.NotReadyDelay))
	}
	if p.Disruptions.Percent < 0 || p.Disruptions.Percent > 100 {
		errs = append(errs, fmt.Errorf("--disruption-percent must be from 0 to 100, is %d", p.Disruptions.Percent))
	}
	if p.Disruptions.Minimum < 1 {
		errs = append(errs, fmt.Errorf("--disruption-minimum must be at least 1, is %d", p.Disruptions.Minimum))
	}
	if p.Disruptions.Interval < 0 {
		errs = append(errs, fmt.Errorf("--disruption-interval must not be negative, is %s", p.Disruptions.Interval))
	}
	if !(p.UnhealthyFleetThreshold >= 0 && p.UnhealthyFleetThreshold <= 1) {
		errs = append(errs, fmt.Errorf("--unhealthy-fleet-threshold must be from 0 to 1, is %g", p.UnhealthyFleetThreshold))
	}
	return errors.Join(errs...)
}
