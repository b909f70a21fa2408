package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel kill cmd when the test process dies: a test that
// was killed cannot run its cleanups.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// claim gives a port to this test among all of this machine. A socket of the
// kernel's own name space needs no file, and goes when the process does.
func claim(port int) (release func(), err error) {
	l, err := net.Listen("unix", fmt.Sprintf("@caddy-login-test-port-%d", port))
	if err != nil {
		return nil, err
	}
	return func() { l.Close() }, nil
}
