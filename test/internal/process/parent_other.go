//go:build !linux

package process

import "syscall"

// dieWithParent has no counterpart outside Linux: a process whose parent is killed must be stopped by hand.
func dieWithParent(*syscall.SysProcAttr) {}
