package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// cpuTime is what this process has used so far, in user space and in the
// kernel. Linux counts it in nanoseconds, whatever its clock tick is.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// cpuTimeOf is cpuTime of another process, read without its help: the clock of
// its CPU (clock_getcpuclockid(3)) has nanoseconds, where /proc/<pid>/stat has
// ticks of 10 ms. 0 where there is no such process.
func cpuTimeOf(pid int) time.Duration {
	const scheduled = 2 // CPUCLOCK_SCHED: as the scheduler counts
	var used syscall.Timespec
	clock := uintptr(^pid<<3 | scheduled)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&used)), 0); errno != 0 {
		return 0
	}
	return time.Duration(used.Nano())
}

// diskWritten is how many bytes a process has had the disk write so far: each
// time it made a page of a file dirty, that page (proc(5), write_bytes). On a
// file system in memory it stays 0.
func diskWritten(pid int) int64 {
	account, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(account)) {
		if count, found := strings.CutPrefix(line, "write_bytes: "); found {
			n, _ := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
			return n
		}
	}
	return 0
}

// trustsOurRoots: SSL_CERT_FILE decides whom a program of Go's trusts.
const trustsOurRoots = true

// memory is what a process holds, in bytes: all of it, and the part that is no
// mapped file.
func memory(pid int) (resident, anonymous int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		words := strings.Fields(line)
		switch words[0] {
		case "VmRSS:":
			resident = kibibytes(words[1])
		case "RssAnon:":
			anonymous = kibibytes(words[1])
		}
	}
	return resident, anonymous
}

func kibibytes(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n << 10
}

// mask is a set of processors, as sched_setaffinity(2) takes it.
type mask [16]uint64

// processors divides those we may use: the first, and the others. With only
// one, both are that one.
func processors() (first, others mask) {
	all := affinity(syscall.SYS_SCHED_GETAFFINITY, mask{})
	for n := range len(all) * 64 {
		bit := uint64(1) << (n % 64)
		switch {
		case all[n/64]&bit == 0:
		case first == mask{}:
			first[n/64] |= bit
		default:
			others[n/64] |= bit
		}
	}
	if others == (mask{}) {
		others = first
	}
	return first, others
}

func affinity(call uintptr, m mask) mask {
	_, _, _ = syscall.RawSyscall(call, 0, unsafe.Sizeof(m), uintptr(unsafe.Pointer(&m)))
	return m
}

// startOn starts a process on these processors alone. It inherits them from
// the thread that starts it; its Go runtime then has as many threads at work.
func startOn(cmd *exec.Cmd, m mask) error {
	if m == (mask{}) {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := affinity(syscall.SYS_SCHED_GETAFFINITY, mask{})
	affinity(syscall.SYS_SCHED_SETAFFINITY, m)
	defer affinity(syscall.SYS_SCHED_SETAFFINITY, before)
	return cmd.Start()
}
