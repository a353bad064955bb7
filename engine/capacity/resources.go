// Package capacity has the amounts that clusters have and workloads request, and the ledger that reserves what clusters
// have for workloads so that no cluster is ever oversubscribed.
package capacity

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Names of the resources that every cluster and workload has.
const (
	CPU     = string(corev1.ResourceCPU)
	Memory  = string(corev1.ResourceMemory)
	Storage = string(corev1.ResourceStorage)
)

// MaxAmount is the largest accepted amount of one resource, for example an exbibyte of memory.
const MaxAmount = int64(1) << 60

// Resources is an amount of each resource. The zero value is nothing. A Resources is immutable: copies share Extended.
type Resources struct {
	// CPU in millicores.
	CPU int64
	// Memory in bytes.
	Memory int64
	// Storage in bytes, of PersistentVolumes. Node disk space that pods use is "ephemeral-storage".
	Storage int64
	// Extended holds every other resource by its Kubernetes name, for example "nvidia.com/gpu", in whole units
	// (bytes for ephemeral-storage and hugepages).
	Extended map[string]int64
}

// FromResourceList converts a Kubernetes resource list. A quantity that is negative or above MaxAmount is an error that names
// the resource.
func FromResourceList(list corev1.ResourceList) (Resources, error) {
	var r Resources
	for _, name := range slices.Sorted(maps.Keys(list)) {
		quantity := list[name]
		if outOfProportion(quantity) {
			return Resources{}, fmt.Errorf("%s: the quantity is out of proportion", name)
		}
		if quantity.Sign() < 0 {
			return Resources{}, fmt.Errorf("%s: %s is negative", name, quantity.String())
		}
		if quantity.Cmp(Quantity(string(name), MaxAmount)) > 0 {
			return Resources{}, fmt.Errorf("%s: %s is too large", name, quantity.String())
		}
		amount := quantity.Value()
		if name == corev1.ResourceCPU {
			amount = quantity.MilliValue()
		}
		switch string(name) {
		case CPU:
			r.CPU = amount
		case Memory:
			r.Memory = amount
		case Storage:
			r.Storage = amount
		default:
			if r.Extended == nil {
				r.Extended = make(map[string]int64, len(list))
			}
			r.Extended[string(name)] = amount
		}
	}
	return r, nil
}

// ResourceList is the inverse of FromResourceList, without the resources whose amount is 0.
func (r Resources) ResourceList() corev1.ResourceList {
	list := corev1.ResourceList{}
	for name, amount := range r.Each {
		if amount != 0 {
			list[corev1.ResourceName(name)] = Quantity(name, amount)
		}
	}
	return list
}

// Quantity returns an amount of one resource as an API quantity.
func Quantity(name string, amount int64) resource.Quantity {
	switch {
	case name == CPU:
		return *resource.NewMilliQuantity(amount, resource.DecimalSI)
	case inBytes(name):
		return *resource.NewQuantity(amount, resource.BinarySI)
	default:
		return *resource.NewQuantity(amount, resource.DecimalSI)
	}
}

// inBytes reports whether amounts of a resource are bytes.
func inBytes(name string) bool {
	switch name {
	case Memory, Storage, string(corev1.ResourceEphemeralStorage):
		return true
	}
	return strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
}

// Of returns an amount of one resource and none of others.
func Of(name string, amount int64) Resources {
	switch name {
	case CPU:
		return Resources{CPU: amount}
	case Memory:
		return Resources{Memory: amount}
	case Storage:
		return Resources{Storage: amount}
	default:
		return Resources{Extended: map[string]int64{name: amount}}
	}
}

// Get returns the amount of one resource.
func (r Resources) Get(name string) int64 {
	switch name {
	case CPU:
		return r.CPU
	case Memory:
		return r.Memory
	case Storage:
		return r.Storage
	default:
		return r.Extended[name]
	}
}

// Each yields cpu, memory and storage, then the extended resources in the order of their names.
func (r Resources) Each(yield func(name string, amount int64) bool) {
	if !yield(CPU, r.CPU) || !yield(Memory, r.Memory) || !yield(Storage, r.Storage) || len(r.Extended) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.Extended)) {
		if !yield(name, r.Extended[name]) {
			return
		}
	}
}

// IsZero reports whether all amounts are 0.
func (r Resources) IsZero() bool {
	if r.CPU != 0 || r.Memory != 0 || r.Storage != 0 {
		return false
	}
	if len(r.Extended) == 0 { // ranging over an empty map costs more than everything else here
		return true
	}
	for _, amount := range r.Extended {
		if amount != 0 {
			return false
		}
	}
	return true
}

// Negative reports whether any amount is below 0.
func (r Resources) Negative() bool {
	for _, amount := range r.Extended {
		if amount < 0 {
			return true
		}
	}
	return r.CPU < 0 || r.Memory < 0 || r.Storage < 0
}

// Equal reports whether the amounts are the same. An extended resource with amount 0 equals one that is absent.
func (r Resources) Equal(o Resources) bool { return r.Sub(o).IsZero() }

// Same reports whether the amounts and the sets of extended resources are the same.
func (r Resources) Same(o Resources) bool {
	return r.CPU == o.CPU && r.Memory == o.Memory && r.Storage == o.Storage &&
		len(r.Extended) == len(o.Extended) && (len(r.Extended) == 0 || maps.Equal(r.Extended, o.Extended))
}

// WithoutNone returns r without the extended resources whose amount is 0.
func (r Resources) WithoutNone() Resources {
	if len(r.Extended) == 0 {
		r.Extended = nil
		return r
	}
	for _, amount := range r.Extended {
		if amount == 0 {
			r.Extended = maps.Clone(r.Extended)
			maps.DeleteFunc(r.Extended, func(_ string, amount int64) bool { return amount == 0 })
			break
		}
	}
	if len(r.Extended) == 0 {
		r.Extended = nil
	}
	return r
}

