package process

import "syscall"

// dieWithParent ends a process when the one that started it is killed and cannot stop it.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
