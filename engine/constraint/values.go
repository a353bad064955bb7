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

// Get and IsSet implement field access on a dyn.
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
	return valueOf(value)
}

func (i *instance) IsSet(field ref.Val) ref.Val {
	name, _ := field.Value().(string)
	_, found := i.object.fields[name]
	return types.Bool(found)
}

// list returns a slice of objects as a CEL list.
func list[T any](o *object, elements []T) ref.Val {
	instances := make([]instance, len(elements))
	values := make([]ref.Val, len(elements))
	for i := range elements {
		instances[i] = instance{o, &elements[i]}
		values[i] = &instances[i]
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

// valueOf converts the value of a field to CEL.
func valueOf(value any) ref.Val {
	if m, ok := value.(map[string]string); ok {
		return texts(m)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

// texts is a map(string, string) that iterates in the order of its keys, so that cluster.labels.map(k, k)[0] is
// deterministic.
type texts map[string]string

func (t texts) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	text, found := t[string(name)]
	if !found {
		return nil, false
	}
	return types.String(text), true
}

func (t texts) Get(key ref.Val) ref.Val {
	value, found := t.Find(key)
	if !found {
		return types.ValOrErr(value, "no such key: %v", key)
	}
	return value
}

func (t texts) Contains(key ref.Val) ref.Val {
	_, found := t.Find(key)
	return types.Bool(found)
}

func (t texts) keys() []string {
	keys := make([]string, 0, len(t))
	for key := range t {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (t texts) Iterator() traits.Iterator { return &iterator{left: t.keys()} }

// Fold implements macros with two variables.
func (t texts) Fold(folder traits.Folder) {
	for _, key := range t.keys() {
		if !folder.FoldEntry(key, t[key]) {
			return
		}
	}
}

func (t texts) Size() ref.Val     { return types.Int(len(t)) }
func (t texts) IsZeroValue() bool { return len(t) == 0 }
func (t texts) Type() ref.Type    { return types.MapType }
func (t texts) Value() any        { return map[string]string(t) }

// plain returns the map as CEL's own type.
func (t texts) plain() ref.Val { return types.NewStringStringMap(types.DefaultTypeAdapter, t) }

func (t texts) Equal(other ref.Val) ref.Val { return t.plain().Equal(other) }

func (t texts) ConvertToNative(native reflect.Type) (any, error) {
	return t.plain().ConvertToNative(native)
}

func (t texts) ConvertToType(typ ref.Type) ref.Val { return t.plain().ConvertToType(typ) }

// iterator iterates over keys. CEL requires iterators to be values but never uses them as such, so Val is nil.
type iterator struct {
	ref.Val
	left []string
}

func (i *iterator) HasNext() ref.Val { return types.Bool(len(i.left) > 0) }

func (i *iterator) Next() ref.Val {
	key := i.left[0]
	i.left = i.left[1:]
	return types.String(key)
}

// resourceMap is resources as a map(string, int). cpu, memory and storage are always present.
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

// amount is Find for use from Go.
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

func (m *resourceMap) Iterator() traits.Iterator { return &iterator{left: m.names()} }

func (m *resourceMap) Size() ref.Val  { return types.Int(3 + len(m.Extended)) }
func (m *resourceMap) Type() ref.Type { return types.MapType }

// asMap returns a Go map.
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
