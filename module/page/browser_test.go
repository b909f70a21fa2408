package page

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// look is one way a visitor sees a page.
type look struct {
	name          string
	width, height int64
	scheme        string
	rtl, forced   bool
}

// 320 px is a 1280 px screen zoomed to 400 % (WCAG 1.4.10).
var looks = []look{
	{name: "phone-light", width: 390, height: 844, scheme: "light"},
	{name: "phone-dark", width: 390, height: 844, scheme: "dark"},
	{name: "desktop-light", width: 1280, height: 800, scheme: "light"},
	{name: "desktop-dark", width: 1280, height: 800, scheme: "dark"},
	{name: "zoomed", width: 320, height: 256, scheme: "light"},
	{name: "zoomed-dark", width: 320, height: 256, scheme: "dark"},
	{name: "phone-rtl", width: 390, height: 844, scheme: "light", rtl: true},
	{name: "desktop-forced", width: 1280, height: 800, scheme: "dark", forced: true},
}

// TestEveryPageInChromium draws every page in every look and measures it.
// With LOGIN_SHOTS=<dir> it writes the pictures there.
func TestEveryPageInChromium(t *testing.T) {
	b := openBrowser(t)
	pages := everyPage(&Pages{Title: plain.site}, plain)
	long := strings.Repeat("wonderfullylong", 12)
	for _, p := range everyPage(&Pages{Title: long}, texts{long, long, long + "@example.com", long, long, "/" + long, long}) {
		if !strings.HasPrefix(p.name, "trouble-") || p.name == "trouble-not_allowed" {
			pages = append(pages, drawn{"long-" + p.name, p.status, p.write})
		}
	}
	mirror := everyPage(&Pages{Title: plain.site, Language: "ar", spoken: mirrored(t)}, plain)
	for i := range mirror {
		mirror[i].name = "rtl-" + mirror[i].name
	}
	site := serve(t, append(slices.Clone(pages), mirror...))
	for _, l := range looks {
		t.Run(l.name, func(t *testing.T) {
			b.dress(t, l)
			shown := pages
			if l.rtl {
				shown = mirror
			}
			for _, p := range shown {
				// Long words change the layout, not the colours.
				if l.scheme == "light" || !strings.HasPrefix(p.name, "long-") {
					b.visit(t, site, p, l)
				}
			}
		})
	}
}

// serve answers /<name of a page> and the stylesheet.
func serve(t *testing.T, pages []drawn) string {
	t.Helper()
	mux := http.NewServeMux()
	p := &Pages{}
	mux.HandleFunc(p.base()+StylesheetPath, p.Stylesheet)
	mux.HandleFunc(p.base()+ScriptPath, p.Script)
	mux.HandleFunc("/nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, page := range pages {
		mux.HandleFunc("/"+strings.TrimPrefix(page.name, "/"), page.write)
	}
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	return site.URL
}

// browser is a Chromium and what it complained about.
type browser struct {
	ctx        context.Context
	mu         sync.Mutex
	complaints []string
}

// openBrowser skips without Chromium, but not where CI promises one.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	path := findChromium()
	if path == "" && os.Getenv("CI") == "true" {
		t.Fatal("no Chromium in CI")
	} else if path == "" {
		t.Skip("no Chromium here")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	b := &browser{ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	b.do(t, command(log.Enable, cdp.Empty{}))
	return b
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// listen collects what the console says: refused content, scripts' errors.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.complaints = append(b.complaints, e.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text)
	}
}

// heard returns the complaints since it was last asked. That a page has a 4xx
// or 5xx status is logged, too, and meant.
func (b *browser) heard() (real []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		if !strings.Contains(c, "the server responded with a status of") {
			real = append(real, c)
		}
	}
	b.complaints = nil
	return real
}

// step is longer than any step takes on a busy machine.
const step = 30 * time.Second

func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, step)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("driving Chromium: %v", err)
	}
}

// see returns what a sees.
func see[T any](t *testing.T, b *browser, a chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, step)
	defer cancel()
	got, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatalf("asking Chromium: %v", err)
	}
	return got
}

