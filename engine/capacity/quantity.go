package capacity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Bounds of a quantity as text. Kubernetes' own parser takes minutes for the dozen characters of 1e-99999999, and so
// does comparing 1e99999999 with anything.
const (
	maxQuantity = 64 // characters
	maxExponent = 30 // decimal digits on either side of the point
)

// ParseQuantity is Kubernetes' resource.ParseQuantity, for texts that nobody has looked at before.
func ParseQuantity(text string) (resource.Quantity, error) {
	if err := CheckQuantity(text); err != nil {
		return resource.Quantity{}, err
	}
	return resource.ParseQuantity(text)
}

// CheckQuantity fails where a text would be too dear to be parsed as a quantity. It does not say that it is one.
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

// quantities are the fields that hold resource lists in the objects that we read.
var quantities = []string{"requests", "limits", "overhead", "allocatable", "allocated", "reserved", "capacity"}

// CheckQuantities looks at all quantities in an object before anything parses them, and names the field of the first
// that would be too dear.
func CheckQuantities(object map[string]any) error { return checkQuantities("", object) }

func checkQuantities(path string, value any) error {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			field := strings.TrimPrefix(path+"."+key, ".")
			if list, ok := value[key].(map[string]any); ok && slices.Contains(quantities, key) {
				for _, name := range slices.Sorted(maps.Keys(list)) {
					if text, ok := list[name].(string); ok {
						if err := CheckQuantity(text); err != nil {
							return fmt.Errorf("%s.%s: %w", field, name, err)
						}
					}
				}
			}
			if err := checkQuantities(field, value[key]); err != nil {
				return err
			}
		}
	case []any:
		for i, element := range value {
			if err := checkQuantities(fmt.Sprintf("%s[%d]", path, i), element); err != nil {
				return err
			}
		}
	}
	return nil
}

// outOfProportion tells whether a quantity is so large or so small that it would be dear to compare.
func outOfProportion(q resource.Quantity) bool {
	scale := q.AsDec().Scale() // of a copy
	return scale > maxExponent || scale < -maxExponent
}
