// Package outcome reads what requests to an API server have come to: whether a write was made, and which version is later.
package outcome

import (
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Conflicts reports whether a write failed because the object is not as it was read.
func Conflicts(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)
}

// Refused reports whether a server has answered that it did not write, for another reason than that it Conflicts. After any other
// error it may have, or may still do so.
func Refused(err error) bool {
	status := apierrors.APIStatus(nil)
	return errors.As(err, &status) && status.Status().Code >= http.StatusBadRequest && status.Status().Code < http.StatusInternalServerError &&
		status.Status().Code != http.StatusRequestTimeout && !Conflicts(err)
}

// Newer reports whether a resource version is known to come after another of the same resource.
func Newer(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err == nil && order > 0
}
