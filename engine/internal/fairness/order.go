package fairness

import (
	"cmp"
	"time"
)

// Claimant is a workload in line that asks for room.
type Claimant struct {
	// Guaranteed is set if its workspace stays within what it is guaranteed, including what is asked for.
	Guaranteed bool
	// Priority of its placement.
	Priority int32
	// Share of its workspace, without what is asked for.
	Share Share
	// Since is when it began to wait; zero if it has just arrived.
	Since time.Time
	// Line is the place of its workspace among those in line, in the order in which they joined. Workload names it within the workspace.
	Line     int64
	Workload string
}

// Compare orders claimants by who gets room first. A claim within what is guaranteed comes first, by priority and then by share. Beyond
// that, where workspaces borrow, share comes before priority: no workspace gets more by setting high priorities. Ties go to the longest
// wait, and then to the workspace that joined the line first. Names decide only within a workspace: how others name things must make no
// difference to anybody.
//
// Invariant: Compare is a total order of claimants that differ in any field.
func (c *Claimant) Compare(o *Claimant) int {
	if c.Guaranteed != o.Guaranteed {
		if c.Guaranteed {
			return -1
		}
		return 1
	}
	priority, share := cmp.Compare(o.Priority, c.Priority), c.Share.Compare(o.Share)
	if !c.Guaranteed {
		priority, share = share, priority
	}
	return cmp.Or(priority, share, c.compareSince(o), cmp.Compare(c.Line, o.Line), cmp.Compare(c.Workload, o.Workload))
}

func (c *Claimant) compareSince(o *Claimant) int {
	switch {
	case c.Since.IsZero() == o.Since.IsZero():
		return c.Since.Compare(o.Since)
	case o.Since.IsZero():
		return -1
	default:
		return 1
	}
}
