package page

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestEveryLanguageSaysEverything that English says, with the same
// placeholders, in each plural form it has, and nothing else.
func TestEveryLanguageSaysEverything(t *testing.T) {
	english := spoken.languages[0]
	for _, l := range append(slices.Clone(spoken.languages), mirrored(t).languages[1]) {
		for _, fault := range faults(english, l) {
			t.Errorf("%s: %s", l.Lang, fault)
		}
	}
}

// TestFaultsOfALanguageAreFound keeps the test above worth something.
func TestFaultsOfALanguageAreFound(t *testing.T) {
	english := spoken.languages[0]
	for want, spoil := range map[string]func(map[string]string){
		"stay: missing":                                     func(w map[string]string) { delete(w, "stay") },
		"enter_code.left.many: missing":                     func(w map[string]string) { delete(w, "enter_code.left.many") },
		"hello: nothing asks for it":                        func(w map[string]string) { w["hello"] = "Hello" },
		"enter_code.left.several: nothing asks for it":      func(w map[string]string) { w["enter_code.left.several"] = "Some" },
		"sign_in_with: has [], English [{provider}]":        func(w map[string]string) { w["sign_in_with"] = "Sign in" },
		"stay: has [{name}], English []":                    func(w map[string]string) { w["stay"] = "Stay {name}" },
		"enter_code.left.other: has [], English [{n}]":      func(w map[string]string) { w["enter_code.left.other"] = "Some" },
		"stay: is empty, or has spaces around it":           func(w map[string]string) { w["stay"] = " " },
		"months: 11 of them":                                func(w map[string]string) { w["months"] = strings.Repeat("m|", 10) + "m" },
		"time: \"Jan 2\" has words, or lacks a part":        func(w map[string]string) { w["time"] = "Jan 2" },
		"time: \"02.01. 15:04\" has words, or lacks a part": func(w map[string]string) { w["time"] = "02.01. 15:04" },
	} {
		bad := mirrored(t).languages[1]
		bad.Words = maps.Clone(bad.Words)
		spoil(bad.Words)
		if got := faults(english, bad); !slices.Contains(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// faults are where a language does not say what English says.
func faults(english, l language) (found []string) {
	want := map[string]string{} // the name in l, and the English words
	for name, words := range english.Words {
		family, form, _ := cutLast(name, ".")
		if _, plural := english.Words[family+".other"]; !plural || form != "one" && form != "other" {
			want[name] = words
			continue
		}
		for n := range 200 {
			want[family+"."+l.plural(n)] = english.Words[family+".other"]
		}
	}
	for name, words := range want {
		said, ok := l.Words[name]
		switch a, b := placeholders(name, said), placeholders(name, words); {
		case !ok:
			found = append(found, name+": missing")
		case strings.TrimSpace(said) != said || said == "":
			found = append(found, name+": is empty, or has spaces around it")
		case !slices.Equal(a, b) && name != "time":
			found = append(found, fmt.Sprintf("%s: has %v, English %v", name, a, b))
		}
	}
	for name := range l.Words {
		if _, ok := want[name]; !ok {
			found = append(found, name+": nothing asks for it")
		}
	}
	return append(found, timeFaults(l)...)
}

// placeholders of words. One thing, or two, or none, need no number.
func placeholders(name, words string) []string {
	all := slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(words, -1))))
	if _, form, _ := cutLast(name, "."); slices.Contains([]string{"zero", "one", "two"}, form) {
		all = slices.DeleteFunc(all, func(p string) bool { return p == "{n}" })
	}
	return slices.Clip(append([]string{}, all...))
}

