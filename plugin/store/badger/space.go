package badger

import "fmt"

// Space is the store's directory, what it takes on disk, and how much of that
// disk is free, in bytes.
func (s *store) Space() (dir string, taken, free int64, err error) {
	free, err = freeSpace(s.dir)
	if err != nil {
		return s.dir, 0, 0, fmt.Errorf("asking for free space in %s: %w", s.dir, err)
	}
	return s.dir, used(s.dir), free, nil
}
