// Package crds carries the API as manifests, so that tools can install it: CustomResourceDefinitions for any
// Kubernetes API server, and APIResourceSchemas with an APIExport for kcp.
package crds

import "embed"

// Manifests holds the CustomResourceDefinitions, manifests/*.yaml.
//
//go:embed manifests/*.yaml
var Manifests embed.FS

// KCP holds the APIResourceSchemas and the APIExport, kcp/*.yaml. The claims on workload kinds lack the identity
// of the export that serves them, which only a running kcp can tell.
//
//go:embed kcp/*.yaml
var KCP embed.FS
