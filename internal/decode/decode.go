// Package decode decodes untrusted objects, as an informer or a file delivers them, into API types.
//
// Invariant: decoding is total. It always returns, in time proportional to the content, with everything that can be read. A
// value that cannot be read stays zero, an unreadable entry of a map is left out, and each is a Problem with the path of its
// field. So a bad status does not lose the spec, nor a bad time the taint that it is in. The caller decides what an object
// with problems is still good for.
//
// Types whose own parsers can be made to work for a minute, or reject what the API server accepts, are guarded by type wherever
// they occur:
//   - a resource.Quantity is parsed only if its text is cheap to parse;
//   - a metav1.Time or MicroTime is RFC 3339 with the letters T and Z in either case.
package decode

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/engine/capacity"
)

// To decodes a JSON value, which consists of map[string]any, []any, string, bool, int64, float64 and nil. The result shares no
// memory with it but strings.
func To[T any](value any) (T, Problems) {
	var result T
	d := decoder{}
	d.decode(nil, value, reflect.ValueOf(&result).Elem())
	if len(d.problems) == 0 {
		return result, nil
	}
	// Once more in the order of keys, so that equal objects have equal problems.
	result, d = *new(T), decoder{sorted: true}
	d.decode(nil, value, reflect.ValueOf(&result).Elem())
	return result, d.problems
}

// At is To for the value at a path of an object, which the fields of problems then begin with.
func At[T any](path string, value any) (T, Problems) {
	result, problems := To[T](value)
	for i := range problems {
		problems[i].Field = join(path, problems[i].Field)
	}
	return result, problems
}

func join(path, field string) string {
	if field == "" || field[0] == '[' {
		return path + field
	}
	return path + "." + field
}

type decoder struct {
	// sorted makes the order of problems deterministic: maps are read in the order of their keys.
	sorted   bool
	problems Problems
}

// path is the path of a value: a name in the object around it, or an index if that is empty.
type path struct {
	parent *path
	name   string
	index  int
}

var (
	quantityType  = reflect.TypeFor[resource.Quantity]()
	timeType      = reflect.TypeFor[metav1.Time]()
	microTimeType = reflect.TypeFor[metav1.MicroTime]()
)

// decode decodes a value into a variable that is zero, and reports whether it could. If not, the variable stays zero.
func (d *decoder) decode(at *path, value any, into reflect.Value) bool {
	if value == nil {
		return true
	}
	switch into.Type() {
	case quantityType:
		return d.quantity(at, value, into)
	case timeType, microTimeType:
		return d.time(at, value, into)
	}
	if own, ok := into.Addr().Interface().(json.Unmarshaler); ok {
		text, err := json.Marshal(value)
		if err == nil {
			err = own.UnmarshalJSON(text)
		}
		if err != nil {
			into.SetZero()
			return d.fail(at, "%v", err)
		}
		return true
	}
	switch into.Kind() {
	case reflect.Pointer:
		target := reflect.New(into.Type().Elem())
		ok := d.decode(at, value, target.Elem())
		if ok {
			into.Set(target)
		}
		return ok
	case reflect.Struct:
		return d.object(at, value, into)
	case reflect.Map:
		return d.entries(at, value, into)
	case reflect.Slice:
		return d.list(at, value, into)
	default:
		return d.scalar(at, value, into)
	}
}

func (d *decoder) quantity(at *path, value any, into reflect.Value) bool {
	text, ok := value.(string)
	if !ok {
		number, err := json.Marshal(value)
		if text = string(number); err != nil || !isNumber(value) {
			return d.fail(at, "must be a quantity, is %s", kindOf(value))
		}
	}
	q, err := capacity.ParseQuantity(strings.TrimSpace(text))
	if err != nil {
		return d.fail(at, "%v", err)
	}
	into.Set(reflect.ValueOf(q))
	return true
}

// maxTime is longer than any time with nanoseconds and an offset.
const maxTime = 64

func (d *decoder) time(at *path, value any, into reflect.Value) bool {
	text, ok := value.(string)
	if !ok {
		return d.fail(at, "must be a time, is %s", kindOf(value))
	}
	if len(text) > maxTime {
		return d.fail(at, "a time of %d characters, more than %d", len(text), maxTime)
	}
	quoted, err := json.Marshal(strings.ToUpper(text)) // RFC 3339 and the API server take lower case, Go does not
	if err == nil {
		err = into.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(quoted)
	}
	if err != nil {
		into.SetZero()
		return d.fail(at, "%q is not a time as in RFC 3339", text)
	}
	return true
}

