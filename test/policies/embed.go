// Package suites carries the suites and scenarios of the library of policies, so that `kubectl placement init --from`
// needs no files beside it.
package suites

import "embed"

// Library holds library/NAME/NAME_test.rego and library/NAME/NAME.txtar.
//
//go:embed library
var Library embed.FS
