//go:build !linux

package e2e

import "os/exec"

func dieWithUs(*exec.Cmd) {}

// claim is left to chance here.
func claim(int) (release func(), err error) { return func() {}, nil }