func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, c, params)
		return err
	})
}

// call is a command that answers.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, tab *chromedp.Target) (R, error) { return cdp.Call(ctx, tab, c, params) }
}

func (b *browser) dress(t *testing.T, l look) {
	t.Helper()
	forced := map[bool]string{true: "active", false: "none"}[l.forced]
	b.do(t,
		chromedp.EmulateViewport(l.width, l.height),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: l.scheme}, {Name: "forced-colors", Value: forced},
		}}))
}

// open goes to a page. Where the one before moves on by itself at that very
// moment, Chromium gives up both, and is asked again.
func (b *browser) open(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, step)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.Navigate(address))
	if err != nil && strings.Contains(err.Error(), "net::ERR_ABORTED") {
		err = chromedp.Do(ctx, chromedp.Navigate(address))
	}
	if err != nil {
		t.Fatalf("opening %s: %v", address, err)
	}
}

// visit draws one page and asks it what a visitor would mind.
func (b *browser) visit(t *testing.T, site string, p drawn, l look) {
	t.Helper()
	b.open(t, site+"/"+p.name)
	faults := see(t, b, chromedp.Evaluate[[]string](measure))
	if want := map[string]string{"light": "rgb(238, 240, 245)", "dark": "rgb(12, 14, 18)"}[l.scheme]; !l.forced && l.width > 544 {
		b.sees(t, p.name, `getComputedStyle(document.body).backgroundColor`, want)
	}
	for _, fault := range append(faults, b.heard()...) {
		t.Errorf("%s in %s: %s", p.name, l.name, fault)
	}
	b.photograph(t, p.name, l)
}

func (b *browser) sees(t *testing.T, where, expression, want string) {
	t.Helper()
	if got := see(t, b, chromedp.Evaluate[string](expression)); got != want {
		t.Errorf("%s: %s is %q, want %q", where, expression, got, want)
	}
}

