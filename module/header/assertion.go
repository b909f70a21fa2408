package header

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Assertion is what an app may believe of somebody because it is signed: the
// claims of a JWT (RFC 7519 section 4). One site speaks to itself: the app
// behind it takes no other site's.
type Assertion struct {
	// Origin is the site's, such as https://app.example.com: issuer and audience.
	Origin string
	// Subject is the user's ID. Email is proven, or empty.
	Subject, Email, Name, Picture string
	// Groups, Roles and Methods (`amr`, RFC 8176) may be nil.
	Groups, Roles, Methods []string
	// AuthTime is when the person last proved who they are; zero: not known.
	AuthTime time.Time
	// Session is its public handle, Provider the one they came in by.
	Session, Provider string
	// Issued and Expires bound its life, in whole seconds.
	Issued, Expires time.Time
}

// claims are an assertion on the wire. Lists are never null: an app asks them
// without asking whether they are there.
type claims struct {
	Issuer        string   `json:"iss"`                      // the site's origin
	Audience      string   `json:"aud"`                      // the same
	Subject       string   `json:"sub"`                      // the user's ID
	Issued        int64    `json:"iat"`                      // in Unix seconds
	Expires       int64    `json:"exp"`                      // in Unix seconds
	Email         string   `json:"email,omitempty"`          // a proven one only
	EmailVerified bool     `json:"email_verified,omitempty"` // true beside email, absent without
	Name          string   `json:"name,omitempty"`           // for display
	Picture       string   `json:"picture,omitempty"`        // an https address
	Groups        []string `json:"groups"`                   // of user and account
	Roles         []string `json:"roles"`                    // of this site
	Methods       []string `json:"amr"`                      // as the provider says
	AuthTime      int64    `json:"auth_time,omitempty"`      // in Unix seconds
	Session       string   `json:"sid"`                      // the public handle
	Provider      string   `json:"provider"`                 // the operator's name of it
	Omitted       []string `json:"omitted,omitempty"`        // claims that were too long
}

// longestClaims is the most that claims may hold, in bytes: signed and encoded
// that is 6 KiB. nginx, Gunicorn and others refuse a header line of 8 KiB, and
// Node.js 16 KiB of all of them together.
const longestClaims = 4400

// Claims is the JSON object to sign. Where it would be too long for the servers
// behind, lists are left empty, and the claim `omitted` names them: an app that
// needs one must then refuse or ask elsewhere, and never take it for none.
func (a *Assertion) Claims() ([]byte, error) {
	c := claims{
		Issuer: a.Origin, Audience: a.Origin, Subject: a.Subject,
		Issued: a.Issued.Unix(), Expires: a.Expires.Unix(),
		Email: a.Email, EmailVerified: a.Email != "", Name: a.Name,
		Groups: list(a.Groups), Roles: list(a.Roles), Methods: list(a.Methods),
		Session: a.Session, Provider: a.Provider,
	}
	if strings.HasPrefix(a.Picture, "https://") {
		c.Picture = a.Picture
	}
	if !a.AuthTime.IsZero() {
		c.AuthTime = a.AuthTime.Unix()
	}
	for _, claim := range []string{"picture", "groups", "roles", "amr", "name", ""} {
		if text, err := json.Marshal(c); err != nil || len(text) <= longestClaims {
			return text, err
		}
		c.omit(claim)
	}
	return nil, fmt.Errorf("asserting: claims of more than %d bytes", longestClaims)
}

// omit leaves a claim out and says so.
func (c *claims) omit(claim string) {
	before := len(c.Groups) + len(c.Roles) + len(c.Methods) + len(c.Name) + len(c.Picture)
	switch claim {
	case "picture":
		c.Picture = ""
	case "groups":
		c.Groups = list(nil)
	case "roles":
		c.Roles = list(nil)
	case "amr":
		c.Methods = list(nil)
	case "name":
		c.Name = ""
	default: // every other one is needed
	}
	if len(c.Groups)+len(c.Roles)+len(c.Methods)+len(c.Name)+len(c.Picture) < before {
		c.Omitted = append(c.Omitted, claim)
	}
}

func list(items []string) []string {
	if items == nil {
		return []string{}
	}
	return items
}