// Add returns r + o, saturating at the bounds of int64.
func (r Resources) Add(o Resources) Resources {
	if len(r.Extended)+len(o.Extended) == 0 {
		return Resources{CPU: add(r.CPU, o.CPU), Memory: add(r.Memory, o.Memory), Storage: add(r.Storage, o.Storage)}
	}
	return r.Combine(o, add)
}

// Sub returns r - o, saturating at the bounds of int64; amounts may become negative.
func (r Resources) Sub(o Resources) Resources {
	if len(r.Extended)+len(o.Extended) == 0 {
		return Resources{CPU: sub(r.CPU, o.CPU), Memory: sub(r.Memory, o.Memory), Storage: sub(r.Storage, o.Storage)}
	}
	return r.Combine(o, sub)
}

// Without returns r - o, with negative results set to 0.
func (r Resources) Without(o Resources) Resources {
	if o.IsZero() {
		return r
	}
	if len(r.Extended) == 0 {
		o.Extended = nil
	}
	return r.Combine(o, func(a, b int64) int64 { return max(0, sub(a, b)) }).WithoutNone()
}

// MoreThan returns the amounts of r that are larger than those of o, 0 for the others.
func (r Resources) MoreThan(o Resources) Resources {
	if r.Same(o) {
		return Resources{}
	}
	return r.Combine(o, func(a, b int64) int64 {
		if a <= b {
			return 0
		}
		return a
	})
}

// Mul returns n times r. An amount above MaxAmount is an error that names the resource. Neither r nor n may be negative.
func (r Resources) Mul(n int64) (Resources, error) {
	for name, amount := range r.Each {
		if n != 0 && amount > MaxAmount/n {
			return Resources{}, fmt.Errorf("%s: %d times %s is too large", name, n, Format(name, amount, true))
		}
	}
	return r.Combine(Resources{}, func(a, _ int64) int64 { return a * n }), nil
}

// Lacking returns the first resource, in the order of Each, of which request asks for more than r has; ok is false if
// there is none.
func (r Resources) Lacking(request Resources) (name string, ok bool) {
	switch {
	case request.CPU > 0 && r.CPU < request.CPU:
		return CPU, true
	case request.Memory > 0 && r.Memory < request.Memory:
		return Memory, true
	case request.Storage > 0 && r.Storage < request.Storage:
		return Storage, true
	}
	if len(request.Extended) == 0 {
		return "", false
	}
	for short, amount := range request.Extended {
		if amount > 0 && r.Extended[short] < amount && (!ok || short < name) {
			name, ok = short, true
		}
	}
	return name, ok
}

// Max returns the larger amount of each resource in r and o.
func (r Resources) Max(o Resources) Resources {
	return r.Combine(o, func(a, b int64) int64 { return max(a, b) })
}

// Min returns the smaller amount of each resource in r and o.
func (r Resources) Min(o Resources) Resources {
	return r.Combine(o, func(a, b int64) int64 { return min(a, b) })
}

// Combine applies f to the amounts of each resource in r and o.
func (r Resources) Combine(o Resources, f func(a, b int64) int64) Resources {
	result := Resources{CPU: f(r.CPU, o.CPU), Memory: f(r.Memory, o.Memory), Storage: f(r.Storage, o.Storage)}
	if len(r.Extended)+len(o.Extended) == 0 {
		return result
	}
	result.Extended = make(map[string]int64, max(len(r.Extended), len(o.Extended)))
	for name, amount := range r.Extended {
		result.Extended[name] = f(amount, o.Extended[name])
	}
	for name, amount := range o.Extended {
		if _, done := r.Extended[name]; !done {
			result.Extended[name] = f(0, amount)
		}
	}
	return result
}

func add(a, b int64) int64 {
	switch c := a + b; {
	case a > 0 && b > 0 && c < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && c >= 0:
		return math.MinInt64
	default:
		return c
	}
}

func sub(a, b int64) int64 {
	switch c := a - b; {
	case a >= 0 && b < 0 && c < 0:
		return math.MaxInt64
	case a < 0 && b > 0 && c >= 0:
		return math.MinInt64
	default:
		return c
	}
}

// Format formats an amount for people: cpu as "2", or "1500m" if it is not a whole number, bytes as "64Gi", others as "2000", never
// as 2k. A long number of bytes gets one decimal of the largest unit, rounded up or down: round up what is asked for or lacking,
// and down what is free.
func Format(name string, amount int64, up bool) string {
	switch {
	case name == CPU && amount%1000 == 0:
		return strconv.FormatInt(amount/1000, 10)
	case name == CPU:
		return strconv.FormatInt(amount, 10) + "m"
	case !inBytes(name):
		return strconv.FormatInt(amount, 10)
	}
	quantity := Quantity(name, amount)
	if exact := quantity.String(); len(exact) <= len("1023Gi") {
		return exact
	}
	const units = "KMGTPE"
	size, shift := amount, 10
	if size < 0 {
		size = -(amount + 1)
	}
	for size>>shift >= 1024 && shift < 10*len(units) {
		shift += 10
	}
	rest := uint64(amount) & (1<<shift - 1) * 10
	tenths := amount>>shift*10 + int64(rest>>shift)
	if up && rest&(1<<shift-1) != 0 {
		tenths++
	}
	sign := ""
	if tenths < 0 {
		sign, tenths = "-", -tenths
	}
	return fmt.Sprintf("%s%d.%d%ci", sign, tenths/10, tenths%10, units[shift/10-1])
}
