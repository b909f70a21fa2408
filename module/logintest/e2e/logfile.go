package e2e

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// logFile is what one process after the other writes. What was written can be
// read at once: of a pipe nobody knows what is still on its way, so that a log
// may seem to hold, or to keep, what it does not.
type logFile struct {
	file *os.File

	mu   sync.Mutex
	text strings.Builder // what was read so far
}

func newLogFile(t testing.TB) *logFile {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &logFile{file: file}
}

// read returns all that was written by now.
func (l *logFile) read() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := int64(l.text.Len())
	_, err := io.Copy(&l.text, io.NewSectionReader(l.file, from, math.MaxInt64-from))
	return l.text.String(), err
}
