package page

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var usualNotice = Notice{
	Kind: NoticeAddressAdded, To: "ada@example.com", Host: "app.example.com", Address: "lovelace@example.org", Device: usualLetter.Device,
	Place: "192.0.2.0/24", At: asked, Account: "https://app.example.com/.login/account",
	Revert: "https://app.example.com/.login/account/revert#4f1c2a9be07d4f1c2a9be07d", Until: asked.Add(7 * 24 * time.Hour),
}

func TestNoticeSaysAllThatMatters(t *testing.T) {
	got := (&Pages{Title: "Acme Intranet"}).NoticeLetter(usualNotice)
	want := `An address was added to your account

The address l•••@e•••.org was added to your account at app.example.com. Whoever reads its mail may now be able to sign in as you.

Browser: Firefox on Linux
Place: 192.0.2.0/24
Time: 21 November 2026, 06:21 (UTC+1)

If this was you, there is nothing to do. If not, take it back with this link: it undoes the change and signs out everybody, whoever made it included. The link works until 28 November 2026, 06:21 (UTC+1).

https://app.example.com/.login/account/revert#4f1c2a9be07d4f1c2a9be07d

Open your account page:
https://app.example.com/.login/account`
	if got.Text != want {
		t.Errorf("text:\n%s\nwant:\n%s", got.Text, want)
	}
	if got.To != "ada@example.com" || got.From != "" || got.Subject != "An address was added to your account – Acme Intranet (app.example.com)" {
		t.Errorf("to %q, from %q, subject %q", got.To, got.From, got.Subject)
	}
	shown := strings.Join(strings.Fields(text(elements(parsed(t, got.HTML), "body")[0])), " ")
	for _, said := range []string{"l•••@e•••.org", "Firefox on Linux", "192.0.2.0/24", "06:21 (UTC+1)", usualNotice.Revert, "Take it back", "Open your account page", "until 28 November 2026"} {
		if !strings.Contains(shown, said) {
			t.Errorf("the HTML does not say %q: %s", said, shown)
		}
	}
}

// TestEveryNoticeSaysWhatHappened and each says something else.
func TestEveryNoticeSaysWhatHappened(t *testing.T) {
	said := map[string]NoticeKind{}
	kinds := []NoticeKind{
		"new_device", "linked", "unlinked", "address_added", "address_removed", "primary_changed", "sessions_ended",
		"deletion_begun", "deletion_stopped", "reverted", "token_reuse", "",
	}
	for _, kind := range kinds {
		n := usualNotice
		n.Kind, n.Provider = kind, "Okta"
		got := (&Pages{}).NoticeLetter(n)
		if other, twice := said[got.Subject]; twice || !strings.HasSuffix(got.Subject, " – app.example.com") {
			t.Errorf("%s: subject %q, also of %q", kind, got.Subject, other)
		}
		said[got.Subject] = kind
		if err := balanced(got.HTML); err != "" || strings.ContainsAny(got.Text+got.Subject, "{}") || strings.Count(got.Text, "app.example.com") < 3 {
			t.Errorf("%s: %s %s", kind, err, got.Text)
		}
		if linked := strings.Contains(got.Text, "at Okta"); linked != strings.HasSuffix(string(kind), "linked") {
			t.Errorf("%s: names the provider: %t", kind, linked)
		}
	}
	if len(kinds) != len(noticeKinds)+1 {
		t.Errorf("%d kinds have words of their own", len(noticeKinds))
	}
}

func TestNoticeLeavesOutWhatThereIsNot(t *testing.T) {
	got := (&Pages{}).NoticeLetter(Notice{Kind: NoticeSessionsEnded, Host: "app.example.com"})
	for _, part := range []string{got.Text, text(elements(parsed(t, got.HTML), "body")[0])} {
		for _, unsaid := range []string{"Browser", "browser:", "Place", "Time", "http", "link", "until", "Where it came from"} {
			if strings.Contains(part, unsaid) {
				t.Errorf("says %q: %s", unsaid, part)
			}
		}
		if !strings.Contains(part, "tell whoever runs app.example.com at once") {
			t.Errorf("does not say what to do: %s", part)
		}
	}
	if strings.Contains(got.HTML, "<a ") || strings.Contains(got.HTML, "<th") {
		t.Errorf("links or facts: %s", got.HTML)
	}
}

