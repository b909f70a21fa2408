package logintest

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// offline signs Ada in for good.
func (p *party) offline() *oauth2.Token {
	p.t.Helper()
	p.config.Scopes = []string{"openid", "profile", "offline_access"}
	token, err := p.exchange(p.answer("ada").Get("code"))
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// renew trades a refresh token as the common library does, and checks what
// OpenID Connect Core section 12.2 has a client check.
func (p *party) renew(refreshToken string) (*oauth2.Token, error) {
	source := p.config.TokenSource(p.t.Context(), &oauth2.Token{RefreshToken: refreshToken, Expiry: time.Unix(1, 0)})
	token, err := source.Token()
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := p.provider.Verifier(&oidc.Config{ClientID: "client", Now: p.clock.Now}).Verify(p.t.Context(), raw)
	if err != nil {
		return nil, err
	}
	var claims struct{ Azp string }
	if err := id.Claims(&claims); err != nil || id.Subject != "ada" || id.Nonce != "" || claims.Azp != "" {
		return nil, errors.Join(err, errors.New("sub, nonce or azp"))
	}
	return token, nil
}

// errorOf is the code of a token endpoint's refusal.
func errorOf(err error) string {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return refused.ErrorCode
	}
	return ""
}

func TestRefreshTokenIsForWhoAskedForIt(t *testing.T) {
	p := newParty(t)
	token, err := p.exchange(p.answer("ada").Get("code"))
	if err != nil || token.RefreshToken != "" {
		t.Fatalf("got a refresh token unasked, or %v", err)
	}
	if p.offline().RefreshToken == "" {
		t.Error("offline_access brought none")
	}
}

func TestRefreshTokensRotate(t *testing.T) {
	p := newParty(t)
	first := p.offline()
	p.clock.Advance(time.Hour)
	second, err := p.renew(first.RefreshToken)
	if err != nil || second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Fatalf("%v, the same again: %t", err, second != nil)
	}
	if _, err := p.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(second)); err != nil {
		t.Error(err)
	}
	if _, err := p.renew(first.RefreshToken); errorOf(err) != "invalid_grant" {
		t.Errorf("the old one: %v", err)
	}
	// Copied: nobody keeps anything.
	if _, err := p.renew(second.RefreshToken); errorOf(err) != "invalid_grant" {
		t.Errorf("the new one after that: %v", err)
	}
	if _, err := p.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(second)); err == nil {
		t.Error("the access token still works")
	}
	if got := p.issuer.Calls(); got.Refresh != 3 || got.Token != 1 {
		t.Errorf("counted %+v", got)
	}
}

func TestRefreshTokenMayStay(t *testing.T) {
	p := newParty(t)
	p.issuer.KeepsRefreshToken = true
	first := p.offline()
	for range 3 {
		if again, err := p.renew(first.RefreshToken); err != nil || again.RefreshToken != first.RefreshToken {
			t.Fatalf("got %v, %v", again, err)
		}
	}
}

func TestRevokedGrantEnds(t *testing.T) {
	p := newParty(t)
	token := p.offline()
	p.issuer.Revoke("eve")
	token, err := p.renew(token.RefreshToken)
	if err != nil {
		t.Fatalf("somebody else's was revoked: %v", err)
	}
	p.issuer.Revoke("ada")
	if _, err := p.renew(token.RefreshToken); errorOf(err) != "invalid_grant" {
		t.Errorf("got %v", err)
	}
	if _, err := p.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(token)); err == nil {
		t.Error("the access token still works")
	}
	if _, err := p.renew(p.offline().RefreshToken); err != nil {
		t.Errorf("after a new sign-in: %v", err)
	}
}

func TestRefreshTokenIsItsClients(t *testing.T) {
	p := newParty(t)
	token := p.offline()
	p.issuer.Client("b", "b", callback)
	p.config.ClientID, p.config.ClientSecret = "b", "b"
	if _, err := p.renew(token.RefreshToken); errorOf(err) != "invalid_grant" {
		t.Errorf("another client's: %v", err)
	}
	p.config.ClientID = "nobody"
	if _, err := p.renew(token.RefreshToken); errorOf(err) != "invalid_client" {
		t.Errorf("nobody's: %v", err)
	}
}

func TestRefreshGrantsNoMoreThanBefore(t *testing.T) {
	p := newParty(t)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {p.offline().RefreshToken}, "scope": {"openid email"}}
	if got := p.ask(form); got["error"] != "invalid_scope" {
		t.Errorf("more: %v", got)
	}
	form.Set("scope", "openid")
	if got := p.ask(form); got["scope"] != "openid" {
		t.Errorf("less: %v", got)
	}
}

func TestAccessTokenLivesAsLongAsAsked(t *testing.T) {
	p := newParty(t)
	p.issuer.TokenLife = time.Minute
	token := p.offline()
	if token.ExpiresIn != 60 {
		t.Errorf("expires_in is %d", token.ExpiresIn)
	}
	p.clock.Advance(59 * time.Second)
	if _, err := p.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(token)); err != nil {
		t.Errorf("within its life: %v", err)
	}
	p.clock.Advance(time.Second)
	if _, err := p.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(token)); err == nil {
		t.Error("it works after its life")
	}
}

func TestEachRefreshFaultIsSeenByACarefulClient(t *testing.T) {
	p := newParty(t)
	for _, row := range RefusedRefreshes() {
		t.Run(row.Name, func(t *testing.T) {
			before := p.offline()
			p.issuer.NextRefresh(row.Faults)
			if token, err := p.renew(before.RefreshToken); err == nil && token.AccessToken != "" {
				t.Fatal("accepted")
			}
			if _, err := p.renew(p.offline().RefreshToken); err != nil {
				t.Fatalf("the next: %v", err)
			}
		})
	}
}

// ask sends a form to the token endpoint.
func (p *party) ask(form url.Values) map[string]any {
	p.t.Helper()
	req, err := http.NewRequest("POST", p.config.Endpoint.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(p.config.ClientID), url.QueryEscape(p.config.ClientSecret))
	return answered(p.t, req)
}
