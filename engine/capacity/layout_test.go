package capacity

import (
	"testing"
	"unsafe"
)

// TestAccountFitsTwoCacheLines: what a reservation on one processor writes to, another one wants to read at once.
func TestAccountFitsTwoCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(account{}); size > 128 {
		t.Errorf("an account takes %d bytes", size)
	}
}
