package capacity

import (
	"testing"
	"unsafe"
)

// TestAccountFitsTwoCacheLines: reservations on several processors write to the same account one right after the other.
func TestAccountFitsTwoCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(account{}); size > 128 {
		t.Errorf("an account takes %d bytes", size)
	}
}
