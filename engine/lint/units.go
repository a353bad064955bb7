package lint

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/capacity"
)

// The least plausible amounts in the right unit. No decision depends on less: programs need more memory, and clusters and containers
// have and request more of a processor. 0 and 1 are left alone, since they ask whether there is any.
const (
	leastMemory     = 1 << 20
	leastRequestCPU = 10
	leastClusterCPU = 100
)

// unit returns what is likely wrong with a number that a field is compared with; empty if nothing is. written formats an amount in
// the language of the comparison.
func unit(field, key, operator string, number int64, written func(number int64, unit string) string) string {
	variable, name, _ := strings.Cut(field, ".")
	ofCluster := variable == "capacity"
	if field == "capacity.utilization" || ofCluster && key == "" { // percent
		switch {
		case key != "" && (number > 100 || number == 100 && operator == ">"):
			return fmt.Sprintf("%s is in percent, and more than 100 is hardly meant", name)
		case number == 1 && operator != "==" && operator != "!=":
			return fmt.Sprintf("%s goes up to 100, and 1 is hardly meant: it is no fraction", name)
		}
		return ""
	}
	switch {
	case number <= 1 || !ofCluster && field != "workload.requests":
	case isBytes(key) && number < leastMemory:
		return fmt.Sprintf("%s is in bytes, and nothing is as small as %d, did you mean %s or %s?", key, number, written(number, "Gi"), written(number, "Mi"))
	case key == capacity.CPU && (number < leastRequestCPU || ofCluster && number < leastClusterCPU):
		return fmt.Sprintf("cpu is in millicores, and nothing is as small as %d, did you mean %d?", number, 1000*number)
	}
	return ""
}

// isBytes reports whether amounts of a resource are in bytes.
func isBytes(resource string) bool {
	return resource == capacity.Memory || resource == capacity.Storage || resource == string(corev1.ResourceEphemeralStorage) ||
		strings.HasPrefix(resource, corev1.ResourceHugePagesPrefix)
}

// asQuantity formats an amount in CEL.
func asQuantity(number int64, unit string) string {
	return fmt.Sprintf("quantity(\"%d%s\")", number, unit)
}

// asBytes formats an amount in Rego.
func asBytes(number int64, unit string) string {
	return fmt.Sprintf("%d (%d%s)", number<<map[string]int{"Mi": 20, "Gi": 30}[unit], number, unit)
}
