package oidc

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// FuzzIDTokenClaims has the issuer sign anything: who comes of it is whom the
// token names, and it names us, this sign-in and this hour. ISSUER in the text
// is the issuer's address.
func FuzzIDTokenClaims(f *testing.F) {
	i := newIssuer(f)
	p := i.oidc(f)
	whole := fmt.Sprintf(`"iss":"ISSUER","aud":%q,"iat":%d,"exp":%d,"nonce":"n"`, clientID, epoch.Unix(), epoch.Unix()+300)
	for _, more := range []string{
		`"sub":"s"`, `"sub":7`, `"sub":""`, `"sub":" s"`, `"sub":"s","azp":"another"`, `"sub":"s","email":"ada@example.com","email_verified":"true","name":"Ada"`,
		`"sub":"s","email":"a@b@c","email_verified":true`, `"sub":"s","email":"ada@example.com","email_verified":1`, `"sub":"s","events":{"http://schemas.openid.net/event/backchannel-logout":{}}`,
		`"sub":"s","name":"\u202eAda\r\n","picture":"javascript:alert(1)","sid":"","amr":["pwd",7],"auth_time":-1e308`, `"sub":"s","SUB":"t","nbf":9e9`,
	} {
		f.Add("{" + whole + "," + more + "}")
	}
	f.Add(strings.Replace("{"+whole+`,"sub":"s"}`, fmt.Sprintf("%q", clientID), fmt.Sprintf(`[%q,"another"]`, clientID), 1))
	f.Add(`{"sub":"s"}`)
	f.Fuzz(func(t *testing.T, payload string) {
		payload = strings.ReplaceAll(payload, "ISSUER", i.url)
		claims, err := provider.ParseClaims([]byte(payload))
		if err != nil || p.checkClaims(claims) != nil || p.checkNonce(claims, "n") != nil {
			return
		}
		profile, err := p.profile(claims, claims)
		if err != nil {
			return
		}
		var says map[string]any
		if err := json.Unmarshal([]byte(payload), &says); err != nil {
			t.Fatal(err)
		}
		isMeantForUs(t, payload, says, i.url)
		isWhoItSays(t, payload, says, profile)
	})
}

// isMeantForUs is a second reading of OpenID Connect Core 3.1.3.7.
func isMeantForUs(t *testing.T, payload string, says map[string]any, issuer string) {
	audience, many := says["aud"].([]any)
	if !many {
		audience = []any{says["aud"]}
	}
	now := float64(epoch.Unix())
	exp, _ := says["exp"].(float64)
	iat, dated := says["iat"].(float64)
	switch azp, bound := says["azp"]; {
	case says["iss"] != issuer, says["nonce"] != "n", !slices.Contains(audience, any(clientID)),
		bound && azp != any(clientID), !bound && len(audience) > 1 && slices.ContainsFunc(audience, func(a any) bool { return a != any(clientID) }),
		exp < now-60, !dated, iat > now+60:
		t.Errorf("accepted %s", payload)
	}
}

func isWhoItSays(t *testing.T, payload string, says map[string]any, who guest.Profile) {
	if who.Subject != says["sub"] || who.Subject == "" || len(who.Subject) > 255 || who.TokenSubject != who.Subject {
		t.Errorf("%s is %q", payload, who.Subject)
	}
	proven := says["email_verified"] == true || says["email_verified"] == "true"
	if who.EmailTrust > guest.Asserted && !proven || who.Email != "" && who.Email != says["email"] || (who.Email == "") != (who.EmailTrust == guest.NoEmail) {
		t.Errorf("%s has the address %q, worth %d", payload, who.Email, who.EmailTrust)
	}
	if strings.ContainsAny(who.Name, "\r\n\u202e") || who.Picture != "" && !strings.HasPrefix(who.Picture, "https://") {
		t.Errorf("%s shows %q and %q", payload, who.Name, who.Picture)
	}
}
