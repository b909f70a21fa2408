package page

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// desk is a site that waits for a code. It tells what it was sent.
type desk struct {
	*httptest.Server
	posted chan string // path, and the form as its fields came
	polled chan string // the address asked
	say    chan string // what to answer the next poll; closed: "pending"
}

func openDesk(t *testing.T, e EnterCode) *desk {
	t.Helper()
	d := &desk{posted: make(chan string, 64), polled: make(chan string, 64), say: make(chan string, 64)}
	p := &Pages{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+p.base()+StylesheetPath, p.Stylesheet)
	mux.HandleFunc("GET "+p.base()+ScriptPath, p.Script)
	mux.HandleFunc("GET /.login/code", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "application/json" {
			d.answer(w, r)
			return
		}
		p.EnterCode(w, r, e)
	})
	mux.HandleFunc("GET /.login/link", func(w http.ResponseWriter, r *http.Request) {
		p.FollowLink(w, r, FollowLink{Token: "the token", Auto: r.FormValue("auto") != ""})
	})
	mux.HandleFunc("POST /.login/", func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != d.URL {
			t.Errorf("our own form comes with Origin %q", origin)
		}
		_ = r.ParseForm()
		d.posted <- r.URL.Path + "?" + r.PostForm.Encode()
		http.Redirect(w, r, "/end", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /end", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<!doctype html><link rel="icon" href="data:,"><p id="end">The end`))
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func (d *desk) answer(w http.ResponseWriter, r *http.Request) {
	d.polled <- r.URL.RequestURI()
	w.Header().Set("Content-Type", "application/json")
	select {
	case said := <-d.say:
		_, _ = w.Write([]byte(said))
	default:
		_, _ = w.Write([]byte(`{"status":"pending"}`))
	}
}

// sent is what was posted so far.
func (d *desk) sent() (all []string) {
	for {
		select {
		case one := <-d.posted:
			all = append(all, one)
		default:
			return all
		}
	}
}

// waits fails where nothing comes within a step.
func waits(t *testing.T, what string, c <-chan string) string {
	t.Helper()
	select {
	case said := <-c:
		return said
	case <-time.After(step):
		t.Fatalf("waited in vain for %s", what)
		return ""
	}
}

var waiting = EnterCode{Address: "ada@example.com", Digits: 6, Minutes: 10, Link: true, Again: "/.login/"}

// insert puts text into the code's field the way pasting and filling in do, as
// soon as the page has put the cursor there.
func insert(code string) chromedp.Action[chromedp.Void] {
	return atTheCode(`document.execCommand("insertText", false, "` + code + `");`)
}

// cursorIsThere waits until the page has put the cursor into the code's field:
// Chromium does so when it first draws, and that may be after the page is loaded.
var cursorIsThere = atTheCode("")

// atTheCode does something once the cursor is there.
func atTheCode(do string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](`new Promise(done => {
		const look = () => {
			if (document.activeElement.id !== "code") return requestAnimationFrame(look);
			done();
			`+do+`
		};
		look();
	})`, chromedp.EvalAwaitPromise)
}

// hurry makes the pages' timers run a hundred times as fast.
func (b *browser) hurry(t *testing.T) {
	t.Helper()
	b.before(t, `{ const slow = setTimeout; setTimeout = (what, when) => slow(what, when / 100); }`)
}

// before has a script run in each page before its own do.
func (b *browser) before(t *testing.T, script string) {
	t.Helper()
	b.do(t, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	}))
}

// aMinute lets one pass, in a hurry.
var aMinute = chromedp.Evaluate[chromedp.Void](`new Promise(done => setTimeout(done, 60000))`, chromedp.EvalAwaitPromise)

func TestPastedCodeIsSentOnce(t *testing.T) {
	b := openBrowser(t)
	for _, pasted := range []string{"048291", "048 291", "048-291", "Your code: 048291", "０４８２９１"} {
		d := openDesk(t, waiting)
		b.do(t, chromedp.Navigate(d.URL+"/.login/code"), insert(pasted), chromedp.WaitVisible(chromedp.CSS("#end")))
		if sent := d.sent(); len(sent) != 1 || sent[0] != "/.login/code?code=048291" {
			t.Errorf("%q: sent %q", pasted, sent)
		}
		if heard := b.heard(); len(heard) != 0 {
			t.Errorf("%q: Chromium says %q", pasted, heard)
		}
	}
}

