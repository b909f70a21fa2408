package module

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddy-login/caddy-login/module/token"
)

// errBadToken means that an access token of ours identifies nobody here.
var errBadToken = errors.New("the access token is not good here, or not any more")

// badToken is the answer to it (RFC 6750 section 3), also on public paths: a
// client that shows a token wants to be known, and must hear that it is not.
// The log does not: whoever comes along can cause it.
var badToken = refusal{
	status: http.StatusUnauthorized, code: "invalid_token", title: "Invalid token",
	detail:    "The access token is not good here, or not any more: get another with the refresh token, or sign in again.",
	challenge: `Bearer error="invalid_token"`,
}

// identify finds out who it is, by cookie or access token. Its error means that
// we cannot know, or is errBadToken.
func (v *visit) identify(r *http.Request) error {
	v.lookForBearer(r)
	if err := v.recognise(r); err != nil {
		return err
	}
	return v.prove(r)
}

// lookForBearer has recognise go by an access token as well. The pages don't:
// they are for browsers, and what they change is guarded by what browsers send.
func (v *visit) lookForBearer(r *http.Request) {
	for _, value := range r.Header["Authorization"] {
		scheme, credential, _ := strings.Cut(value, " ")
		credential = strings.Trim(credential, " ")
		switch {
		case !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(credential, jsonBegins):
		case v.bearer == "":
			v.bearer = credential
		default:
			v.bearers = append(v.bearers, credential)
		}
	}
}

// jsonBegins is how a JWT begins: an object's brace and quote, encoded.
const jsonBegins = "eyJ"

// readBearer takes an access token of ours from the request, so that the app
// never sees it, and finds whose it is. Beside a cookie of somebody else, or a
// second credential, it is nobody's: a request has one author. Whatever is not
// ours stays where it is, and says nothing to us.
func (v *visit) readBearer(r *http.Request) error {
	hand, err := v.house.tokens.Read(r.Context(), v.site(), v.bearer)
	if errors.Is(err, token.ErrForeign) {
		return v.nextBearer(r)
	}
	byCookie, several := v.held, len(r.Header["Authorization"]) > 1
	v.is(nil)
	delete(r.Header, "Authorization")
	switch {
	case several, errors.Is(err, token.ErrInvalid):
		return errBadToken
	case err != nil:
		return fmt.Errorf("reading access token: %w", err)
	case !v.gate.takes(hand), byCookie != nil && byCookie.Live().User != hand.Live().User:
		return errBadToken
	}
	v.is(hand)
	return nil
}

// nextBearer goes on where the credential at hand is another's.
func (v *visit) nextBearer(r *http.Request) error {
	if len(v.bearers) == 0 {
		v.bearer = ""
		return nil
	}
	v.bearer, v.bearers = v.bearers[0], v.bearers[1:]
	return v.readBearer(r)
}

// site is where the visit is, for tokens.
func (v *visit) site() token.Site {
	return token.Site{Signer: v.signer(), Origin: v.origin.String(), Scope: v.tokenScope()}
}

// tokenScope is what tokens are bound to: one site, also where others share its
// cookies, below a domain or at another port. No script reads a cookie of ours, but
// one of an app's can have its visitor let it in, and would go to the neighbours
// with what it then holds.
func (v *visit) tokenScope() string { return v.origin.hostPort }

// on has the answer carry the refusal's own challenge in place of the one that
// every problem of its status carries (RFC 9110 section 11.6.1).
func (why refusal) on(w http.ResponseWriter) http.ResponseWriter {
	if why.challenge == "" {
		return w
	}
	return challenging{w, why.challenge}
}

type challenging struct {
	http.ResponseWriter
	challenge string
}

func (c challenging) WriteHeader(status int) {
	c.Header().Set("WWW-Authenticate", c.challenge)
	c.ResponseWriter.WriteHeader(status)
}
