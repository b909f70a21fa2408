package main

import (
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

func TestCountedStoreIsWrittenAsTheStoreIs(t *testing.T) {
	golden.JSON(t, "testdata", func(t testing.TB, config string) {
		if err := golden.Validate(config); err != nil {
			t.Error(err)
		}
	})
}
