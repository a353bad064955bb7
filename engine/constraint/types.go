package constraint

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// The CEL object types wrap the engine's Go types: fields are read through a pointer, and nothing is copied into maps. Each
// getter returns a CEL value, which saves an allocation; maps of strings stay Go maps, since CEL looks up their keys
// without converting them.
var (
	clusterType = objectType("tmc.Cluster", map[string]getter{
		"name":         of(types.StringType, func(r *snapshot.Row) any { return types.String(r.Name) }),
		"location":     of(types.StringType, func(r *snapshot.Row) any { return types.String(r.Location) }),
		"labels":       of(stringMap, func(r *snapshot.Row) any { return r.Labels }),
		"capabilities": of(types.NewListType(capabilityType.typ), func(r *snapshot.Row) any { return list(capabilityType, r.Capabilities) }),
		"taints":       of(types.NewListType(taintType.typ), func(r *snapshot.Row) any { return list(taintType, r.Taints) }),
		"conditions":   of(types.NewListType(conditionType.typ), func(r *snapshot.Row) any { return list(conditionType, r.Conditions) }),
	})
	capabilityType = objectType("tmc.Capability", map[string]getter{
		"type":       of(types.StringType, func(c *snapshot.Capability) any { return types.String(c.Type) }),
		"available":  of(types.BoolType, func(c *snapshot.Capability) any { return types.Bool(c.Available) }),
		"attributes": of(stringMap, func(c *snapshot.Capability) any { return c.Attributes }),
	})
	taintType = objectType("tmc.Taint", map[string]getter{
		"key":    of(types.StringType, func(t *corev1.Taint) any { return types.String(t.Key) }),
		"value":  of(types.StringType, func(t *corev1.Taint) any { return types.String(t.Value) }),
		"effect": of(types.StringType, func(t *corev1.Taint) any { return types.String(t.Effect) }),
	})
	conditionType = objectType("tmc.Condition", map[string]getter{
		"type":    of(types.StringType, func(c *snapshot.Condition) any { return types.String(c.Type) }),
		"status":  of(types.StringType, func(c *snapshot.Condition) any { return types.String(c.Status) }),
		"reason":  of(types.StringType, func(c *snapshot.Condition) any { return types.String(c.Reason) }),
		"message": of(types.StringType, func(c *snapshot.Condition) any { return types.String(c.Message) }),
	})
	capacityType = objectType("tmc.Capacity", map[string]getter{
		"allocatable":      of(intMap, func(r *capacityRow) any { return (*resourceMap)(&r.Allocatable) }),
		"allocated":        of(intMap, func(r *capacityRow) any { return (*resourceMap)(&r.Allocated) }),
		"reserved":         of(intMap, func(r *capacityRow) any { return (*resourceMap)(&r.Reserved) }),
		"free":             of(intMap, func(r *capacityRow) any { return (*resourceMap)(&r.Free) }),
		"utilization":      of(intMap, func(r *capacityRow) any { used := (*snapshot.Row)(r).Utilization(); return (*resourceMap)(&used) }),
		"healthScore":      of(types.IntType, func(r *capacityRow) any { return types.Int(r.HealthScore) }),
		"performanceScore": of(types.IntType, func(r *capacityRow) any { return types.Int(r.PerformanceScore) }),
	})
	workloadType = objectType("tmc.Workload", map[string]getter{
		"apiVersion":  of(types.StringType, func(w *workload.Workload) any { return types.String(w.APIVersion) }),
		"kind":        of(types.StringType, func(w *workload.Workload) any { return types.String(w.Kind) }),
		"name":        of(types.StringType, func(w *workload.Workload) any { return types.String(w.Name) }),
		"namespace":   of(types.StringType, func(w *workload.Workload) any { return types.String(w.Namespace) }),
		"labels":      of(stringMap, func(w *workload.Workload) any { return w.Labels }),
		"annotations": of(stringMap, func(w *workload.Workload) any { return w.Annotations }),
		"replicas":    of(types.IntType, func(w *workload.Workload) any { return types.Int(w.Replicas) }),
		"requests":    of(intMap, func(w *workload.Workload) any { return (*resourceMap)(&w.Requests) }),
	})
	placementType = objectType("tmc.Placement", map[string]getter{
		"name":      of(types.StringType, func(p *workload.Placement) any { return types.String(p.Name) }),
		"namespace": of(types.StringType, func(p *workload.Placement) any { return types.String(p.Namespace) }),
		"labels":    of(stringMap, func(p *workload.Placement) any { return p.Labels }),
	})

	stringMap = types.NewMapType(types.StringType, types.StringType)
	intMap    = types.NewMapType(types.StringType, types.IntType)
)

// capacityRow is a row as the variable capacity; as the variable cluster it is a snapshot.Row.
type capacityRow snapshot.Row

// object is a CEL type over a Go type.
type object struct {
	typ    *types.Type
	fields map[string]*types.FieldType
	names  []string
}

type getter struct {
	typ *types.Type
	get ref.FieldGetter
}

func of[T any](typ *types.Type, get func(*T) any) getter {
	return getter{typ, func(target any) (any, error) {
		if t, ok := target.(*T); ok {
			return get(t), nil
		}
		return nil, fmt.Errorf("not a %s: %T", reflect.TypeFor[T](), target)
	}}
}

func objectType(name string, getters map[string]getter) *object {
	o := &object{typ: types.NewObjectType(name), fields: make(map[string]*types.FieldType, len(getters))}
	for field, g := range getters {
		o.fields[field] = &types.FieldType{Type: g.typ, GetFrom: g.get, IsSet: func(any) bool { return true }}
		o.names = append(o.names, field)
	}
	return o
}

// provider gives CEL the object types, which expressions can read but not construct.
type provider struct {
	*types.Registry
	objects map[string]*object
}

func newProvider() (*provider, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	p := &provider{registry, map[string]*object{}}
	for _, o := range []*object{clusterType, capabilityType, taintType, conditionType, capacityType, workloadType, placementType} {
		p.objects[o.typ.TypeName()] = o
	}
	return p, nil
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if o, found := p.objects[name]; found {
		return types.NewTypeTypeWithParam(o.typ), true
	}
	return p.Registry.FindStructType(name)
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if o, found := p.objects[name]; found {
		return o.names, true
	}
	return p.Registry.FindStructFieldNames(name)
}

func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if o, found := p.objects[name]; found {
		f, found := o.fields[field]
		return f, found
	}
	return p.Registry.FindStructFieldType(name, field)
}

func (p *provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, found := p.objects[name]; found {
		return types.NewErr("a %s cannot be made in an expression", name)
	}
	return p.Registry.NewValue(name, fields)
}

func (p *provider) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case ref.Val:
		return v
	case map[string]string:
		return texts(v)
	case *snapshot.Row:
		return &instance{clusterType, v}
	case *capacityRow:
		return &instance{capacityType, v}
	case *workload.Workload:
		return &instance{workloadType, v}
	case *workload.Placement:
		return &instance{placementType, v}
	}
	return p.Registry.NativeToValue(value)
}
