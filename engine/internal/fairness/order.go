package fairness

import (
	"cmp"
	"time"
)

// Claimant is who asks for room, as it stands in line.
type Claimant struct {
	// Guaranteed says that its workspace has no more than it is guaranteed even with what is asked for.
	Guaranteed bool
	// Priority is that of its placement.
	Priority int32
	// Share of its workspace, without what is asked for.
	Share Share
	// Since is when it began to wait; zero for one that has only come.
	Since time.Time
	// Line is the place of its workspace among those that stand in line, by when they came. Workload names it within the workspace.
	Line     int64
	Workload string
}

// Compare orders claimants, who gets room first before the others. What stays within what is guaranteed comes first, by priority and
// then by share. Beyond that, where workspaces borrow, the share comes first: no workspace gets more for setting high priorities. Then
// the one that has waited longest, and then the one whose workspace came first; names decide within a workspace alone, as what others call
// themselves must change nothing for anybody.
//
// Invariant: it is a total order of claimants that differ in any field.
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
