package logintest

import (
	"net/http"
	"net/url"
)

// Row is one row of a table of faults. Those that begin with oidcc-client-test
// are the modules of that name in the OpenID Foundation's suite for relying
// parties.
type Row struct {
	Name   string
	Faults Faults
	// Shows is the answer that gives a fault away: answer, token or userinfo. A
	// careful relying party asks no further.
	Shows string
}

// Refused are the log-ins that a relying party must refuse.
func Refused() []Row {
	return []Row{
		{"oidcc-client-test-invalid-iss", WrongIssuer(), "token"},
		{"oidcc-client-test-invalid-aud", WrongAudience(), "token"},
		{"oidcc-client-test-missing-aud", Drop("aud"), "token"},
		{"oidcc-client-test-nonce-invalid", WrongNonce(), "token"},
		{"oidcc-client-test-missing-sub", NoSubject(), "token"},
		{"oidcc-client-test-missing-iat", NoIssuedAt(), "token"},
		{"oidcc-client-test-idtoken-sig-none", Unsigned(), "token"},
		{"oidcc-client-test-invalid-sig-rs256", WithAlg("RS256").And(BadSignature()), "token"},
		{"oidcc-client-test-invalid-sig-es256", WithAlg("ES256").And(BadSignature()), "token"},
		{"oidcc-client-test-invalid-sig-hs256", SignedWithSecret().And(BadSignature()), "token"},
		{"oidcc-client-test-invalid-athash", spoil("at_hash"), "token"},
		{"oidcc-client-test-userinfo-invalid-sub", WrongUserInfoSubject(), "userinfo"},
		{"oidcc-client-test-form-post-error", ErrorAnswer("login_required"), "answer"},
		{"rfc6749-4.1.2.1-access-denied", ErrorAnswer("access_denied"), "answer"},
		{"rfc8725-3.2-sig-hs256", SignedWithSecret(), "token"},
		{"rfc9207-wrong-iss", WrongAnswerIssuer(), "answer"},
		{"rfc9207-missing-iss", NoAnswerIssuer(), "answer"},
		{"fapi-missing-nonce", Drop("nonce"), "token"},
		{"fapi-empty-sub", Set("sub", ""), "token"},
		{"fapi-missing-exp", Drop("exp"), "token"},
		{"fapi-expired", Expired(), "token"},
	}
}

// Accepted are odd log-ins that a relying party must accept.
func Accepted() []Row {
	return []Row{
		{Name: "oidcc-client-test"},
		{Name: "oidcc-client-test-idtoken-sig-rs256", Faults: WithAlg("RS256")},
		{Name: "oidcc-client-test-idtoken-sig-es256", Faults: WithAlg("ES256")},
		{Name: "oidcc-client-test-idtoken-sig-eddsa", Faults: WithAlg("EdDSA")},
		{Name: "oidcc-client-test-missing-athash", Faults: Drop("at_hash")},
		{Name: "no-kid", Faults: NoKeyID()},
		{Name: "extra-claims", Faults: ExtraClaims()},
		{Name: "fapi-aud-is-a-list", Faults: Faults{IDToken: func(claims map[string]any) { claims["aud"] = []any{claims["aud"]} }}},
		{Name: "rfc6749-5.1-token-type-in-another-case", Faults: Faults{Token: func(answer map[string]any) { answer["token_type"] = "bEARER" }}},
		{Name: "rfc6749-5.1-no-expires-in", Faults: Faults{Token: func(answer map[string]any) { delete(answer, "expires_in") }}},
	}
}

