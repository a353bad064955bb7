package capacity

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Bounds of a quantity as text. Kubernetes' own parser takes a minute for the dozen characters of 1e-99999999, and so
// does comparing 1e99999999 with anything.
const (
	maxQuantity = 64 // characters
	maxExponent = 30 // decimal digits on either side of the point
)

// ParseQuantity is Kubernetes' resource.ParseQuantity for untrusted text.
func ParseQuantity(text string) (resource.Quantity, error) {
	if err := CheckQuantity(text); err != nil {
		return resource.Quantity{}, err
	}
	return resource.ParseQuantity(text)
}

// CheckQuantity returns an error for a text that is too expensive to parse as a quantity. It does not check that it is one.
func CheckQuantity(text string) error {
	if len(text) > maxQuantity {
		return fmt.Errorf("a quantity of %d characters, more than %d", len(text), maxQuantity)
	}
	_, exponent, found := strings.Cut(strings.ToLower(text), "e")
	if exponent = strings.TrimLeft(exponent, "+-0"); !found || len(exponent) < 2 || exponent[0] < '0' || exponent[0] > '9' {
		return nil
	}
	if len(exponent) > 2 || exponent > fmt.Sprint(maxExponent) {
		return fmt.Errorf("%s is out of proportion", text)
	}
	return nil
}

// outOfProportion reports whether a quantity is too large or too small to be compared cheaply.
func outOfProportion(q resource.Quantity) bool {
	scale := q.AsDec().Scale() // of a copy
	return scale > maxExponent || scale < -maxExponent
}
