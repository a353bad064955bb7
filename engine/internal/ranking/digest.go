package ranking

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// Digest identifies everything that a decision depends on except the clusters; seen has what is read of the workload.
// It is published with decisions: the same inputs have the same digest in every process.
func Digest(p *placement.Placement, policies *policy.Set, seen *workload.Workload) string {
	var buffer [512]byte
	d := digester(buffer[:0])
	d = d.text(p.Digest).text(policies.Digest())
	d = d.text(seen.APIVersion).text(seen.Kind).text(seen.Namespace).text(seen.Name)
	d = d.texts(seen.Labels).texts(seen.Annotations).number(seen.Replicas)
	d = d.resources(&seen.Requests)
	if !seen.Pod.IsZero() {
		d = d.resources(&seen.Pod)
	}
	if seen.Nodes != nil {
		d = d.text("nodes").text(seen.Nodes.Digest())
	}
	if seen.PerNode {
		d = d.text("per node")
	}
	if p.Divides(seen) != nil {
		d = d.text("divided")
	}
	sum := sha256.Sum256(d)
	return hex.EncodeToString(sum[:16])
}

// digester encodes its input unambiguously: each text follows its length.
type digester []byte

func (d digester) number(n int64) digester { return binary.BigEndian.AppendUint64(d, uint64(n)) }

func (d digester) text(text string) digester { return append(d.number(int64(len(text))), text...) }

func (d digester) texts(m map[string]string) digester {
	d = d.number(int64(len(m)))
	for _, key := range sorted(m) {
		d = d.text(key).text(m[key])
	}
	return d
}

func (d digester) resources(r *capacity.Resources) digester {
	d = d.number(r.CPU).number(r.Memory).number(r.Storage).number(int64(len(r.Extended)))
	for _, name := range sorted(r.Extended) {
		d = d.text(name).number(r.Extended[name])
	}
	return d
}

func sorted[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}
