package sharing

import (
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/int128"
)

// DominantShare returns the largest share, over all resources, that an amount is of the total, in thousandths, truncated, and the resource;
// of nothing, 0 and "".
func DominantShare(amount, has capacity.Resources) (thousandths int64, resource string) {
	for name, n := range amount.Each {
		of := has.Get(name)
		if n <= 0 || of <= 0 {
			continue
		}
		if share, _ := int128.MulDiv(n, 1000, of); resource == "" || share > thousandths {
			thousandths, resource = share, name
		}
	}
	return thousandths, resource
}
