package decode

import (
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/internal/spelling"
)

// Unknown returns the fields of a JSON value that T does not have, in a deterministic order, each with the name that is likely meant.
func Unknown[T any](value any) Problems {
	d := decoder{}
	d.unknown(nil, value, reflect.TypeFor[T]())
	return d.problems
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (d *decoder) unknown(at *path, value any, of reflect.Type) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch content := value.(type) {
	case []any:
		if of.Kind() == reflect.Slice {
			for i, element := range content {
				d.unknown(&path{parent: at, index: i}, element, of.Elem())
			}
		}
	case map[string]any:
		if of.Kind() != reflect.Struct || reflect.PointerTo(of).Implements(unmarshaler) {
			return
		}
		var names []string
		types := map[string]reflect.Type{}
		for _, f := range fieldsOf(of) {
			names, types[f.name] = append(names, f.name), of.FieldByIndex(f.index).Type
		}
		for _, name := range slices.Sorted(maps.Keys(content)) {
			if inner := (&path{parent: at, name: name}); types[name] == nil {
				d.fail(inner, "unknown field%s", cmp.Or(spelling.DidYouMean(name, names), ": there are "+strings.Join(names, ", ")))
			} else {
				d.unknown(inner, content[name], types[name])
			}
		}
	}
}
