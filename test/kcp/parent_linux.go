package kcp

import "syscall"

// dieWithParent ends the server when the process that started it is killed and cannot stop it.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
