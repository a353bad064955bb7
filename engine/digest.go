package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// digest identifies a class, in this process and in others: it is published with decisions.
func digest(placement *Placement, policies *policy.Set, seen *workload.Workload) string {
	d := make(digester, 0, 512)
	d.text(placement.digest, policies.Digest(), seen.APIVersion, seen.Kind, seen.Namespace, seen.Name)
	d.texts(seen.Labels)
	d.texts(seen.Annotations)
	d.number(seen.Replicas)
	d.number(int64(3 + len(seen.Requests.Extended)))
	for name, amount := range seen.Requests.Each {
		d.text(name)
		d.number(amount)
	}
	sum := sha256.Sum256(d)
	return hex.EncodeToString(sum[:16])
}

// digester writes what is to be digested so that no two contents look the same: each text after its length.
type digester []byte

func (d *digester) number(n int64) { *d = binary.BigEndian.AppendUint64(*d, uint64(n)) }

func (d *digester) text(texts ...string) {
	for _, text := range texts {
		d.number(int64(len(text)))
		*d = append(*d, text...)
	}
}

func (d *digester) texts(m map[string]string) {
	d.number(int64(len(m)))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		d.text(key, m[key])
	}
}
