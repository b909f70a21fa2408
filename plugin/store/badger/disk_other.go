//go:build !linux && !darwin && !freebsd

package badger

import (
	"errors"
	"io/fs"
	"math"
)

// errReadOnlyFS never occurs here.
var errReadOnlyFS = errors.New("read-only file system")

// modesMatter: others are kept out by the access list that a directory
// inherits, not by mode bits.
const modesMatter = false

// freeSpace knows no end: files are not sparse here, so a full disk is an
// error when Badger makes one, not a fault when it writes to it.
func freeSpace(string) (int64, error) { return math.MaxInt64, nil }

func allocated(info fs.FileInfo) int64 { return info.Size() }

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }
