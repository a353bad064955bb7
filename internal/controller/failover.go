package controller

import (
	"context"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/headroom"
)

// loss is how much of a fleet has fallen silent at once. The fault may be ours: then the workloads are fine, and moving them would do harm.
type loss struct {
	failover failover
	// silent is how many of the clusters that have ever reported (of) are silent or lost.
	silent, of int
	// lost are the clusters whose workloads are placed anew, rest is what all other clusters can have in use.
	lost map[string]bool
	rest capacity.Resources
}

// failover is how fast the workloads of lost clusters are placed anew, as in Kubernetes' node lifecycle controller.
type failover string

const (
	failoverNormal failover = ""
	// failoverSlowed: more than the threshold share of the fleet is silent. The pace is a tenth.
	failoverSlowed failover = "Slowed"
	// failoverStopped: all of it is silent.
	failoverStopped failover = "Stopped"
)

// slowedBy is the factor by which failover is slowed.
const slowedBy = 10

// fewLost is how many clusters may always be lost: in a small fleet even these are a large share.
const fewLost = 2

// watchLoss determines how much of the fleet has fallen silent, by the conditions of its registrations. Clusters count once they are
// silent, before they are lost, so clusters that fall silent together are counted together though one is lost first.
func (w *workspace) watchLoss(ctx context.Context, registrations []*v1alpha1.ClusterRegistration) {
	now := loss{}
	for _, r := range registrations {
		ready := conditionOf(r, v1alpha1.ReadyCondition)
		if ready == nil {
			continue
		}
		now.of++
		switch ready.Reason {
		case v1alpha1.ClusterLostReason:
			if now.lost == nil {
				now.lost = map[string]bool{}
			}
			now.lost[r.Name] = true
			now.silent++
		case v1alpha1.HeartbeatMissedReason:
			now.silent++
		}
	}
	switch {
	case now.silent > 0 && now.silent == now.of:
		now.failover = failoverStopped
	case now.silent > fewLost && w.unhealthyThreshold > 0 && float64(now.silent)/float64(now.of) >= w.unhealthyThreshold:
		now.failover = failoverSlowed
	}
	if before := w.loss.failover; before != now.failover {
		if before != failoverNormal {
			w.metrics.failover.WithLabelValues(string(before)).Dec()
		}
		if now.failover != failoverNormal {
			w.metrics.failover.WithLabelValues(string(now.failover)).Inc()
		}
		klog.FromContext(ctx).Info("The pace of failover has changed", "silentClusters", now.silent, "clusters", now.of, "failover", string(now.failover))
	}
	w.loss = now
}

// countRest adds up the capacity of the clusters that are not lost.
func (w *workspace) countRest() {
	if len(w.loss.lost) == 0 {
		return
	}
	w.loss.rest = headroom.Rest(w.engine.Snapshot(w.name).Rows())
}

// displaced reports whether a workload was on a cluster that is lost, and how large it is.
func (l *loss) displaced(item *workItem) (displaced bool, size float64) {
	if len(l.lost) == 0 {
		return false, 0
	}
	for _, c := range item.stored.Clusters {
		displaced = displaced || l.lost[c.Name]
	}
	if !displaced {
		return false, 0
	}
	return true, headroom.Size(item.object.workload.Requests, l.rest)
}

// failsOver reports whether a workload leaves a cluster because the cluster is lost.
func (w *workspace) failsOver(d *engine.Decision) bool {
	for _, v := range d.Left {
		if w.loss.lost[v.Cluster] {
			return true
		}
	}
	return false
}

// holdsBack reports whether a workload of a lost cluster stays where it is for now because too much of the fleet is silent.
func (p *pass) holdsBack(owner *placementState, due *engine.Decision) bool {
	switch {
	case p.loss.failover == failoverNormal || !p.failsOver(due):
		return false
	case p.loss.failover == failoverStopped:
		return true
	default:
		return !owner.object.DisruptsAtOnce() && !p.slowed.Allows(p.began, p.placedBefore)
	}
}

// reason returns the reason of condition DisruptionAllowed while failover is slowed or stopped.
func (f failover) reason() string { return "Failover" + string(f) }

// String describes why failover is slowed or stopped.
func (l *loss) String() string {
	if l.failover == failoverStopped {
		return fmt.Sprintf("all %d clusters of the workspace are silent, so that it may be the controller that is cut off: failover stops until one is heard of", l.of)
	}
	return fmt.Sprintf("%d of %d clusters of the workspace are silent at once, so that it may be the controller that is cut off: failover goes on at a tenth of its pace", l.silent, l.of)
}
