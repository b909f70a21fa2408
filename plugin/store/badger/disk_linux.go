package badger

import (
	"os"
	"syscall"
)

// preallocate gives the file's first size bytes their blocks. Not every file
// system can; where it fails, the reserve alone keeps us from the edge.
func preallocate(name string, size int64) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_ = syscall.Fallocate(int(f.Fd()), 0, 0, size)
}
