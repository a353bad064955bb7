// Package crds embeds the manifests of the API, so that tools can install it and validate objects against it.
package crds

import "embed"

// KCP has the APIResourceSchemas and the APIExport, kcp/*.yaml. The claims on workload kinds lack the identity of the export
// that serves them, which is known only on a running kcp.
//
//go:embed kcp/*.yaml
var KCP embed.FS

// Manifests has the CustomResourceDefinitions that they are generated from, manifests/*.yaml.
//
//go:embed manifests/*.yaml
var Manifests embed.FS

// DeliveryClaims are the permission claims of the APIExport where workloads are delivered, as a merge patch of it.
//
//go:embed delivery/permissionclaims.yaml
var DeliveryClaims []byte