func (b *browser) photograph(t *testing.T, name string, l look) {
	t.Helper()
	dir := os.Getenv("LOGIN_SHOTS")
	if dir == "" {
		return
	}
	png := see(t, b, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.png", name, l.name)), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// measure lists what is wrong with the page as drawn: no stylesheet, sideways
// scrolling, anything that sticks out, targets under 44 px, text whose real
// colours are under 4.5:1. It runs through the debugger, which the
// Content-Security-Policy does not bind.
const measure = `(() => {
	const faults = [], root = document.documentElement;
	if (document.styleSheets.length < 1 || getComputedStyle(document.querySelector("main")).boxSizing !== "border-box") faults.push("the stylesheet is not applied");
	if (root.scrollWidth > root.clientWidth) faults.push("scrolls sideways: " + root.scrollWidth + " in " + root.clientWidth);
	for (const e of document.querySelectorAll("main *")) {
		const r = e.getBoundingClientRect(), name = e.tagName + "." + e.getAttribute("class");
		if (r.left < -0.5 || r.right > root.clientWidth + 0.5) faults.push(name + " sticks out: " + r.left + " to " + r.right);
		if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && !e.closest("svg") && e.tagName !== "INPUT") faults.push(name + " overflows itself");
	}
	for (const e of document.querySelectorAll("a, button, input:not([type=hidden])")) {
		const r = e.getBoundingClientRect();
		if (r.height < 44 || r.width < 44) faults.push("target of " + r.width + " by " + r.height + ": " + e.textContent.trim());
	}
	const rgba = c => (c.match(/[\d.]+/g) || []).map(Number);
	const luminance = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		if (!walk.currentNode.data.trim()) continue;
		const e = walk.currentNode.parentElement, a = luminance(rgba(getComputedStyle(e).color)), b = luminance(behind(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) faults.push("contrast of " + ratio.toFixed(2) + ": " + walk.currentNode.data.trim());
	}
	return faults;
})()`

// drawnWay is a way to sign in as Chromium computed it. Lengths are px; Mark is
// the whole picture, Drawn only what is filled in it.
type drawnWay struct {
	Style, Text, Font                    string
	Fill, Edge, EdgeStyle, Ink, MarkInk  string
	MarkColours                          []string
	Weight, Size, Line, Opacity          float64
	Width, Height, EdgeWidth, Radius     float64
	MarkWidth, MarkHeight                float64
	DrawnWidth, DrawnHeight, DrawnMiddle float64
	BeforeMark, AfterMark, AfterText     float64
	ToNext                               float64
}

// ways measures every button of the sign-in page, in reading order from left
// to right.
const ways = `[...document.querySelectorAll("a.way")].map((a, i, all) => {
	const px = parseFloat, css = getComputedStyle(a), box = a.getBoundingClientRect();
	const mark = a.querySelector("svg, .monogram"), picture = mark.getBoundingClientRect();
	const parts = [...mark.querySelectorAll("path, circle, rect")], drawn = parts.map(p => p.getBoundingClientRect());
	const top = Math.min(...drawn.map(d => d.top)), bottom = Math.max(...drawn.map(d => d.bottom));
	const label = a.querySelector(".label"), words = document.createRange();
	words.selectNodeContents(label);
	const text = words.getBoundingClientRect(), next = all[i + 1];
	return {
		Style: a.className.replace("button way ", ""), Text: label.textContent, Font: css.fontFamily,
		Fill: css.backgroundColor, Edge: css.borderColor, EdgeStyle: css.borderStyle, Ink: getComputedStyle(label).color, MarkInk: getComputedStyle(mark).color,
		MarkColours: parts.map(p => p.getAttribute("stroke") || p.getAttribute("fill") || ""),
		Weight: px(css.fontWeight), Size: px(css.fontSize), Line: px(css.lineHeight), Opacity: px(css.opacity),
		Width: box.width, Height: box.height, EdgeWidth: px(css.borderWidth), Radius: px(css.borderRadius),
		MarkWidth: picture.width, MarkHeight: picture.height,
		DrawnWidth: parts.length ? Math.max(...drawn.map(d => d.right)) - Math.min(...drawn.map(d => d.left)) : 0,
		DrawnHeight: parts.length ? bottom - top : 0, DrawnMiddle: parts.length ? (top + bottom) / 2 - box.top : 0,
		BeforeMark: picture.left - box.left - px(css.borderWidth), AfterMark: text.left - picture.right, AfterText: box.right - text.right,
		ToNext: next ? next.getBoundingClientRect().top - box.bottom : 99,
	};
})`

// eachWay draws the sign-in page in both schemes, wide and at 320 px.
func eachWay(t *testing.T, check func(t *testing.T, all []drawnWay, w drawnWay)) {
	t.Helper()
	b := openBrowser(t)
	site := serve(t, everyPage(&Pages{}, plain))
	for _, l := range looks {
		if l.rtl || l.forced {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			b.dress(t, l)
			b.do(t, chromedp.Navigate(site+"/choose"))
			all := see(t, b, chromedp.Evaluate[[]drawnWay](ways))
			if len(all) != len(everyButton(plain)) {
				t.Fatalf("%d buttons", len(all))
			}
			for _, w := range all {
				check(t, all, w)
			}
		})
	}
}

const (
	white = "rgb(255, 255, 255)"
	black = "rgb(0, 0, 0)"
)

// near reports whether a length is what it should be, but for rounding.
func near(got, want, by float64) bool { return math.Abs(got-want) <= by }

// TestGoogleButtonFollowsItsBrand holds what Google says of a custom button:
// https://developers.google.com/identity/branding-guidelines, its light theme.
func TestGoogleButtonFollowsItsBrand(t *testing.T) {
	eachWay(t, func(t *testing.T, _ []drawnWay, w drawnWay) {
		if w.Style != "google" {
			return
		}
		if w.Fill != white || w.Edge != "rgb(116, 119, 117)" || w.EdgeStyle != "solid" || w.EdgeWidth != 1 || w.Ink != "rgb(31, 31, 31)" {
			t.Errorf("fill %s, stroke %s %s %v px, text %s; want #ffffff, #747775 solid 1, #1f1f1f", w.Fill, w.Edge, w.EdgeStyle, w.EdgeWidth, w.Ink)
		}
		if w.Weight != 500 || !strings.HasPrefix(w.Font, `"Google Sans"`) || !near(w.Line/w.Size, 20.0/14, 0.01) || w.Size < 14 {
			t.Errorf("font %s %v, %v/%v; want Google Sans 500, 14/20 or scaled up", w.Font, w.Weight, w.Size, w.Line)
		}
		if !near(w.BeforeMark, 12, 0.1) || w.AfterMark < 10 || w.AfterText < 12 {
			t.Errorf("%v before the logo, %v after it, %v after the text; want 12, 10, 12 or more", w.BeforeMark, w.AfterMark, w.AfterText)
		}
		if !near(w.MarkWidth, 20, 0.1) || !near(w.MarkHeight, 20, 0.1) {
			t.Errorf("logo %v by %v, want 20 by 20", w.MarkWidth, w.MarkHeight)
		}
		for _, colour := range []string{"#fc413d", "#fec700", "#0ebc5f", "#3186ff"} {
			if !slices.Contains(w.MarkColours, colour) {
				t.Errorf("no %s in the logo: %v", colour, w.MarkColours)
			}
		}
		if w.Text != "Sign in with Google" || w.Opacity != 1 {
			t.Errorf("%q, opacity %v", w.Text, w.Opacity)
		}
	})
}

// TestAppleButtonFollowsItsBrand holds what Apple says of a custom button:
// https://developer.apple.com/design/human-interface-guidelines/sign-in-with-apple.
func TestAppleButtonFollowsItsBrand(t *testing.T) {
	eachWay(t, func(t *testing.T, _ []drawnWay, w drawnWay) {
		if w.Style != "apple" {
			return
		}
		if w.Fill != white || w.Ink != black || w.MarkInk != black || w.Opacity != 1 {
			t.Errorf("fill %s, title %s, logo %s; want white, black, black", w.Fill, w.Ink, w.MarkInk)
		}
		if !near(w.Size/w.Height, 0.43, 0.01) {
			t.Errorf("title of %v in %v: %.3f, want 0.43", w.Size, w.Height, w.Size/w.Height)
		}
		if !near(w.DrawnHeight/w.Height, 19.0/44, 0.01) || !near(w.DrawnMiddle/w.Height, 20.0/44, 0.02) || !near(w.DrawnWidth/w.DrawnHeight, 15.46/19, 0.03) {
			t.Errorf("logo %v by %v, its middle at %v of %v", w.DrawnWidth, w.DrawnHeight, w.DrawnMiddle, w.Height)
		}
		if w.Width < 140 || w.Height < 30 || w.AfterText < 0.08*w.Width || w.ToNext < w.Height/10 {
			t.Errorf("%v by %v, %v free after the title, %v below", w.Width, w.Height, w.AfterText, w.ToNext)
		}
		if w.Text != "Sign in with Apple" {
			t.Errorf("says %q", w.Text)
		}
	})
}

// TestNoWayOutshinesAnother: Google wants to be as prominent as any, Apple no
// smaller than any. So do we all.
func TestNoWayOutshinesAnother(t *testing.T) {
	eachWay(t, func(t *testing.T, all []drawnWay, w drawnWay) {
		first := all[0]
		same := w.Fill == first.Fill && w.Edge == first.Edge && w.EdgeWidth == first.EdgeWidth && w.Opacity == first.Opacity &&
			near(w.Width, first.Width, 0.1) && near(w.Height, first.Height, 0.1) &&
			w.Size == first.Size && w.Weight == first.Weight && w.Radius == first.Radius
		if !same {
			t.Errorf("%s differs from %s:\n%+v\n%+v", w.Style, first.Style, w, first)
		}
		if w.MarkWidth < 20 || w.MarkWidth > 22.5 || w.MarkHeight != w.MarkWidth || w.Style == "spotify" && w.MarkWidth < 21 {
			t.Errorf("%s: icon of %v by %v", w.Style, w.MarkWidth, w.MarkHeight)
		}
	})
}

// TestLastUsedIsToldBesideTheButton: to the eye outside of the button, which
// no brand lets us alter, and clear of it by a tenth of its height; to a screen
// reader as the button's description.
func TestLastUsedIsToldBesideTheButton(t *testing.T) {
	b := openBrowser(t)
	site := serve(t, everyPage(&Pages{}, plain))
	for _, l := range looks {
		b.dress(t, l)
		b.do(t, chromedp.Navigate(site+"/choose-last-used"))
		if l.rtl {
			b.do(t, chromedp.Evaluate[chromedp.Void](`document.documentElement.dir = "rtl"`))
		}
		for _, fault := range see(t, b, chromedp.Evaluate[[]string](besideTheButton)) {
			t.Errorf("%s: %s", l.name, fault)
		}
	}
	b.do(t, command(accessibility.Enable, cdp.Empty{}))
	tree := see(t, b, call(accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}))
	described := map[string]string{}
	for _, node := range tree.Nodes {
		if node.Role != nil && string(node.Role.Value) == `"link"` {
			described[said(node.Name)] = said(node.Description)
		}
	}
	for name, description := range described {
		if want := map[string]string{"Sign in with Apple": "Last used"}[name]; description != want {
			t.Errorf("%q is described as %q, want %q", name, description, want)
		}
	}
	if len(described) != len(everyButton(plain)) {
		t.Errorf("a screen reader finds %v", described)
	}
}

