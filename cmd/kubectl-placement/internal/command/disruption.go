package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/engine/disruption"
)

// budgetFlags are the flags of the brake, as the controller has them.
type budgetFlags struct{ disruption.Budget }

func addBudget(c *cobra.Command) *budgetFlags {
	b := &budgetFlags{disruption.Default}
	c.Flags().IntVar(&b.Percent, "disruption-percent", b.Percent, "The controller's flag of this name: how many of the placed workloads leave a cluster at once. 100 holds none by the brake.")
	c.Flags().IntVar(&b.Minimum, "disruption-minimum", b.Minimum, "The controller's flag of this name: how many leave a cluster at once, however few are placed.")
	return b
}

// Validate implements validated.
func (b *budgetFlags) Validate() error {
	switch {
	case b.Percent < 0 || b.Percent > 100:
		return fmt.Errorf("--disruption-percent must be from 0 to 100, is %d", b.Percent)
	case b.Minimum < 1:
		return fmt.Errorf("--disruption-minimum must be at least 1, is %d", b.Minimum)
	}
	return nil
}

// addNow adds --now.
func addNow(c *cobra.Command) *time.Time {
	now := new(time.Time)
	c.Flags().TimeVar(now, "now", time.Time{}, []string{time.RFC3339}, "Time at which to look, for tolerationSeconds of taints, clusters that are not ready, cool-downs and windows, for example 2026-11-26T12:00:00Z. Default: the time now.")
	return now
}
