package placement

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Tolerates reports whether the placement tolerates a taint, and until when; the zero time is for ever. As in Kubernetes,
// the first toleration that matches counts, and its tolerationSeconds begin at the taint's timeAdded. They do not run out
// while that is not known.
func (p *Placement) Tolerates(taint *corev1.Taint) (until time.Time, tolerated bool) {
	t := p.tolerationOf(taint)
	switch {
	case t == nil:
		return time.Time{}, false
	case t.TolerationSeconds == nil || taint.Effect != corev1.TaintEffectNoExecute:
		return time.Time{}, true
	default:
		return tolerationEnd(taint.TimeAdded, *t.TolerationSeconds)
	}
}

// ToleratesNotReady is Tolerates for a cluster whose Ready condition has been False since some time, which counts as a taint of
// the key v1alpha1.TaintNotReady. Without a toleration of it, it is tolerated for NotReadyDelay. Where since is the zero time,
// all that ends has ended.
func (p *Placement) ToleratesNotReady(since time.Time) (until time.Time, tolerated bool) {
	added := metav1.NewTime(since)
	t := p.tolerationOf(&corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoExecute})
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

func (p *Placement) tolerationOf(taint *corev1.Taint) *corev1.Toleration {
	for i := range p.Tolerations {
		if p.Tolerations[i].ToleratesTaint(klog.Logger{}, taint, false) {
			return &p.Tolerations[i]
		}
	}
	return nil
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

// Over reports whether what lasts until some time, where the zero time is for ever, is over. At an unknown time nothing is.
func Over(until, now time.Time) bool { return !until.IsZero() && !now.IsZero() && !now.Before(until) }

// tolerationsEnd reports whether any toleration lasts for some time only.
func tolerationsEnd(tolerations []corev1.Toleration) bool {
	for i := range tolerations {
		if tolerations[i].TolerationSeconds != nil {
			return true
		}
	}
	return false
}

func validateTolerations(path *field.Path, tolerations []corev1.Toleration) (errs field.ErrorList) {
	for i, t := range tolerations {
		path := path.Index(i)
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			if t.Key == "" {
				errs = append(errs, field.Invalid(path.Child("operator"), t.Operator, "must be Exists where key is empty"))
			}
		case corev1.TolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be empty where operator is Exists"))
			}
		default:
			errs = append(errs, field.NotSupported(path.Child("operator"), t.Operator,
				[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
		}
		switch t.Effect {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			errs = append(errs, field.NotSupported(path.Child("effect"), t.Effect, []corev1.TaintEffect{
				corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute,
			}))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(path.Child("effect"), t.Effect, "must be NoExecute where tolerationSeconds is set"))
		}
	}
	return errs
}
