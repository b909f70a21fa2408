package secrets

import (
	"strings"
	"testing"
)

func TestWhatIsKeptIsFoundWhereItIsShown(t *testing.T) {
	Keep(t, "a-token-of-some-length/and+more", "482913", "short", "")
	KeepAddress(t, "https://app.example/callback?code=the-code-of-the-provider&state=the-state-of-the-site&lang=a-language-of-some-length")
	for line, want := range map[string]bool{
		`{"uri":"/?x=a-token-of-some-length/and+more"}`:     true,
		`{"uri":"/?x=a-token-of-some-length%2Fand%2Bmore"}`: true,
		`the-code-of-the-provider`:                          true,
		`"the-state-of-the-site","x"`:                       true,
		`{"msg":"your code is 482913"}`:                     true,
		`{"code":"482913"}`:                                 true,
		`a-token-of-some-length/and`:                        false,
		`a-language-of-some-length`:                         false,
		`{"ts":1795258149.482913,"port":"a:482913"}`:        false,
		`{"id":"x482913","size":4829130}`:                   false,
		`short`:                                             false,
	} {
		if got := len(Shown(t, "before\n"+line+"\nafter\n")) == 1; got != want {
			t.Errorf("%s is found to show something: %t", line, got)
		}
	}
}

func TestPartsOfATestKnowEachOthersSecrets(t *testing.T) {
	t.Run("one", func(t *testing.T) { Keep(t, "kept-by-the-first-part") })
	t.Run("two", func(t *testing.T) {
		found := Shown(t, "x\nkept-by-the-first-part\n")
		if len(found) != 1 || strings.HasPrefix(found[0], "kept-by-the-first-part") {
			t.Errorf("found %q", found)
		}
	})
}
