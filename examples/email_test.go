package examples_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

func mailedCodeOrLinkSignsIn(t *testing.T) {
	app, wiki, google := e2e.NewApp(t), e2e.NewApp(t), newGoogle(t)
	box := inbox.Options{Username: secrets["SMTP_USERNAME"], Password: secrets["SMTP_PASSWORD"]}.New(t)
	authority := "tls_ca {file." + box.CAFile + "}\n"
	s := show(t, "email",
		replacement{"smtp.example.com:587", box.Addr},
		replacement{"{env.SMTP_PASSWORD}\n", "{env.SMTP_PASSWORD} {\n" + authority + "}\n"},
		replacement{"from \"", authority + "from \""},
		replacement{"login google email {", "login google email {\ngoogle {\nissuer " + google.URL + "\n}"},
		replacement{"localhost:3000", app.Addr}, replacement{"localhost:3001", wiki.Addr})
	s.register(google, "google", secrets["GOOGLE_CLIENT_ID"], secrets["GOOGLE_CLIENT_SECRET"], "wiki.example.com")
	for host, behind := range map[string]*e2e.App{"app.example.com": app, "wiki.example.com": wiki} {
		s.wantStrangersKeptOut(behind, s.at(host, "/"))
	}
	ada := s.codeSignsIn(app, box)
	s.linkSignsInWhereItWasAskedFor(app, box, ada)
	s.providerAndMailLeadToOnePerson(wiki, google, box)
	s.wikiMailsOnlyItsOwn(wiki, box)
	s.LogKeepsSecret(secrets["SMTP_PASSWORD"], "ada@example.net")
}

// ask wants to see address, gives an email address instead, and returns the page
// that waits for the code.
func (s *stage) ask(visitor *e2e.Visitor, address, email string) e2e.Answer {
	s.t.Helper()
	waiting := visitor.FollowOn(visitor.Submit(visitor.Follow(address), "email", email))
	s.want(waiting, http.StatusOK)
	if !strings.Contains(waiting.Body, email) {
		s.t.Errorf("the page that waits does not name %s:\n%.2000s", email, waiting.Body)
	}
	return waiting
}

// next is the mail that came, which must be to this address.
func (s *stage) next(box *inbox.Inbox, from, to string) inbox.Mail {
	s.t.Helper()
	mail := box.NextCode(e2e.Patience)
	if got := mail.Header.Get("From"); got != from || strings.Join(mail.To, " ") != to {
		s.t.Errorf("a mail from %s to %v, want one from %s to %s", got, mail.To, from, to)
	}
	return mail
}

// codeSignsIn returns the user that it makes.
func (s *stage) codeSignsIn(app *e2e.App, box *inbox.Inbox) (user string) {
	s.t.Helper()
	ada, inside := e2e.NewVisitor(s.t), s.at("app.example.com", "/inside?page=2")
	waiting := s.ask(ada, inside, "ada@example.net")
	mail := s.next(box, "<login@app.example.com>", "ada@example.net")
	if !strings.HasPrefix(mail.Subject, mail.Code()+" ") || !mail.TLS {
		s.t.Errorf("the mail of %s, over TLS: %t, is called %q", mail.Code(), mail.TLS, mail.Subject)
	}
	landed := ada.FollowOn(ada.Submit(waiting, "code", mail.Code()))
	s.want(landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != inside {
		s.t.Errorf("Ada wanted to see %s and sees %s", inside, got)
	}
	wantHeader(s.t, app, "Remote-Email", "ada@example.net")
	// The code was for one sign-in, and so was the link beside it.
	if got := e2e.NewVisitor(s.t).Get(mail.Link()); got.StatusCode < 400 {
		s.t.Errorf("the link is still good for %d", got.StatusCode)
	}
	return app.Last().Value("Remote-User")
}

func (s *stage) linkSignsInWhereItWasAskedFor(app *e2e.App, box *inbox.Inbox, user string) {
	s.t.Helper()
	ada, other, inside := e2e.NewVisitor(s.t), e2e.NewVisitor(s.t), s.at("app.example.com", "/inside")
	s.ask(ada, inside, "ada@example.net")
	mail := s.next(box, "<login@app.example.com>", "ada@example.net")
	elsewhere := other.Get(mail.Link())
	s.want(elsewhere, http.StatusOK)
	if !strings.Contains(elsewhere.Body, mail.Code()) {
		s.t.Errorf("elsewhere the link does not show the code:\n%.3000s", elsewhere.Body)
	}
	s.want(other.Get(inside), http.StatusFound)
	s.want(ada.FollowOn(ada.SubmitAll(ada.Get(mail.Link()))), http.StatusOK)
	wantHeader(s.t, app, "Remote-User", user)
}

// providerAndMailLeadToOnePerson signs somebody in by Google first.
func (s *stage) providerAndMailLeadToOnePerson(wiki *e2e.App, google *logintest.Issuer, box *inbox.Inbox) {
	s.t.Helper()
	address := s.at("wiki.example.com", "/")
	offer := e2e.NewVisitor(s.t).Follow(address)
	if !strings.Contains(offer.Body, "Sign in with Google") || !strings.Contains(offer.Body, "Sign in by email") {
		s.t.Errorf("the wiki does not offer both:\n%.3000s", offer.Body)
	}
	s.visitor(google, s.at("wiki.example.com", "/.login/google?return=%2F"), "100000000000000000004")
	user := wiki.Last().Value("Remote-User")
	hedy := e2e.NewVisitor(s.t)
	waiting := s.ask(hedy, address, "hedy@example.com")
	mail := s.next(box, `"The wiki" <wiki@example.com>`, "hedy@example.com")
	s.want(hedy.FollowOn(hedy.Submit(waiting, "code", mail.Code())), http.StatusOK)
	wantHeader(s.t, wiki, "Remote-Email", "hedy@example.com")
	wantHeader(s.t, wiki, "Remote-User", user)
}

// wikiMailsOnlyItsOwn checks that somebody from elsewhere sees the same page
// and gets no mail: the next one is another's.
func (s *stage) wikiMailsOnlyItsOwn(wiki *e2e.App, box *inbox.Inbox) {
	s.t.Helper()
	address := s.at("wiki.example.com", "/")
	wiki.Forget()
	mallory := e2e.NewVisitor(s.t)
	waiting := s.ask(mallory, address, "mallory@example.org")
	s.want(mallory.Submit(waiting, "code", "123456"), http.StatusUnprocessableEntity)
	if heard := len(wiki.Requests()); heard > 0 {
		s.t.Errorf("the wiki heard %d requests of Mallory", heard)
	}
	s.ask(e2e.NewVisitor(s.t), address, "grace@example.com")
	s.next(box, `"The wiki" <wiki@example.com>`, "grace@example.com")
}