func said(v *accessibility.Value) (text string) {
	if v != nil {
		_ = json.Unmarshal(v.Value, &text)
	}
	return text
}

// besideTheButton lists what is wrong with the mark of the last way.
const besideTheButton = `(() => {
	const marks = [...document.querySelectorAll(".last")], faults = [];
	if (marks.length !== 1) return ["there are " + marks.length + " marks"];
	const mark = marks[0].getBoundingClientRect(), own = marks[0].parentElement.querySelector("a");
	if (getComputedStyle(marks[0]).visibility !== "visible" || mark.height < 16 || mark.width < 40) faults.push("cannot be seen");
	for (const a of document.querySelectorAll("a.way")) {
		const box = a.getBoundingClientRect(), apart = Math.max(box.top - mark.bottom, mark.top - box.bottom);
		if (apart < box.height / 10) faults.push("only " + apart + " from " + a.textContent);
		if (a !== own && apart <= own.getBoundingClientRect().top - mark.bottom) faults.push("as near to " + a.textContent);
	}
	return faults;
})()`

// TestKeyboardFocusCanBeSeen walks the sign-in page with the Tab key.
func TestKeyboardFocusCanBeSeen(t *testing.T) {
	b := openBrowser(t)
	site := serve(t, everyPage(&Pages{}, plain))
	b.do(t, chromedp.Navigate(site+"/choose"), chromedp.KeyEvent("\t"))
	b.sees(t, "choose", `document.activeElement.textContent.trim()`, "Sign in with Google")
	b.sees(t, "choose", `getComputedStyle(document.activeElement).outlineWidth`, "3px")
	b.do(t, chromedp.KeyEvent("\t"))
	b.sees(t, "choose", `document.activeElement.textContent.trim()`, "Sign in with Apple")
	b.photograph(t, "focus", look{name: "desktop"})
}

