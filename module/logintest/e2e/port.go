package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// Ports below those that systems give to outgoing connections: one of these
// is never taken by a connection that happens to begin in between.
const (
	firstPort = 20_000
	ports     = 10_000
)

// FreePort is a TCP port of loopback that nobody listens on, and that no other
// test of this machine is given until this one ends.
func FreePort(t testing.TB) int {
	t.Helper()
	for range ports {
		port := firstPort + rand.IntN(ports)
		if reserve(t, port) {
			return port
		}
	}
	t.Fatal("found no free port")
	return 0
}

func reserve(t testing.TB, port int) bool {
	t.Helper()
	release, err := claim(port)
	if err != nil {
		return false
	}
	if !isFree(port) {
		release()
		return false
	}
	t.Cleanup(release)
	return true
}

func isFree(port int) bool {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return false
		}
		if err == nil { // a machine may have no IPv6
			l.Close()
		}
	}
	return true
}
