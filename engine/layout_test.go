package engine

import (
	"testing"
	"unsafe"
)

// TestSiteFillsACacheLine: what a reservation on one processor writes to, another one wants to read at once.
func TestSiteFillsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(site{}); size != 64 {
		t.Errorf("a site takes %d bytes", size)
	}
}
