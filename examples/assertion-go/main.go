// Command assertion-go is an app that believes who is there because it is
// signed, and not because it stands in a header.
package main

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// person is what the assertion says of somebody.
type person struct {
	Name   string   `json:"name"`   // for display
	Email  string   `json:"email"`  // proven; empty where none is
	Groups []string `json:"groups"` // never null
}

func main() {
	origin := cmp.Or(os.Getenv("ORIGIN"), "https://app.example.com")
	keys := cmp.Or(os.Getenv("KEYS"), origin+"/.login/jwks.json")
	// The site is the issuer and the audience: what was signed for another site,
	// though with the same key, is not for this app.
	verifier := oidc.NewVerifier(origin, oidc.NewRemoteKeySet(context.Background(), keys), &oidc.Config{
		ClientID: origin, SupportedSigningAlgs: []string{oidc.ES256},
	})
	server := &http.Server{
		Addr: "127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "3000"), Handler: hello(verifier), ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

func hello(verifier *oidc.IDTokenVerifier) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, err := verifier.Verify(r.Context(), r.Header.Get("Remote-Assertion"))
		var who person
		if err == nil {
			err = token.Claims(&who)
		}
		// Without groups it is something else that the site signed.
		if err != nil || who.Groups == nil {
			http.Error(w, "not signed by the site", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<p>Hello %s, %s (%d groups)\n", html.EscapeString(who.Name), html.EscapeString(token.Subject), len(who.Groups))
	}
}