func TestDeletionNoticeSaysUntilWhen(t *testing.T) {
	n := usualNotice
	n.Kind, n.Revert = NoticeDeletionBegun, ""
	until := "It is deleted at this time: 28 November 2026, 06:21 (UTC+1)."
	for at, want := range map[time.Time]bool{n.Until: true, {}: false} {
		n.Until = at
		got := (&Pages{}).NoticeLetter(n)
		if inText, inHTML := strings.Contains(got.Text, until), strings.Contains(text(parsed(t, got.HTML)), until); inText != want || inHTML != want {
			t.Errorf("%v: in text %t, in HTML %t", at, inText, inHTML)
		}
		if strings.Contains(got.Text, "at this time") != want {
			t.Errorf("%v: %s", at, got.Text)
		}
	}
}

// TestNoStrangersWordsInANotice: whoever got into an account chooses the
// addresses that are added to it, the User-Agent and the Accept-Language.
func TestNoStrangersWordsInANotice(t *testing.T) {
	for _, evil := range []string{
		"evil.example/phish", "call-5550100-now@evil.example", "a\r\nBcc: evil@example.com", "<script>alert('evil')</script>@x.evil", "app.example.com@evil.example",
		"\u202eevil", "http://evil.example", "evil@evil.call-5550100-now-or-lose-everything", "\"evil\"@e.com", "evil@@evil.com",
	} {
		n := usualNotice
		n.Address, n.Device, n.Language = evil, evil, evil
		got := (&Pages{}).NoticeLetter(n)
		n.Host = evil
		spoofed := (&Pages{}).NoticeLetter(n)
		for _, said := range []string{got.Subject, got.Text, got.HTML, spoofed.Subject, spoofed.Text, spoofed.HTML} {
			if strings.Contains(said, "evil") || strings.Contains(said, "5550100") || strings.Contains(said, "Bcc") {
				t.Errorf("%q is in %s", evil, said)
			}
		}
		if strings.Contains(spoofed.HTML, "href") || strings.Contains(spoofed.Text, "http") {
			t.Errorf("%q: a host that is none has a link: %s", evil, spoofed.Text)
		}
	}
}

func TestOnlyOnesOwnAddressIsShownWhole(t *testing.T) {
	for given, want := range map[string]string{
		"ada@example.com": "ada@example.com", "lovelace@example.org": "l•••@e•••.org", "a@b.co.uk": "a•••@b•••.uk", "l•••@e•••.org": "l•••@e•••.org",
		"": "•••", "ada": "•••", "ada@localhost": "•••", "<b>@example.org": "•••", "a@example.org\r\n": "•••", "a@b@example.org": "•••",
	} {
		if got := shownAddress(given, "ada@example.com"); got != want {
			t.Errorf("%q is shown as %q, want %q", given, got, want)
		}
	}
	if got := shownAddress("", ""); got != "•••" {
		t.Errorf("no address is shown as %q", got)
	}
}

func TestNoticesLinksLeadToItsHostOnly(t *testing.T) {
	for link, want := range map[string]bool{
		"https://app.example.com/.login/account": true, "https://APP.example.com/x": true,
		"https://evil.example/": false, "https://app.example.com:444/": false, "https://app.example.com@evil.example/": false,
		"javascript:alert(1)": false, "/.login/account": false, "//app.example.com/": false, "https://app.example.com/\r\nx": false, "": false,
	} {
		n := usualNotice
		n.Account, n.Revert = link, ""
		account := (&Pages{}).NoticeLetter(n)
		n.Account, n.Revert = "", link
		revert := (&Pages{}).NoticeLetter(n)
		for _, got := range []string{account.HTML, revert.HTML} {
			if strings.Contains(got, "<a ") != want {
				t.Errorf("%q: %s", link, got)
			}
		}
		for _, got := range []string{account.Text, revert.Text} {
			if strings.Contains(got, "://") != want || link != "" && strings.Contains(got, link) != want {
				t.Errorf("%q: %s", link, got)
			}
		}
	}
}

