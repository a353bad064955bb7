// Package crds carries the API as manifests for kcp, so that tools can install it. Beside them, manifests/ has the
// CustomResourceDefinitions that they are generated from.
package crds

import "embed"

// KCP holds the APIResourceSchemas and the APIExport, kcp/*.yaml. The claims on workload kinds lack the identity
// of the export that serves them, which only a running kcp can tell.
//
//go:embed kcp/*.yaml
var KCP embed.FS
