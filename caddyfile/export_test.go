package caddyfile

import (
	"maps"
	"slices"
)

// Words are all words of the block.
func Words() []string { return slices.Sorted(maps.Keys(options)) }