// TestImpatienceSendsOnce: pasting, pressing Enter and clicking, all at once,
// would cost three attempts of five.
func TestImpatienceSendsOnce(t *testing.T) {
	b := openBrowser(t)
	d := openDesk(t, waiting)
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"), chromedp.Evaluate[chromedp.Void](`(() => {
		const field = document.getElementById("code"), buttons = [...document.querySelectorAll("button")];
		field.focus();
		document.execCommand("insertText", false, "048291");
		buttons[0].click();
		field.form.requestSubmit();
		buttons[1].click();
	})()`), chromedp.WaitVisible(chromedp.CSS("#end")))
	if sent := d.sent(); len(sent) != 1 || sent[0] != "/.login/code?code=048291" {
		t.Errorf("sent %q", sent)
	}
}

func TestTypedCodeWaitsForItsPerson(t *testing.T) {
	b := openBrowser(t)
	d := openDesk(t, waiting)
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"), cursorIsThere)
	b.do(t, chromedp.Evaluate[chromedp.Void](`submits = 0; document.addEventListener("submit", () => submits++)`))
	for _, key := range "048291" {
		b.do(t, chromedp.KeyEvent(string(key)))
	}
	b.sees(t, "code", `document.getElementById("code").value + " submitted " + submits`, "048291 submitted 0")
	if sent := d.sent(); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
	b.do(t, chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS("#end")))
	if sent := d.sent(); len(sent) != 1 || sent[0] != "/.login/code?code=048291" {
		t.Errorf("sent %q", sent)
	}
}

func TestHalfACodeIsNotSent(t *testing.T) {
	b := openBrowser(t)
	d := openDesk(t, waiting)
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"), insert("04829"), chromedp.KeyEvent("\r"))
	b.sees(t, "code", `String(document.getElementById("code").validity.patternMismatch)`, "true")
	if sent := d.sent(); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
}

func TestWaitingPageMovesOnByItself(t *testing.T) {
	b := openBrowser(t)
	b.hurry(t)
	d := openDesk(t, waiting)
	d.say <- `{"status":"pending"}`
	d.say <- `{"status":"done","to":"/end?a=1&b=2"}`
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"), chromedp.WaitVisible(chromedp.CSS("#end")))
	b.sees(t, "end", `location.pathname + location.search`, "/end?a=1&b=2")
	if a, c := waits(t, "a question", d.polled), waits(t, "another", d.polled); a != "/.login/code" || c != a {
		t.Errorf("asked %q, %q", a, c)
	}
	if heard := b.heard(); len(heard) != 0 {
		t.Errorf("Chromium says %q", heard)
	}
}

// TestWaitingPageGoesNowhereElse: who could answer for us must not lead away,
// nor may nonsense stop the waiting.
func TestWaitingPageGoesNowhereElse(t *testing.T) {
	b := openBrowser(t)
	b.hurry(t)
	d := openDesk(t, waiting)
	answers := []string{
		`{"status":"done","to":"https://evil.example/"}`, `{"status":"done","to":"//evil.example"}`, `{"status":"done","to":"/\\evil.example"}`,
		`{"status":"done","to":"javascript:alert(1)"}`, `{"status":"done"}`, `not JSON`, `{"status":"done","to":"/end"}`,
	}
	for _, said := range answers {
		d.say <- said
	}
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"))
	for range answers {
		waits(t, "a question", d.polled)
	}
	b.do(t, chromedp.WaitVisible(chromedp.CSS("#end")))
	b.sees(t, "end", `location.href`, d.URL+"/end")
}

// TestWaitingThatIsOverAsksThePageOnce: a page that is over each time it is
// asked for would reload for ever.
func TestWaitingThatIsOverAsksThePageOnce(t *testing.T) {
	b := openBrowser(t)
	b.hurry(t)
	d := openDesk(t, waiting)
	d.say <- `{"status":"over"}`
	d.say <- `{"status":"over"}`
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"))
	waits(t, "a question", d.polled)
	waits(t, "one by the page that it led to", d.polled)
	b.sees(t, "over", `location.pathname + location.search`, "/.login/code?over=1")
	b.do(t, aMinute)
	select {
	case again := <-d.polled:
		t.Errorf("asked %q again", again)
	default:
	}
}

// TestPageWithoutALinkAsksNothing, nor does one whose code is too old.
func TestPageWithoutALinkAsksNothing(t *testing.T) {
	b := openBrowser(t)
	b.hurry(t)
	for _, e := range []EnterCode{{Digits: 6, Minutes: 10}, {Digits: 6, Link: true}} {
		d := openDesk(t, e)
		b.do(t, chromedp.Navigate(d.URL+"/.login/code"), aMinute)
		select {
		case asked := <-d.polled:
			t.Errorf("%+v: asked %q", e, asked)
		default:
		}
	}
}

func TestResendCountsDown(t *testing.T) {
	b := openBrowser(t)
	e := waiting
	e.ResendIn = 2 * time.Second
	d := openDesk(t, e)
	// It is looked at as soon as the page's own script has run: by the time that
	// Chromium can be asked, two seconds may be over.
	b.before(t, `let atFirst;
		document.addEventListener("DOMContentLoaded", () => {
			const b = document.querySelector("[data-resend] button");
			if (b) atFirst = b.disabled + " " + b.textContent.replace(/\d/, "n") + " " + document.getElementById("resend-in").hidden;
		});`)
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"))
	b.sees(t, "at first", `atFirst`, "true Send another mail (n) true")
	b.do(t, chromedp.WaitEnabled(chromedp.CSS("[data-resend] button")), chromedp.Click(chromedp.CSS("[data-resend] button")), chromedp.WaitVisible(chromedp.CSS("#end")))
	if sent := d.sent(); len(sent) != 1 || sent[0] != "/.login/code?resend=1" {
		t.Errorf("sent %q", sent)
	}
}

func TestLinkGoesOnByItselfOnce(t *testing.T) {
	b := openBrowser(t)
	d := openDesk(t, waiting)
	b.do(t, chromedp.Navigate(d.URL+"/.login/link?auto=1"), chromedp.WaitVisible(chromedp.CSS("#end")))
	if sent := d.sent(); len(sent) != 1 || sent[0] != "/.login/link?token=the+token" {
		t.Errorf("sent %q", sent)
	}
	b.do(t, chromedp.Navigate(d.URL+"/.login/link"), chromedp.WaitVisible(chromedp.CSS("button")))
	if sent := d.sent(); len(sent) != 0 {
		t.Errorf("a link that should wait sent %q", sent)
	}
	if heard := b.heard(); len(heard) != 0 {
		t.Errorf("Chromium says %q", heard)
	}
}

// TestAllWorksWithoutScripts by hand.
func TestAllWorksWithoutScripts(t *testing.T) {
	b := openBrowser(t)
	e := waiting
	e.ResendIn = 30 * time.Second
	d := openDesk(t, e)
	b.do(t, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	for _, step := range []struct{ at, click, want string }{
		{"/.login/code", "[data-code] button", "/.login/code?code=048+291"},
		{"/.login/code", "[data-resend] button", "/.login/code?resend=1"},
		{"/.login/link?auto=1", "button", "/.login/link?token=the+token"},
	} {
		b.do(t, chromedp.Navigate(d.URL+step.at))
		if strings.Contains(step.want, "code=") {
			b.do(t, chromedp.SendKeys(chromedp.CSS("#code"), "048 291"))
		}
		b.do(t, chromedp.Click(chromedp.CSS(step.click)), chromedp.WaitVisible(chromedp.CSS("#end")))
		if sent := d.sent(); len(sent) != 1 || sent[0] != step.want {
			t.Errorf("%s: sent %q, want %q", step.at, sent, step.want)
		}
	}
}

// TestScreenReaderHearsFieldsAndFaults: every field has a name, and a wrong
// one says so.
func TestScreenReaderHearsFieldsAndFaults(t *testing.T) {
	b := openBrowser(t)
	site := serve(t, everyPage(&Pages{}, plain))
	b.do(t, command(accessibility.Enable, cdp.Empty{}))
	for page, want := range map[string][2]string{
		"choose-email":         {"Email address", ""},
		"choose-email-invalid": {"Email address", "That is not an email address. Check it for typing errors."},
		"enter-code":           {"Code", "The code is good for 10 minutes."},
		"enter-code-wrong":     {"Code", "That code is not right. You can try 3 more times."},
	} {
		b.do(t, chromedp.Navigate(site+"/"+page))
		tree := see(t, b, call(accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}))
		fields := map[string]string{}
		for _, node := range tree.Nodes {
			if node.Role != nil && string(node.Role.Value) == `"textbox"` {
				fields[said(node.Name)] = said(node.Description)
			}
		}
		if described, ok := fields[want[0]]; !ok || described != want[1] || len(fields) != 1 {
			t.Errorf("%s: a screen reader finds %v, want %q", page, fields, want)
		}
	}
}

// TestKeyboardReachesAllOfTheCodePage in the order that one reads it.
func TestKeyboardReachesAllOfTheCodePage(t *testing.T) {
	b := openBrowser(t)
	d := openDesk(t, waiting)
	b.do(t, chromedp.Navigate(d.URL+"/.login/code"), cursorIsThere)
	for _, want := range []string{"code", "Sign in", "Send another mail", "Use another address"} {
		b.sees(t, "code", `document.activeElement.id || document.activeElement.textContent`, want)
		b.do(t, chromedp.KeyEvent("\t"))
	}
}
