package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

// Browser is one tab of a real Chromium with an empty profile. All names
// below .test and .localhost lead to 127.0.0.1; any certificate is trusted.
//
// What a page writes to its console as an error fails the test, unless
// AllowConsole expects it.
type Browser struct {
	t       testing.TB
	ctx     context.Context
	console *console
}

// console are the errors of all tabs, and what is expected of them.
type console struct {
	mu      sync.Mutex
	errors  []string
	allowed []string
}

// NewBrowser starts a Chromium that ends with the test.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	return newBrowser(t, nil)
}

// NewBrowserBlocking is a NewBrowser that takes no cookies from this host, as
// a setting or an extension may say.
func NewBrowserBlocking(t testing.TB, host string) *Browser {
	t.Helper()
	const block = 2
	return newBrowser(t, map[string]any{"profile": map[string]any{"content_settings": map[string]any{
		"exceptions": map[string]any{"cookies": map[string]any{host + ",*": map[string]any{"setting": block}}},
	}}})
}

func newBrowser(t testing.TB, preferences map[string]any) *Browser {
	t.Helper()
	profile := profileDir(t)
	writePreferences(t, profile, preferences)
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), chromiumFlags(chromium(t), profile)...)
	ctx, cancel := chromedp.NewContext(alloc)
	b := &Browser{t: t, ctx: ctx, console: &console{}}
	t.Cleanup(func() {
		b.finish()
		_ = chromedp.Cancel(ctx) // closes Chromium and waits; the profile is removed next
		cancel()
		cancelAlloc()
	})
	b.open()
	return b
}

// Get types an address and waits until the page it leads to has loaded.
func (b *Browser) Get(address string) *Browser {
	b.t.Helper()
	b.run("opening "+address, chromedp.Navigate(address))
	return b
}

// See waits until the page shows text, in any case and spacing.
func (b *Browser) See(text string) *Browser {
	b.t.Helper()
	b.await("the page to show "+text, func() bool { return contains(b.text(), text) })
	return b
}

// DontSee fails the test if the page shows text now. It must show something: one
// that is giving way to the next shows nothing, which proves nothing.
func (b *Browser) DontSee(text string) *Browser {
	b.t.Helper()
	var page string
	b.await("a page without "+text, func() bool { page = b.text(); return strings.TrimSpace(page) != "" })
	if contains(page, text) {
		b.t.Fatalf("the page at %s shows %q", b.Address(), text)
	}
	return b
}

// At waits until the address bar shows this path with its query. A full
// address is compared as such.
func (b *Browser) At(address string) *Browser {
	b.t.Helper()
	b.await("the address to be "+address, func() bool {
		here := b.Address()
		if strings.HasPrefix(address, "/") {
			_, here, _ = strings.Cut(here, "://")
			_, path, _ := strings.Cut(here, "/")
			here = "/" + path
		}
		return here == address
	})
	return b
}

// Address is what the address bar shows.
func (b *Browser) Address() string {
	return try(b, chromedp.Location())
}

// Click clicks the first visible link or button with this text or label.
func (b *Browser) Click(text string) *Browser {
	b.t.Helper()
	xpath := fmt.Sprintf(`//*[self::a or self::button or self::summary or (self::input and @type="submit")]`+
		`[contains(normalize-space(.), %[1]q) or contains(@value, %[1]q) or contains(@aria-label, %[1]q)]`, text)
	b.run("clicking "+text, chromedp.Click(chromedp.Search(xpath), chromedp.NodeVisible))
	return b
}

// Submit types value into the field of that name and presses Enter.
func (b *Browser) Submit(field, value string) *Browser {
	b.t.Helper()
	selector := chromedp.CSS(fmt.Sprintf(`[name=%q]`, field))
	b.run("filling in "+field,
		chromedp.WaitVisible(selector),
		chromedp.Clear(selector),
		chromedp.SendKeys(selector, value+"\r"))
	return b
}

// SignIn says at the provider's page who it is.
func (b *Browser) SignIn(who Person) *Browser {
	b.t.Helper()
	return b.See("Who are you?").Submit("person", who.Email)
}

// Eval runs JavaScript in the page, waits for its promise, and returns its
// value as JSON.
func (b *Browser) Eval(script string) string {
	b.t.Helper()
	return string(run(b, "running a script", chromedp.Evaluate[[]byte](script, chromedp.EvalAwaitPromise)))
}