func timeFaults(l language) (found []string) {
	if n := len(strings.Split(l.Words["months"], "|")); n != 12 {
		found = append(found, fmt.Sprintf("months: %d of them", n))
	}
	layout := l.Words["time"]
	whole := strings.Contains(layout, "2006") && strings.Contains(layout, "15:04") && strings.Contains(layout, "{zone}")
	if !whole || regexp.MustCompile(`Jan|Mon|MST|PM|pm|Z07`).MatchString(layout) {
		found = append(found, fmt.Sprintf("time: %q has words, or lacks a part", layout))
	}
	return found
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// mirrored is a shelf of English, German and an Arabic that is none: English
// words, longer by half, between Arabic ones, with all of Arabic's plurals.
func mirrored(t *testing.T) *shelf {
	t.Helper()
	words := map[string]string{}
	for name, said := range spoken.languages[0].Words {
		family, _, _ := cutLast(name, ".")
		other, plural := spoken.languages[0].Words[family+".other"]
		switch {
		case name == "time" || name == "months":
			words[name] = said
		case plural:
			for _, form := range pluralForms {
				words[family+"."+form] = "تجربة " + other + " كلمات أخرى"
			}
		default:
			words[name] = "تجربة " + said + " كلمات أخرى"
		}
	}
	s, err := readShelf(fstest.MapFS{
		"words/ar.json": wordFile(t, "ar", "rtl", words),
		"words/de.json": wordFile(t, "de", "ltr", spoken.languages[0].Words),
		"words/en.json": wordFile(t, "en", "ltr", spoken.languages[0].Words),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wordFile(t *testing.T, tag, direction string, words map[string]string) *fstest.MapFile {
	t.Helper()
	data, err := json.Marshal(map[string]any{"language": tag, "direction": direction, "words": words})
	if err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: data}
}

func TestEveryPageInEveryLanguage(t *testing.T) {
	everywhere := mirrored(t)
	for _, s := range []*shelf{spoken, everywhere} {
		for _, l := range s.languages {
			for _, page := range everyPage(&Pages{Title: plain.site, Language: l.Lang, spoken: s}, plain) {
				got := ask("GET", page.write)
				root := parsed(t, got.Body.String())
				top := elements(root, "html")[0]
				if got.Code != page.status || attr(top, "lang") != l.Lang || attr(top, "dir") != l.Dir || got.Header().Get("Content-Language") != l.Lang {
					t.Errorf("%s in %s: %d, lang %q, dir %q", page.name, l.Lang, got.Code, attr(top, "lang"), attr(top, "dir"))
				}
				if err := balanced(got.Body.String()); err != "" || strings.ContainsAny(text(root), "{}") {
					t.Errorf("%s in %s: %s %q", page.name, l.Lang, err, text(root))
				}
			}
		}
	}
}

func TestLanguageIsTheBrowsersUnlessSet(t *testing.T) {
	s := mirrored(t)
	for _, c := range []struct{ set, wish, want, vary string }{
		{"", "", "en", "Accept-Language"},
		{"", "ar", "ar", "Accept-Language"},
		{"", "ar-EG,ar;q=0.9,en;q=0.8", "ar", "Accept-Language"},
		{"", "de-CH,fr;q=0.9", "de", "Accept-Language"},
		{"", "gsw,de;q=0.1", "de", "Accept-Language"},
		{"", "fr-FR, en;q=0.5, ar;q=0.7", "ar", "Accept-Language"},
		{"", "tlh", "en", "Accept-Language"},
		{"", "*", "en", "Accept-Language"},
		{"", "ar;q=nonsense", "en", "Accept-Language"},
		{"", "<script>", "en", "Accept-Language"},
		{"", strings.Repeat("ar,", 400), "en", "Accept-Language"},
		{"", strings.Repeat("-", 500), "en", "Accept-Language"},
		{"de", "ar", "de", ""},
		{"tlh", "ar", "en", ""},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", c.wish)
		(&Pages{Language: c.set, spoken: s}).Choose(w, r, Choose{})
		if got := w.Header(); got.Get("Content-Language") != c.want || got.Get("Vary") != c.vary {
			t.Errorf("set %q, wish %.40q: %q, Vary %q; want %q, %q", c.set, c.wish, got.Get("Content-Language"), got.Get("Vary"), c.want, c.vary)
		}
	}
}

func TestCallersVaryStays(t *testing.T) {
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Cookie")
		(&Pages{}).Choose(w, r, Choose{})
	})
	if vary := strings.Join(got.Header().Values("Vary"), ", "); vary != "Cookie, Accept-Language" {
		t.Errorf("Vary: %s", vary)
	}
}

func TestLanguagesAreRefusedWithTheCure(t *testing.T) {
	for _, good := range []string{"en", "en-GB", "EN-us"} {
		if _, err := New(Branding{Language: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"tlh", "not a tag", "e", strings.Repeat("a", 99)} {
		_, err := New(Branding{Language: bad})
		if err == nil || !strings.Contains(err.Error(), "choose one of en") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestDamagedLanguageFilesAreRefused(t *testing.T) {
	for want, files := range map[string]fstest.MapFS{
		"no words/en.json":            {"words/de.json": wordFile(t, "de", "ltr", nil)},
		`direction "up"`:              {"words/en.json": wordFile(t, "en", "up", nil)},
		`language "english please"`:   {"words/en.json": wordFile(t, "english please", "ltr", nil)},
		`unknown field "wrods"`:       {"words/en.json": &fstest.MapFile{Data: []byte(`{"language": "en", "direction": "ltr", "wrods": {}}`)}},
		"reading words/xx.json: deco": {"words/en.json": wordFile(t, "en", "ltr", nil), "words/xx.json": &fstest.MapFile{Data: []byte(`{`)}},
	} {
		if _, err := readShelf(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPluralsAreTheLanguagesOwn(t *testing.T) {
	arabic := mirrored(t).languages[1]
	for n, want := range map[int]string{0: "zero", 1: "one", 2: "two", 3: "few", 11: "many", 100: "other"} {
		if got := arabic.plural(n); got != want {
			t.Errorf("%d in Arabic is %s, want %s", n, got, want)
		}
	}
	v := (&Pages{}).view(httptest.NewRequest("GET", "/", nil), "choose")
	for n, want := range map[int]string{1: "You can try one more time.", 3: "You can try 3 more times."} {
		if got, err := v.Count("enter_code.left", n); got != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestTimesNameTheirZone(t *testing.T) {
	for offset, want := range map[int]string{
		0: "(UTC)", 3600: "(UTC+1)", -5 * 3600: "(UTC−5)", 5*3600 + 1800: "(UTC+5:30)", -3*3600 - 1800: "(UTC−3:30)",
	} {
		at := time.Date(2026, time.November, 21, 6, 31, 0, 0, time.FixedZone("CST", offset))
		if got := spoken.languages[0].moment(at); got != "21 November 2026, 06:31 "+want {
			t.Errorf("%q, want %s", got, want)
		}
	}
}

// TestNamesKeepTheirDirection: a name must neither tear the sentence around it
// apart nor turn it round.
func TestNamesKeepTheirDirection(t *testing.T) {
	s := mirrored(t)
	for _, c := range []struct{ lang, provider, want string }{
		{"en", "Google", "No answer from Google"},
		{"en", "Müller & Söhne", "No answer from Müller & Söhne"},
		{"en", "شركة", "No answer from \u2068شركة\u2069"},
		{"en", "evil\u202e", "No answer from \u2068evil\u202e\u2069"},
		{"ar", "Google", "تجربة No answer from \u2068Google\u2069 كلمات أخرى"},
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{Language: c.lang, spoken: s}).Trouble(w, r, Trouble{Kind: ProviderUnavailable, Provider: c.provider})
		})
		if said := text(elements(parsed(t, got.Body.String()), "h1")[0]); said != c.want {
			t.Errorf("%q, want %q", said, c.want)
		}
	}
}