func (d *decoder) object(at *path, value any, into reflect.Value) bool {
	content, ok := value.(map[string]any)
	if !ok {
		return d.fail(at, "must be an object, is %s", kindOf(value))
	}
	for _, f := range fieldsOf(into.Type()) {
		if member, found := content[f.name]; found {
			d.decode(&path{parent: at, name: f.name}, member, into.FieldByIndex(f.index))
		}
	}
	return true
}

func (d *decoder) entries(at *path, value any, into reflect.Value) bool {
	content, ok := value.(map[string]any)
	if !ok || into.Type().Key().Kind() != reflect.String {
		return d.fail(at, "must be an object, is %s", kindOf(value))
	}
	into.Set(reflect.MakeMapWithSize(into.Type(), len(content)))
	element := reflect.New(into.Type().Elem()).Elem()
	take := func(key string) {
		element.SetZero()
		if d.decode(&path{parent: at, name: key}, content[key], element) {
			into.SetMapIndex(reflect.ValueOf(key).Convert(into.Type().Key()), element)
		}
	}
	if d.sorted {
		for _, key := range slices.Sorted(maps.Keys(content)) {
			take(key)
		}
		return true
	}
	for key := range content {
		take(key)
	}
	return true
}

func (d *decoder) list(at *path, value any, into reflect.Value) bool {
	if text, ok := value.(string); ok && into.Type().Elem().Kind() == reflect.Uint8 {
		content, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return d.fail(at, "%v", err)
		}
		into.SetBytes(content)
		return true
	}
	content, ok := value.([]any)
	if !ok {
		return d.fail(at, "must be a list, is %s", kindOf(value))
	}
	into.Set(reflect.MakeSlice(into.Type(), len(content), len(content)))
	for i, element := range content {
		d.decode(&path{parent: at, index: i}, element, into.Index(i))
	}
	return true
}

func (d *decoder) scalar(at *path, value any, into reflect.Value) bool {
	switch into.Kind() {
	case reflect.String:
		if text, ok := value.(string); ok {
			into.SetString(text)
			return true
		}
		return d.fail(at, "must be a string, is %s", kindOf(value))
	case reflect.Bool:
		if b, ok := value.(bool); ok {
			into.SetBool(b)
			return true
		}
		return d.fail(at, "must be a boolean, is %s", kindOf(value))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := value.(int64)
		if f, isFloat := value.(float64); isFloat && f == math.Trunc(f) && math.Abs(f) < 1<<63 {
			n, ok = int64(f), true
		}
		if ok && !into.OverflowInt(n) {
			into.SetInt(n)
			return true
		}
		return d.fail(at, "must be an integer of %d bits, is %s", into.Type().Bits(), kindOf(value))
	}
	return d.fail(at, "%s cannot be read into a %s", kindOf(value), into.Type())
}

func (d *decoder) fail(at *path, format string, args ...any) bool {
	switch n := len(d.problems); {
	case n < maxProblems:
		d.problems = append(d.problems, Problem{Field: at.String(), Message: short(fmt.Sprintf(format, args...))})
	case n == maxProblems: // any field may be among the others
		d.problems = append(d.problems, Problem{Message: "more fields cannot be read"})
	}
	return false
}

func isNumber(value any) bool {
	switch value.(type) {
	case int64, float64:
		return true
	}
	return false
}

func kindOf(value any) string {
	switch value := value.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64, float64:
		return fmt.Sprintf("the number %v", value)
	default:
		return fmt.Sprintf("a %T", value)
	}
}

// String returns a path as spec.taints[0].timeAdded or status.allocatable[nvidia.com/gpu].
func (p *path) String() string {
	var steps []*path
	for ; p != nil; p = p.parent {
		steps = append(steps, p)
	}
	var text strings.Builder
	for _, step := range slices.Backward(steps) {
		switch name := short(step.name); {
		case name == "":
			text.WriteString("[" + strconv.Itoa(step.index) + "]")
		case strings.ContainsAny(name, "./[]"):
			text.WriteString("[" + name + "]")
		default:
			if text.Len() > 0 {
				text.WriteByte('.')
			}
			text.WriteString(name)
		}
	}
	return text.String()
}

// maxText bounds each text that is quoted from an object, in bytes.
const maxText = 256

func short(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "")
	}
	return text
}

// field is a member of a JSON object in a Go struct.
type field struct {
	name  string
	index []int
}

var cache sync.Map // of []field by reflect.Type

func fieldsOf(t reflect.Type) []field {
	if known, found := cache.Load(t); found {
		return known.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct: // inline
			for _, inner := range fieldsOf(f.Type) {
				fields = append(fields, field{inner.name, append([]int{i}, inner.index...)})
			}
		case !f.IsExported() || name == "-":
		case name == "":
			fields = append(fields, field{f.Name, []int{i}})
		default:
			fields = append(fields, field{name, []int{i}})
		}
	}
	cache.Store(t, fields)
	return fields
}
