//go:build !race

package e2e

const Raced = false