func TestNoticeLoadsNothing(t *testing.T) {
	root := parsed(t, (&Pages{}).NoticeLetter(usualNotice).HTML)
	for n := range root.Descendants() {
		if slices.Contains([]string{"img", "link", "script", "iframe", "object", "video", "svg", "form", "base"}, n.Data) {
			t.Errorf("a <%s>", n.Data)
		}
		for _, a := range n.Attr {
			loads := a.Key == "src" || a.Key == "background" || strings.Contains(a.Val, "url(")
			if loads || a.Key == "href" && a.Val != usualNotice.Account && a.Val != usualNotice.Revert {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
	}
}

func TestNoticeIsInThePersonsLanguage(t *testing.T) {
	for _, l := range spoken.languages {
		for kind := range noticeKinds {
			n := usualNotice
			n.Kind, n.Language = kind, l.Lang
			got := (&Pages{Title: "Acme"}).NoticeLetter(n)
			top := elements(parsed(t, got.HTML), "html")[0]
			if attr(top, "lang") != l.Lang || attr(top, "dir") != l.Dir || strings.ContainsAny(got.Text+got.Subject, "{}") || !strings.Contains(got.Subject, "app.example.com") {
				t.Errorf("%s in %s: %q, %s", kind, l.Lang, got.Subject, got.Text)
			}
		}
	}
}

func TestTitleCannotBeginAHeaderOfANotice(t *testing.T) {
	got := (&Pages{Title: "Acme\r\nBcc: x@example.com\x00<b>"}).NoticeLetter(usualNotice)
	if strings.ContainsAny(got.Subject, "\r\n\x00") || !strings.Contains(got.Subject, "Acme Bcc: x@example.com<b>") || len(elements(parsed(t, got.HTML), "b")) != 0 {
		t.Errorf("subject %q, %s", got.Subject, got.HTML)
	}
}

// TestNoticeInChromium draws the mails as clients do that honour their style.
func TestNoticeInChromium(t *testing.T) {
	b := openBrowser(t)
	pages := []drawn{
		noticed("notice-long", &Pages{Title: strings.Repeat("wonderfullylong", 8)}, usualNotice),
		noticed("notice-bare", &Pages{}, Notice{Host: "app.example.com"}),
		noticed("notice-rtl", &Pages{Title: plain.site, Language: "ar"}, usualNotice),
		noticed("notice-rtl-long", &Pages{Title: plain.site, Language: "ar", spoken: mirrored(t)}, usualNotice),
	}
	for kind := range noticeKinds {
		n := usualNotice
		n.Kind, n.Provider = kind, "Google"
		if !slices.Contains([]NoticeKind{NoticeAddressAdded, NoticeAddressRemoved, NoticePrimaryChanged}, kind) {
			n.Revert = ""
		}
		pages = append(pages, noticed("notice-"+string(kind), &Pages{Title: plain.site}, n))
	}
	site := serve(t, pages)
	for _, l := range looks {
		b.dress(t, l)
		for _, p := range pages {
			b.open(t, site+"/"+p.name)
			for _, fault := range append(see(t, b, chromedp.Evaluate[[]string](measureMail)), b.heard()...) {
				t.Errorf("%s in %s: %s", p.name, l.name, fault)
			}
			b.photograph(t, p.name, l)
		}
	}
}

func noticed(name string, p *Pages, n Notice) drawn {
	return drawn{name, 200, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(p.NoticeLetter(n).HTML))
	}}
}
