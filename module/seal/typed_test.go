package seal_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
)

func TestTokenIsOfItsTypeAlone(t *testing.T) {
	clock := new(logintest.Clock)
	signer, err := seal.LoadSigner(context.Background(), logintest.Store(t), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	made, err := signer.SignAs("at+jwt", []byte(`{"sub":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := signer.Sign([]byte(`{"sub":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(signer.Verify("at+jwt", made), signer.Verify("JWT", plain)); err != nil {
		t.Error(err)
	}
	if signer.Verify("JWT", made) == nil || signer.Verify("at+jwt", plain) == nil || signer.Verify("AT+JWT", made) == nil {
		t.Error("one passes for the other")
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(made, ".")[0])
	if err != nil || !strings.Contains(string(header), `"typ":"at+jwt"`) {
		t.Errorf("header %s, %v", header, err)
	}
	other, err := seal.LoadSigner(context.Background(), logintest.Store(t), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if other.Verify("at+jwt", made) == nil {
		t.Error("another's key verifies it")
	}
	unsigned := made[:strings.LastIndexByte(made, '.')+1]
	for _, bad := range []string{
		"", ".", "..", made + ".", "." + made, made[1:], made[:len(made)-1], strings.Replace(made, ".", "..", 1),
		// As long as a signature, and next to nothing once its line ends are skipped.
		unsigned + strings.Repeat("\n", 86), unsigned + "AAAA" + strings.Repeat("\r", 82), unsigned + strings.Repeat("A", 60) + strings.Repeat("\n", 26),
	} {
		if err := signer.Verify("at+jwt", bad); !errors.Is(err, seal.ErrSeal) {
			t.Errorf("%.30q…: %v", bad, err)
		}
	}
}
