package console

import _ "embed"

// openAPI documents the API. A test makes it of the Go types: go test ./internal/console -run OpenAPI -update.
//
//go:embed openapi.json
var openAPI []byte
