package e2e

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel kill cmd when the test process dies: a test that
// was killed cannot run its cleanups.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
