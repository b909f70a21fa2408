package main

import (
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

func TestOurGuestsAreWrittenAsOthersAre(t *testing.T) {
	golden.JSON(t, "testdata", func(t testing.TB, config string) {
		if err := golden.Validate(config); err != nil {
			t.Error(err)
		}
	})
}

func TestMistakesInOurGuestsAreTold(t *testing.T) { golden.Mistakes(t, "testdata/errors") }

func TestEveryGoldenFileOfOursIsRun(t *testing.T) {
	golden.NothingElse(t, "testdata", "testdata", "testdata/errors")
}