// Look gives the tab a screen of this many CSS pixels, and its visitor a liking
// for "light" or "dark".
func (b *Browser) Look(width, height int64, scheme string) *Browser {
	b.t.Helper()
	b.run("changing the look", chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
	return b
}

// Cookies are the browser's cookies for a host name, by name.
func (b *Browser) Cookies(host string) map[string]*http.Cookie {
	b.t.Helper()
	all, err := chromedp.CallBrowser(b.ctx, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		b.t.Fatalf("reading cookies: %v", err)
	}
	cookies := map[string]*http.Cookie{}
	for _, cookie := range all.Cookies {
		if strings.TrimPrefix(cookie.Domain, ".") == host {
			cookies[cookie.Name] = &http.Cookie{
				Name: cookie.Name, Value: cookie.Value, Domain: cookie.Domain, Path: cookie.Path,
				Secure: cookie.Secure, HttpOnly: cookie.HTTPOnly,
			}
		}
	}
	return cookies
}

// NewTab opens another tab of the same browser.
func (b *Browser) NewTab() *Browser {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	tab := &Browser{t: b.t, ctx: ctx, console: b.console}
	tab.open()
	return tab
}

// AllowConsole expects console errors that contain one of these texts.
func (b *Browser) AllowConsole(texts ...string) *Browser {
	b.console.mu.Lock()
	defer b.console.mu.Unlock()
	b.console.allowed = append(b.console.allowed, texts...)
	return b
}

// Screenshot keeps what the tab shows as name.png in the directory that
// E2E_ARTIFACTS names; without that variable it does nothing.
func (b *Browser) Screenshot(name string) *Browser {
	b.t.Helper()
	dir := os.Getenv("E2E_ARTIFACTS")
	if dir == "" {
		return b
	}
	png := run(b, "taking a screenshot", chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Errorf("keeping a screenshot: %v", err)
	}
	return b
}

// open starts the tab, and Chromium for the first one, and listens to its
// console.
func (b *Browser) open() {
	b.t.Helper()
	if err := chromedp.Listen(b.ctx, b.console.hear); err != nil {
		b.t.Fatalf("starting Chromium: %v", err)
	}
}

func (b *Browser) finish() {
	if b.t.Failed() {
		b.t.Logf("Chromium was at %s and showed:\n%.2000s", b.Address(), b.text())
		b.Screenshot(strings.ReplaceAll(b.t.Name(), "/", "-"))
	}
	for _, complaint := range b.console.unexpected() {
		b.t.Errorf("Chromium's console: %s", complaint)
	}
}

func (b *Browser) run(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	run(b, what, chromedp.Steps(steps...))
}

func run[T any](b *Browser, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%s, at %s: %v\nthe page shows:\n%.2000s", what, b.Address(), err, b.text())
	}
	return value
}

// try runs an action that fails while a page gives way to the next; then its
// value is the zero one.
func try[T any](b *Browser, action chromedp.Action[T]) T {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	value, _ := chromedp.Run(ctx, action)
	return value
}

func (b *Browser) text() string {
	return try(b, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
}

func (b *Browser) await(what string, done func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(Patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain for %s; at %s:\n%.2000s", what, b.Address(), b.text())
		}
		<-tick.C
	}
}

func (c *console) hear(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			c.add(e.Entry.Text + " " + e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		c.add((&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			c.add(spoken(e.Args))
		}
	}
}

func spoken(args []*runtime.RemoteObject) string {
	var words []string
	for _, arg := range args {
		words = append(words, string(arg.Value)+arg.Description)
	}
	return strings.Join(words, " ")
}

func (c *console) add(complaint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors = append(c.errors, complaint)
}

func (c *console) unexpected() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []string
next:
	for _, complaint := range c.errors {
		for _, text := range c.allowed {
			if strings.Contains(complaint, text) {
				continue next
			}
		}
		rest = append(rest, complaint)
	}
	return rest
}

func contains(page, text string) bool {
	fold := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
	return strings.Contains(fold(page), fold(text))
}

func chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Without(t, "chromium")
	return ""
}

func chromiumFlags(program, profile string) []chromedp.ExecAllocatorOption {
	return []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program),
		chromedp.UserDataDir(profile),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.WindowSize(1024, 768),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1, MAP *.localhost 127.0.0.1, MAP localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.WSURLReadTimeout(Patience),
	}
}

// profileDir is a directory for Chromium, which goes with the test. Processes of
// Chromium's write there a moment longer than the one that is waited for lives:
// then the directory is not empty while it is removed, which t.TempDir fails for.
func profileDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "caddy-login-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Eventually(t, Patience, "Chromium's profile to be removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

func writePreferences(t testing.TB, profile string, preferences map[string]any) {
	t.Helper()
	if preferences == nil {
		return
	}
	content, err := json.Marshal(preferences)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(profile, "Default")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Preferences"), content, 0o600); err != nil {
		t.Fatal(err)
	}
}
