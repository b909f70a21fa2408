package badger

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// becomeNobody has this test touch files as a user who may read dir and no
// more, until it ends. Only this goroutine's thread changes.
func becomeNobody(t *testing.T, dir string) {
	t.Helper()
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// The test's own directory above dir is root's alone.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}
