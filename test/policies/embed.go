// Package suites embeds the suites and scenarios of the policy library, for `kubectl placement init --from`.
package suites

import "embed"

// Library holds library/NAME/NAME_test.rego and library/NAME/NAME.txtar.
//
//go:embed library
var Library embed.FS
