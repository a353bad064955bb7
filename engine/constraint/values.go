package constraint

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/kcp-placement/placement/engine/capacity"
)

// instance is a value of an object type.
type instance struct {
	object  *object
	pointer any
}

func (i *instance) Type() ref.Type { return i.object.typ }
func (i *instance) Value() any     { return i.pointer }

func (i *instance) Equal(other ref.Val) ref.Val {
	o, ok := other.(*instance)
	return types.Bool(ok && i.object == o.object && reflect.DeepEqual(i.pointer, o.pointer))
}

func (i *instance) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a %s cannot become a %s", i.object.typ, t)
}

func (i *instance) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return i.object.typ
	}
	return types.NewErr("a %s cannot become a %s", i.object.typ, t)
}

// Get and IsSet serve fields of a dyn.
func (i *instance) Get(field ref.Val) ref.Val {
	name, _ := field.Value().(string)
	f, found := i.object.fields[name]
	if !found {
		return types.NewErr("no such field '%v'", field.Value())
	}
	value, err := f.GetFrom(i.pointer)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

func (i *instance) IsSet(field ref.Val) ref.Val {
	name, _ := field.Value().(string)
	_, found := i.object.fields[name]
	return types.Bool(found)
}

// list makes the CEL list of a slice of objects.
func list[T any](o *object, elements []T) ref.Val {
	instances := make([]instance, len(elements))
	values := make([]ref.Val, len(elements))
	for i := range elements {
		instances[i] = instance{o, &elements[i]}
		values[i] = &instances[i]
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

// resourceMap is an amount of resources seen as a map(string, int) in which cpu, memory and storage always are.
type resourceMap capacity.Resources

func (m *resourceMap) resources() capacity.Resources { return capacity.Resources(*m) }

func (m *resourceMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	amount, found := m.amount(string(name))
	return types.Int(amount), found
}

// amount of a resource, as Find gives it.
func (m *resourceMap) amount(name string) (amount int64, found bool) {
	switch name {
	case capacity.CPU:
		return m.CPU, true
	case capacity.Memory:
		return m.Memory, true
	case capacity.Storage:
		return m.Storage, true
	}
	amount, found = m.Extended[name]
	return amount, found
}

func (m *resourceMap) Get(key ref.Val) ref.Val {
	value, found := m.Find(key)
	if !found {
		return types.ValOrErr(value, "no such key: %v", key)
	}
	return value
}

func (m *resourceMap) Contains(key ref.Val) ref.Val {
	_, found := m.Find(key)
	return types.Bool(found)
}

func (m *resourceMap) names() []string {
	return append([]string{capacity.CPU, capacity.Memory, capacity.Storage}, slices.Sorted(maps.Keys(m.Extended))...)
}

func (m *resourceMap) Iterator() traits.Iterator {
	return types.NewStringList(types.DefaultTypeAdapter, m.names()).Iterator()
}

func (m *resourceMap) Size() ref.Val  { return types.Int(3 + len(m.Extended)) }
func (m *resourceMap) Type() ref.Type { return types.MapType }

// asMap is the same as a plain map.
func (m *resourceMap) asMap() map[string]int64 {
	plain := make(map[string]int64, 3+len(m.Extended))
	for name, amount := range m.resources().Each {
		plain[name] = amount
	}
	return plain
}

func (m *resourceMap) Value() any { return m.asMap() }

func (m *resourceMap) Equal(other ref.Val) ref.Val {
	return types.DefaultTypeAdapter.NativeToValue(m.asMap()).Equal(other)
}

func (m *resourceMap) ConvertToNative(t reflect.Type) (any, error) {
	return types.DefaultTypeAdapter.NativeToValue(m.asMap()).ConvertToNative(t)
}

func (m *resourceMap) ConvertToType(t ref.Type) ref.Val {
	return types.DefaultTypeAdapter.NativeToValue(m.asMap()).ConvertToType(t)
}
