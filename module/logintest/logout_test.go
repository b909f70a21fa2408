package logintest

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// logoutClaims are those that OpenID Connect Back-Channel Logout 1.0 section
// 2.4 knows.
type logoutClaims struct {
	Sub, Sid, Jti string
	Events        map[string]json.RawMessage
	Nonce         json.RawMessage
}

// readLogout makes the checks of section 2.6 by the common library's means.
func (p *party) readLogout(token string) (c logoutClaims, err error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return c, err
	}
	header := signed.Signatures[0].Protected.ExtraHeaders
	if typ, there := header["typ"]; header["crit"] != nil || there && typ != "logout+jwt" && typ != "JWT" {
		return c, errors.New("header")
	}
	id, err := p.provider.Verifier(&oidc.Config{ClientID: "client", Now: p.clock.Now, SkipExpiryCheck: true}).Verify(p.t.Context(), token)
	if err != nil {
		return c, err
	}
	if err := id.Claims(&c); err != nil {
		return c, err
	}
	var event map[string]any
	if json.Unmarshal(c.Events[logoutEvent], &event) != nil || event == nil || c.Nonce != nil || c.Jti == "" || c.Sub+c.Sid == "" {
		return c, errors.New("events, nonce, jti, sub or sid")
	}
	if age := p.clock.Now().Sub(id.IssuedAt); age < -time.Minute || age > 5*time.Minute {
		return c, errors.New("iat")
	}
	return c, nil
}

func TestLogoutTokenSaysWhoLeft(t *testing.T) {
	p := newParty(t)
	for _, row := range AcceptedLogouts() {
		c, err := p.readLogout(p.issuer.LogoutToken("client", "ada", "s1", row.Faults))
		if err != nil || c.Sub != "ada" || c.Sid != "s1" {
			t.Errorf("%s: %+v, %v", row.Name, c, err)
		}
	}
	person, _ := p.readLogout(p.issuer.LogoutToken("client", "ada", ""))
	session, _ := p.readLogout(p.issuer.LogoutToken("client", "", "s1"))
	if person.Sub != "ada" || person.Sid != "" || session.Sub != "" || session.Sid != "s1" || person.Jti == session.Jti {
		t.Errorf("got %+v and %+v", person, session)
	}
	if _, err := p.readLogout(p.issuer.LogoutToken("other", "ada", "s1")); err == nil {
		t.Error("another client's is ours")
	}
}

func TestEachLogoutFaultIsSeenByACarefulClient(t *testing.T) {
	p := newParty(t)
	for _, row := range RefusedLogouts() {
		if c, err := p.readLogout(p.issuer.LogoutToken("client", "ada", "s1", row.Faults)); err == nil {
			t.Errorf("%s: accepted %+v", row.Name, c)
		}
	}
}

func TestWayBackFromSigningOutCanBeSpoiled(t *testing.T) {
	p := newParty(t)
	query := url.Values{"id_token_hint": {p.idToken()}, "post_logout_redirect_uri": {"https://app.example/bye"}, "state": {"x"}}
	for _, row := range []struct {
		faults Faults
		want   []string
	}{{OtherState(), []string{"INVALID"}}, {NoState(), nil}, {Faults{}, []string{"x"}}} {
		p.issuer.NextLogout(row.faults)
		at, _ := p.leave(query)
		if got := at.Query()["state"]; !slices.Equal(got, row.want) {
			t.Errorf("state came back as %q, want %q", got, row.want)
		}
	}
}
