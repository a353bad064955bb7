package capacity_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kcp-placement/placement/engine/capacity"
)

// TestQuantitiesOutOfProportion: quantities that Kubernetes' parser would take minutes for are refused at once, and no
// others.
func TestQuantitiesOutOfProportion(t *testing.T) {
	for text, want := range map[string]string{
		"0": "<nil>", "1500m": "<nil>", "4Gi": "<nil>", "1e3": "<nil>", "1E3": "<nil>", "1E": "<nil>", "1Ei": "<nil>", "1e-9": "<nil>", "1e+030": "<nil>",
		"1e31": "1e31 is out of proportion", "1e-99999999": "1e-99999999 is out of proportion", "1E+00099999999": "1E+00099999999 is out of proportion",
		strings.Repeat("9", 65): "a quantity of 65 characters, more than 64",
		"nonsense":              resource.ErrFormatWrong.Error(),
	} {
		if _, err := capacity.ParseQuantity(text); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"1e30": "cpu: 1e30 is too large", "1e999": "cpu: the quantity is out of proportion", "1e-5": "<nil>",
	} {
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(text)}
		if _, err := capacity.FromResourceList(list); fmt.Sprint(err) != want {
			t.Errorf("%s in a list: %v, want %s", text, err, want)
		}
	}
}
