package module

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// metadataAnswer is enough to draw a sign-in page of one's own.
type metadataAnswer struct {
	// Origin is this site's address as browsers see it.
	Origin string `json:"origin"`
	// Methods are the ways in, in the operator's order.
	Methods []methodView `json:"methods"`
	// Policy is what the site wants of who signs in.
	Policy policyView `json:"policy"`
	// Endpoints are where things are: absolute addresses.
	Endpoints endpointsView `json:"endpoints"`
}

// methodView is one way in.
type methodView struct {
	ID     string     `json:"id"`     // for intents and token
	Label  string     `json:"label"`  // for the button
	Kind   string     `json:"kind"`   // "provider": POST intents; "email": POST challenges
	Icon   string     `json:"icon"`   // the brand's word, such as "google"
	Native nativeView `json:"native"` // which tokens of SDKs are traded
}

// nativeView is which tokens of its SDK POST token takes of a provider.
type nativeView struct {
	IDToken bool `json:"id_token"` // as subject_token_type
	// AccessToken: an issuer of the provider oidc may take some although this is
	// false, which only it can tell.
	AccessToken bool `json:"access_token"`
}

// policyView is what the site wants of who signs in.
type policyView struct {
	SignUp       string `json:"sign_up"`       // on, off or invited
	Email        bool   `json:"email"`         // codes are a way in
	CodeLength   int    `json:"code_length"`   // digits
	CodeLifetime int    `json:"code_lifetime"` // in seconds
	Link         bool   `json:"link"`          // a mail has a link beside its code
}

// endpointsView are where things are.
type endpointsView struct {
	SignIn     string `json:"sign_in"`    // the site's own page
	OpenAPI    string `json:"openapi"`    // describes the API
	Session    string `json:"session"`    // who is signed in
	Intents    string `json:"intents"`    // to sign in at a provider
	Challenges string `json:"challenges"` // to sign in by mail
	Nonce      string `json:"nonce"`      // for a native sign-in
	Token      string `json:"token"`      // OAuth's token endpoint
	Keys       string `json:"jwks"`       // of what the app receives
}

func (c *apiCall) metadata(w http.ResponseWriter, r *http.Request, v *visit) error {
	site := v.origin.String() + c.base
	api := site + "/api/v1"
	body, err := json.Marshal(metadataAnswer{
		Origin: v.origin.String(), Methods: c.methods(), Policy: c.policy(),
		Endpoints: endpointsView{
			SignIn: site + "/", OpenAPI: api + "/openapi.json", Session: api + "/session", Intents: api + "/intents",
			Challenges: api + "/challenges", Nonce: api + "/native/nonce", Token: api + "/token", Keys: site + "/jwks.json",
		},
	})
	if err != nil {
		return err
	}
	body = append(body, '\n')
	return c.answerKept(w, r, tagOf(body), func() []byte { return body })
}

func (c *apiCall) methods() []methodView {
	methods := []methodView{}
	for _, method := range c.gate.providers {
		traits := method.Traits()
		view := methodView{ID: traits.Name, Label: traits.Label, Kind: "provider", Icon: traits.Brand, Native: nativeView{
			IDToken:     slices.Contains(traits.Native, guest.IDToken),
			AccessToken: slices.Contains(traits.Native, guest.AccessToken),
		}}
		if _, ok := method.(guest.CodeSender); ok {
			view.Kind = "email"
		}
		methods = append(methods, view)
	}
	return methods
}

func (c *apiCall) policy() policyView {
	rules := c.rules().WithDefaults()
	return policyView{
		SignUp: c.gate.settings.Signup, Email: c.gate.codes != nil,
		CodeLength: rules.Length, CodeLifetime: int(rules.Lifetime / time.Second), Link: !rules.NoLink,
	}
}

// keptFor is how long an answer that is the same for everybody may be kept.
const keptFor = "public, max-age=300"

// tagOf is the entity tag of what never changes without it (RFC 9110 section
// 8.8.3).
func tagOf(parts ...[]byte) string {
	hash := sha256.New()
	for _, part := range parts {
		hash.Write(part)
		hash.Write([]byte{0})
	}
	return `"` + base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:18]) + `"`
}

// answerKept answers what is the same for everybody, or that it is still what the
// client has.
func (c *apiCall) answerKept(w http.ResponseWriter, r *http.Request, tag string, body func() []byte) error {
	h := w.Header()
	h["Cache-Control"] = []string{keptFor}
	h["Etag"] = []string{tag}
	if hasTag(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	dress(h)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body()) // whoever asked may have left
	return nil
}

// hasTag reports whether a client has what the tag is of (RFC 9110 section
// 13.1.2).
func hasTag(r *http.Request, tag string) bool {
	for _, one := range strings.Split(strings.Join(r.Header["If-None-Match"], ","), ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
