//go:build !linux

package kcp

import "syscall"

// dieWithParent has no counterpart outside Linux: a server whose parent is killed must be stopped by hand.
func dieWithParent(*syscall.SysProcAttr) {}
