// Package crds carries the API as manifests, so that tools can install it and hold objects to it.
package crds

import "embed"

// KCP holds the APIResourceSchemas and the APIExport, kcp/*.yaml. The claims on workload kinds lack the identity
// of the export that serves them, which only a running kcp can tell.
//
//go:embed kcp/*.yaml
var KCP embed.FS

// Manifests holds the CustomResourceDefinitions that they are generated from, manifests/*.yaml.
//
//go:embed manifests/*.yaml
var Manifests embed.FS
