package engine

import (
	"testing"
	"unsafe"
)

// TestSiteFillsACacheLine: while a reservation on one processor writes to a site, other processors read the sites next to
// it.
func TestSiteFillsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(site{}); size != 64 {
		t.Errorf("a site takes %d bytes", size)
	}
}
