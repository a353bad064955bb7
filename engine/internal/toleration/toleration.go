// Package toleration has what tolerations of placements and of pods have in common.
package toleration

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"
)

// Of returns the first toleration of a taint, nil if it is not tolerated.
func Of(tolerations []corev1.Toleration, taint *corev1.Taint) *corev1.Toleration {
	for i := range tolerations {
		if tolerations[i].ToleratesTaint(klog.Logger{}, taint, true) {
			return &tolerations[i]
		}
	}
	return nil
}

// Validate returns the errors that the API server reports for the tolerations of pods, including the operators Gt and Lt of
// Kubernetes 1.35.
func Validate(path *field.Path, tolerations []corev1.Toleration) (errs field.ErrorList) {
	for i, t := range tolerations {
		path := path.Index(i)
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
		case corev1.TolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be empty where operator is Exists"))
			}
		case corev1.TolerationOpGt, corev1.TolerationOpLt:
			if n, err := strconv.ParseInt(t.Value, 10, 64); err != nil || strconv.FormatInt(n, 10) != t.Value {
				errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be an integer where operator is "+string(t.Operator)))
			}
		default:
			errs = append(errs, field.NotSupported(path.Child("operator"), t.Operator, []corev1.TolerationOperator{
				corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpGt, corev1.TolerationOpLt,
			}))
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), t.Operator, "must be Exists where key is empty"))
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
