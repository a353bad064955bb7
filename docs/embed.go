// Package docs has the pages that `kubectl placement reference` prints. Tests hold them complete and run their examples.
package docs

import _ "embed"

// CEL is what constraints can say.
//
//go:embed cel.md
var CEL string

// Policies is what policies in Rego see and can say.
//
//go:embed policies.md
var Policies string
