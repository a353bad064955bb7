// Package policies carries the built-in Rego modules and the list of what Rego may call, so that the binaries need
// no files beside them.
package policies

import "embed"

// Modules holds the built-in modules, *.rego.
//
//go:embed *.rego
var Modules embed.FS

// Capabilities is the allow-list of built-in functions in OPA's own format, for `opa --capabilities` and the engine.
//
//go:embed capabilities.json
var Capabilities []byte