// RefusedRefreshes are answers to a refresh token that a relying party must not
// believe, for NextRefresh. They say nothing of whether the grant still stands.
func RefusedRefreshes() []Row {
	return []Row{
		{"oidcc-client-test-refresh-token-invalid-sub", spoil("sub"), "refresh"},
		{"oidcc-client-test-refresh-token-invalid-issuer", WrongIssuer(), "refresh"},
		{"oidcc-client-test-refresh-token-invalid-aud", WrongAudience(), "refresh"},
		{"oidcc-client-test-refresh-token-invalid-azp", Set("azp", "other"), "refresh"},
		{"idtoken-sig-none", Unsigned(), "refresh"},
		{"invalid-sig-rs256", BadSignature(), "refresh"},
		{"no-access-token", Faults{Refresh: func(answer map[string]any) { delete(answer, "access_token") }}, "refresh"},
		{"server-error", Answers("refresh", http.StatusInternalServerError), "refresh"},
		{"too-many-requests", Answers("refresh", http.StatusTooManyRequests), "refresh"},
	}
}

// RefusedLogouts are the logout tokens that a relying party must refuse (OpenID
// Connect Back-Channel Logout 1.0 section 2.6).
func RefusedLogouts() []Row {
	const suite = "oidcc-client-test-rp-backchannel-rpinitlogout-"
	return []Row{
		{suite + "alg-none", Unsigned(), "logout"},
		{suite + "wrong-alg", SignedWithSecret(), "logout"},
		{suite + "wrong-iss", WrongIssuer(), "logout"},
		{suite + "wrong-aud", WrongAudience(), "logout"},
		{suite + "no-event", Drop("events"), "logout"},
		{suite + "wrong-event", Set("events", map[string]any{logoutEvent + "INVALID": map[string]any{}}), "logout"},
		{suite + "with-nonce", Set("nonce", "nonce"), "logout"},
		{"event-is-no-object", Set("events", map[string]any{logoutEvent: true}), "logout"},
		{"events-is-a-list", Set("events", []any{logoutEvent}), "logout"},
		{"null-nonce", Set("nonce", nil), "logout"},
		{"bad-signature", BadSignature(), "logout"},
		{"typ-of-an-access-token", inHeader("typ", "at+jwt"), "logout"},
		{"critical-extension", inHeader("crit", []string{"exp"}), "logout"},
		{"nobody", Drop("sub").And(Drop("sid")), "logout"},
		{"missing-aud", Drop("aud"), "logout"},
		{"missing-iat", Drop("iat"), "logout"},
		{"missing-jti", Drop("jti"), "logout"},
		{"empty-jti", Set("jti", ""), "logout"},
		{"expired", Expired(), "logout"},
		{"from-the-future", Faults{IDToken: func(claims map[string]any) {
			iat, _ := claims["iat"].(int64)
			claims["iat"], claims["exp"] = iat+600, iat+720
		}}, "logout"},
	}
}

// AcceptedLogouts are odd logout tokens that a relying party must take. `typ`
// is no must, and `exp` became one only with the final specification.
func AcceptedLogouts() []Row {
	return []Row{
		{Name: "oidcc-client-test-rp-backchannel-rpinitlogout"},
		{Name: "sig-es256", Faults: WithAlg("ES256")},
		{Name: "sig-eddsa", Faults: WithAlg("EdDSA")},
		{Name: "no-kid", Faults: NoKeyID()},
		{Name: "no-typ", Faults: Faults{Header: func(header map[string]any) { delete(header, "typ") }}},
		{Name: "typ-jwt", Faults: inHeader("typ", "JWT")},
		{Name: "aud-is-a-list", Faults: Faults{IDToken: func(claims map[string]any) { claims["aud"] = []any{claims["aud"]} }}},
		{Name: "event-says-more", Faults: Set("events", map[string]any{logoutEvent: map[string]any{"x": 1}, "urn:x": map[string]any{}})},
		{Name: "missing-exp", Faults: Drop("exp")},
	}
}

// OtherState and NoState are ways back from signing out, for NextLogout, that
// must lead to the signed-out page all the same.
func OtherState() Faults {
	return Faults{Farewell: func(back url.Values) { back.Set("state", "INVALID") }}
}

// NoState leaves the state out.
func NoState() Faults { return Faults{Farewell: func(back url.Values) { back.Del("state") }} }
