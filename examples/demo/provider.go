package main

import (
	"crypto/rand"
	"fmt"

	"github.com/caddy-login/caddy-login/module/logintest"
)

const clientID = "demo-client"

// newProvider is the provider with its three people, and the secret that its
// one client shares with it: a new one at each start.
func newProvider(sitePort, port int) (*logintest.Issuer, string) {
	secret := rand.Text()
	issuer := &logintest.Issuer{Issuer: fmt.Sprintf("http://localhost:%d", port)}
	issuer.Client(clientID, secret, fmt.Sprintf("http://localhost:%d/.login/demo/callback", sitePort))
	issuer.Person(logintest.Person{
		Subject: "10001", Name: "Ada", Email: "ada@example.com", EmailVerified: true,
		Groups: []string{"staff", "admins"},
	})
	issuer.Person(logintest.Person{
		Subject: "10002", Name: "Bob", Email: "bob@example.com", EmailVerified: true,
		Groups: []string{"staff"},
	})
	issuer.Person(logintest.Person{
		Subject: "10003", Name: "Eve", Email: "eve@example.com", EmailVerified: false,
	})
	return issuer, secret
}
