package oauth

import (
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Whatever an API answers: who comes of it has a subject that is no name or
// address, at most one plain address, and is never both somebody and an error.
func FuzzAnswers(f *testing.F) {
	f.Add(octocat, addresses)
	f.Add(mona, `[]`)
	f.Add(`{"id":1,"id":2}`, `[{"email":"a@b.example","primary":true,"verified":"true"}]`)
	f.Add(`{"id":1e9,"name":"\u202e"}`, `{"message":"Not Found"}`)
	fake := newFake(f)
	fake.token = object{"scope": "user"}
	providers := []guest.Provider{fake.trusted(f, nil), fake.github(f, nil), fake.facebook(f, nil)}
	for _, row := range brandRows {
		f.Add(row.page, `{"values":[`+addresses[1:len(addresses)-1]+`]}`)
		providers = append(providers, row.open(f, fake, nil))
	}
	f.Fuzz(func(t *testing.T, person, list string) {
		fake.asked = nil
		fake.pages["/user"], fake.pages["/v26.0/me"], fake.pages["/user/emails"] = person, person, list
		for _, row := range brandRows {
			fake.pages[row.path] = person
		}
		for _, p := range providers {
			got, err := fake.signIn(t, p)
			if err != nil {
				if got.Subject != "" {
					t.Errorf("%T: %q in spite of %v", p, got.Subject, err)
				}
				continue
			}
			nameless := strings.Trim(got.Subject, "0123456789") == ""
			switch p.(type) {
			case *Bitbucket, *Amazon, *Spotify:
				nameless = !strings.ContainsAny(got.Subject, "@ \r\n")
			}
			if got.Subject == "" || len(got.Subject) > 255 || !nameless {
				t.Errorf("%T: the subject is %q", p, got.Subject)
			}
			if strings.Count(got.Email, "@") > 1 || (got.Email == "") != (got.EmailTrust == guest.NoEmail) {
				t.Errorf("%T: the address is %q, worth %d", p, got.Email, got.EmailTrust)
			}
			if strings.ContainsAny(got.Name, "\r\n\u202e") || got.Picture != "" && !strings.HasPrefix(got.Picture, "https://") {
				t.Errorf("%T: shows %q and %q", p, got.Name, got.Picture)
			}
		}
	})
}
