package placement

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/internal/toleration"
)

// Tolerates reports whether the placement tolerates a taint, and until when; the zero time means forever. As in Kubernetes,
// the first toleration that matches counts, and its tolerationSeconds begin at the taint's timeAdded. They do not run out
// while that is not known.
func (p *Placement) Tolerates(taint *corev1.Taint) (until time.Time, tolerated bool) {
	t := toleration.Of(p.Tolerations, taint)
	switch {
	case t == nil:
		return time.Time{}, false
	case t.TolerationSeconds == nil || taint.Effect != corev1.TaintEffectNoExecute:
		return time.Time{}, true
	default:
		return tolerationEnd(taint.TimeAdded, *t.TolerationSeconds)
	}
}

// ToleratesNotReady is Tolerates for a cluster whose Ready condition has been False since a time, which counts as a taint with
// key v1alpha1.TaintNotReady. Without a toleration for it, it is tolerated for NotReadyDelay. If since is the zero time,
// every toleration that ends has ended.
func (p *Placement) ToleratesNotReady(since time.Time) (until time.Time, tolerated bool) {
	added := metav1.NewTime(since)
	t := toleration.Of(p.Tolerations, &corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoExecute})
	switch {
	case t != nil && t.TolerationSeconds == nil:
		return time.Time{}, true
	case since.IsZero():
		return time.Time{}, false
	case t != nil:
		return tolerationEnd(&added, *t.TolerationSeconds)
	default:
		return since.Add(p.NotReadyDelay), true
	}
}

func tolerationEnd(added *metav1.Time, seconds int64) (until time.Time, tolerated bool) {
	switch {
	case seconds <= 0:
		return time.Time{}, false
	case added.IsZero() || seconds > math.MaxInt64/int64(time.Second):
		return time.Time{}, true
	default:
		return added.Add(time.Duration(seconds) * time.Second), true
	}
}

// Over reports whether something that lasts until a time is over; a zero until means forever, and nothing is over at an unknown time.
func Over(until, now time.Time) bool { return !until.IsZero() && !now.IsZero() && !now.Before(until) }

// tolerationsEnd reports whether any toleration is limited in time.
func tolerationsEnd(tolerations []corev1.Toleration) bool {
	for i := range tolerations {
		if tolerations[i].TolerationSeconds != nil {
			return true
		}
	}
	return false
}
