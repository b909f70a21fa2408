package badger

import (
	"fmt"
	"io/fs"
	"path/filepath"
)

// Space is the store's directory, what it takes on disk with all that lies below
// it, such as what a Restore replaced, and how much of that disk is free, in
// bytes.
func (s *store) Space() (dir string, taken, free int64, err error) {
	free, err = freeSpace(s.dir)
	if err != nil {
		return s.dir, 0, 0, fmt.Errorf("asking for free space in %s: %w", s.dir, err)
	}
	return s.dir, below(s.dir), free, nil
}

// below is what all files below dir take. What vanishes meanwhile counts
// nothing.
func below(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			sum += allocated(info)
		}
		return nil
	})
	return sum
}