// TestFormLeadsToAnotherHostOnlyByBounce shows why Bounce exists: Chromium
// holds the redirects after a form against form-action, too.
func TestFormLeadsToAnotherHostOnlyByBounce(t *testing.T) {
	b := openBrowser(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<!doctype html><p id="elsewhere">Elsewhere`))
	}))
	t.Cleanup(elsewhere.Close)
	p := &Pages{}
	mux := http.NewServeMux()
	mux.HandleFunc(p.base()+StylesheetPath, p.Stylesheet)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		p.AskSignOut(w, r, AskSignOut{Return: r.FormValue("return")})
	})
	mux.HandleFunc("POST /.login/logout", func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "http://"+r.Host {
			t.Errorf("our own form comes with Origin %q", origin)
		}
		if r.FormValue("return") == "redirect" {
			http.Redirect(w, r, elsewhere.URL, http.StatusSeeOther)
			return
		}
		p.Bounce(w, r, elsewhere.URL+"/?a=1&b=2")
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	b.do(t, chromedp.Navigate(site.URL+"/?return=redirect"))
	if refused := see(t, b, chromedp.Evaluate[string](submit, chromedp.EvalAwaitPromise)); refused != "form-action" {
		t.Errorf("a redirect was held against %q, want form-action", refused)
	}
	b.heard()
	b.do(t, chromedp.Navigate(site.URL), chromedp.Click(chromedp.CSS("button")), chromedp.WaitVisible(chromedp.CSS("#elsewhere")))
	b.sees(t, "bounce", `location.href`, elsewhere.URL+"/?a=1&b=2")
	b.sees(t, "bounce", `document.referrer`, site.URL+"/")
	if heard := b.heard(); len(heard) != 0 {
		t.Errorf("Chromium says %q", heard)
	}
}

// submit sends the form and names the directive it was refused for.
const submit = `new Promise(done => {
	document.addEventListener("securitypolicyviolation", e => done(e.effectiveDirective));
	document.querySelector("button").click();
})`

// TestBounceBringsLaxCookiesBack plays a provider with form_post: its POST
// comes without our cookies, the GET after the bounce with them.
func TestBounceBringsLaxCookiesBack(t *testing.T) {
	b := openBrowser(t)
	p := &Pages{}
	mux := http.NewServeMux()
	mux.HandleFunc(p.base()+StylesheetPath, p.Stylesheet)
	mux.HandleFunc("GET /begin", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "pending", Value: "1", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	})
	mux.HandleFunc("POST /callback", func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie("pending"); err == nil {
			t.Error("the POST already has the cookie: this is no cross-site POST")
		}
		p.Bounce(w, r, "/finish?handle=a%2Fb&x=1")
	})
	mux.HandleFunc("GET /finish", func(w http.ResponseWriter, r *http.Request) {
		_, err := r.Cookie("pending")
		fmt.Fprintf(w, `<!doctype html><p id="end">%s %t`, r.FormValue("handle"), err == nil)
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<!doctype html><form method="post" action="%s/callback"><button>Allow</button></form>`, site.URL)
	}))
	t.Cleanup(provider.Close)
	b.do(t, chromedp.Navigate(site.URL+"/begin"),
		chromedp.Navigate(strings.Replace(provider.URL, "127.0.0.1", "localhost", 1)),
		chromedp.Click(chromedp.CSS("button")), chromedp.WaitVisible(chromedp.CSS("#end")))
	b.sees(t, "finish", `document.querySelector("#end").textContent`, "a/b true")
}

// TestBrowserHearsRefusals keeps the silence in the tests above worth
// something: a page that breaks our policy, and one that is too wide, are
// noticed.
func TestBrowserHearsRefusals(t *testing.T) {
	b := openBrowser(t)
	bad := drawn{"bad", 200, func(w http.ResponseWriter, _ *http.Request) {
		protect(w.Header())
		_, _ = w.Write([]byte(`<!doctype html><main><style>p{}</style><a href="/">x</a><span>` + strings.Repeat("x", 900) + `</span></main>`))
	}}
	site := serve(t, []drawn{bad})
	b.dress(t, looks[0])
	b.do(t, chromedp.Navigate(site+"/bad"))
	faults := strings.Join(append(see(t, b, chromedp.Evaluate[[]string](measure)), b.heard()...), "\n")
	for _, want := range []string{"stylesheet", "scrolls sideways", "sticks out", "target of", "Content Security Policy"} {
		if !strings.Contains(faults, want) {
			t.Errorf("nothing about %q in:\n%s", want, faults)
		}
	}
}
