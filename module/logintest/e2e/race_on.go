//go:build race

package e2e

// Raced is whether the tests run with the race detector; what they build then
// has it, too.
const Raced = true
