package engine

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// InvalidError is the error of a call with invalid arguments, which has changed nothing. The results of CompilePlacement,
// snapshot.FromRegistration, workload.FromObject and ReservationOf are valid.
type InvalidError struct {
	// Field is the path of the invalid field, for example "workload.requests.cpu".
	Field string
	// Message states what is wrong with it.
	Message string
}

// Error implements error.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Message }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// validate checks a request in a few comparisons. If ctx has ended, it returns its cause.
func (r *Request) validate(ctx context.Context) error {
	switch {
	case ctx == nil:
		return invalid("ctx", "is nil")
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.Placement == nil:
		return invalid("placement", "is nil")
	case r.Placement.Digest == "":
		return invalid("placement", "is not compiled: take it from CompilePlacement")
	case r.Workload == nil:
		return invalid("workload", "is nil")
	case r.Workload.Replicas < 0 || r.Workload.Replicas > math.MaxInt32:
		return invalid("workload.replicas", "%d is not from 0 to %d", r.Workload.Replicas, math.MaxInt32)
	}
	for i := range r.Current {
		name := r.Current[i].Name
		if name == "" {
			return invalid("current", "a cluster has no name")
		}
		if n := r.Current[i].Replicas; n < 0 || n > math.MaxInt32 {
			return invalid("current["+name+"].replicas", "%d is not from 0 to %d", n, math.MaxInt32)
		}
		for j := range i {
			if r.Current[j].Name == name {
				return invalid("current["+name+"]", "the cluster is there twice")
			}
		}
	}
	if len(r.Leave) > 0 || len(r.Into) > 0 || r.MinGain != 0 {
		if err := r.validateMove(); err != nil {
			return err
		}
	}
	if err := validateAmounts("workload.pod", &r.Workload.Pod); err != nil {
		return err
	}
	return validateAmounts("workload.requests", &r.Workload.Requests)
}

// validateMove checks the fields of a request about leaving clusters.
func (r *Request) validateMove() error {
	for i := range r.Leave {
		name := r.Leave[i].Cluster
		switch {
		case !slices.ContainsFunc(r.Current, func(c Choice) bool { return c.Name == name }):
			return invalid("leave["+name+"]", "the workload does not run there: see current")
		case r.Leave[i].Rejection == nil:
			return invalid("leave["+name+"].rejection", "is nil: say why the workload should leave the cluster")
		case slices.ContainsFunc(r.Leave[:i], func(v Verdict) bool { return v.Cluster == name }):
			return invalid("leave["+name+"]", "the cluster is there twice")
		}
	}
	if slices.Contains(r.Into, "") {
		return invalid("into", "a cluster has no name")
	}
	if r.MinGain < 0 || r.MinGain > 100 {
		return invalid("minGain", "%d is not from 0 to 100", r.MinGain)
	}
	return nil
}

// validateAmounts checks that amounts are from 0 to MaxAmount, and that each resource has only one.
func validateAmounts(field string, r *capacity.Resources) error {
	const most = uint64(capacity.MaxAmount) // as unsigned numbers, negative amounts exceed it
	if uint64(r.CPU) <= most && uint64(r.Memory) <= most && uint64(r.Storage) <= most && len(r.Extended) == 0 {
		return nil
	}
	for name, amount := range r.Each {
		if uint64(amount) > most {
			return invalid(field+"."+name, "%d is not from 0 to %d", amount, most)
		}
	}
	for _, name := range []string{"", capacity.CPU, capacity.Memory, capacity.Storage} {
		if _, found := r.Extended[name]; found {
			return invalid(field, "%q is no extended resource", name)
		}
	}
	return nil
}

func validateCluster(c *snapshot.Cluster) error {
	switch {
	case c == nil:
		return invalid("cluster", "is nil")
	case c.Name == "":
		return invalid("cluster.name", "is empty")
	case c.UsableNodes < 0 || c.UsableNodes > math.MaxInt32:
		return invalid("cluster.usableNodes", "%d is not from 0 to %d", c.UsableNodes, math.MaxInt32)
	}
	if err := validateAmounts("cluster.allocatable", &c.Allocatable); err != nil {
		return err
	}
	if err := validateAmounts("cluster.allocated", &c.Allocated); err != nil {
		return err
	}
	if c.LargestFree != nil {
		if err := validateAmounts("cluster.largestFree", c.LargestFree); err != nil {
			return err
		}
	}
	for uid, amounts := range c.Counted {
		if amounts.Negative() {
			return invalid("cluster.counted["+uid+"]", "an amount is negative")
		}
	}
	return nil
}

func (r *Reservation) validate() error {
	for i := range r.Shares {
		s := &r.Shares[i]
		if s.Cluster == "" {
			return invalid("clusters", "a cluster has no name")
		}
		for j := range i {
			if r.Shares[j].Cluster == s.Cluster {
				return invalid("clusters["+s.Cluster+"]", "the cluster is there twice")
			}
		}
		if err := validateAmounts("clusters["+s.Cluster+"].reserved", &s.Amount); err != nil {
			return err
		}
	}
	return nil
}

func validateGrants(workspace, fleet logicalcluster.Name, all []Grant) error {
	if workspace == fleet {
		return invalid("fleet", "%s is the workspace itself: it sees its own clusters without a grant", fleet)
	}
	sets := map[string]bool{}
	for i := range all {
		g := &all[i]
		field := "grants[" + g.Set + "]"
		switch {
		case g.Set == "":
			return invalid(field, "the name of the set is empty")
		case sets[g.Set]:
			return invalid(field, "there are two of this set")
		case g.Weight < 1:
			return invalid(field+".weight", "%d is not 1 at least", g.Weight)
		}
		sets[g.Set] = true
		for of, amounts := range map[string]map[string]int64{
			"quota": g.Quota, "clusterQuota": g.ClusterQuota, "guaranteed": g.Guaranteed, "borrowingLimit": g.BorrowingLimit,
		} {
			for name, amount := range amounts {
				if amount < 0 {
					return invalid(field+"."+of+"["+name+"]", "%d is negative", amount)
				}
			}
		}
	}
	return nil
}
