// Package policies carries the built-in Rego modules, the library of ready policies, the schemas of what policies see
// and say, and the list of what Rego may call, so that the binaries need no files beside them.
package policies

import "embed"

// Modules holds the built-in modules, *.rego.
//
//go:embed *.rego
var Modules embed.FS

// Library holds ready policies to start from, library/NAME/NAME.rego, each in a package of its own.
//
//go:embed library
var Library embed.FS

// Schemas holds JSON schemas: schemas/input.json of what policies see, and schemas/scoring/weights.json,
// schemas/affinity/terms.json and schemas/scheduling/scheduling.json of what they say.
//
//go:embed schemas
var Schemas embed.FS

// Capabilities is the allow-list of built-in functions in OPA's own format, for `opa --capabilities` and the engine.
//
//go:embed capabilities.json
var Capabilities []byte
