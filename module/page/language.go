package page

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/feature/plural"
	bcp47 "golang.org/x/text/language"
	"golang.org/x/text/unicode/bidi"
)

// language is everything the pages and the mail say in one language: one file
// below words, which this package needs to know nothing else about.
//
// {site}, {host}, {provider} and the like stand for themselves, always inside a
// sentence, never at its beginning: {provider} may be a description in lower
// case. A sentence about {n} things has a word for each plural form of the
// language (CLDR's: zero, one, two, few, many, other), named by a suffix:
// "enter_code.left.one". "time" and "date" are layouts as package time has them,
// of digits only, with {month} for one of "months" and {zone} for the distance
// from UTC.
type language struct {
	// Lang is the BCP 47 tag, Dir "ltr" or "rtl".
	Lang, Dir string
	Words     map[string]string
	tag       bcp47.Tag
}

//go:embed words/*.json
var wordFiles embed.FS

// spoken are the languages that the pages come with.
var spoken = mustRead(wordFiles)

// fallback is spoken with those who understand none of the others.
const fallback = "en"

// shelf is a set of languages, the fallback first.
type shelf struct {
	languages []language
	matcher   bcp47.Matcher
}

// mustRead panics for what a test of ours finds first.
func mustRead(files fs.FS) *shelf {
	s, err := readShelf(files)
	if err != nil {
		panic(err)
	}
	return s
}

// readShelf reads words/*.json.
func readShelf(files fs.FS) (*shelf, error) {
	names, err := fs.Glob(files, "words/*.json")
	if err != nil {
		return nil, fmt.Errorf("listing languages: %w", err)
	}
	s := &shelf{}
	for _, name := range names {
		l, err := readLanguage(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		s.languages = append(s.languages, l)
	}
	first := slices.IndexFunc(s.languages, func(l language) bool { return l.Lang == fallback })
	if first < 0 {
		return nil, fmt.Errorf("no words/%s.json: it is what everybody else gets", fallback)
	}
	english := s.languages[first]
	s.languages = slices.Insert(slices.Delete(s.languages, first, first+1), 0, english)
	var tags []bcp47.Tag
	for _, l := range s.languages {
		tags = append(tags, l.tag)
	}
	s.matcher = bcp47.NewMatcher(tags)
	return s, nil
}

func readLanguage(files fs.FS, name string) (l language, err error) {
	f, err := files.Open(name)
	if err != nil {
		return l, fmt.Errorf("opening: %w", err)
	}
	defer f.Close()
	var said struct {
		Language  string            `json:"language"`  // BCP 47
		Direction string            `json:"direction"` // ltr or rtl
		Words     map[string]string `json:"words"`     // by name
	}
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&said); err != nil {
		return l, fmt.Errorf("decoding: %w", err)
	}
	if said.Direction != "ltr" && said.Direction != "rtl" {
		return l, fmt.Errorf("direction %q: write ltr or rtl", said.Direction)
	}
	tag, err := bcp47.Parse(said.Language)
	if err != nil {
		return l, fmt.Errorf("language %q: %w", said.Language, err)
	}
	return language{Lang: said.Language, Dir: said.Direction, Words: said.Words, tag: tag}, nil
}

// longestWish bounds what is read of an Accept-Language. Browsers send some
// fifty bytes.
const longestWish = 512

// choose is the language for an Accept-Language, or for a tag: the fallback
// where it is neither or nothing fits.
func (s *shelf) choose(wish string) language {
	if len(wish) > longestWish {
		return s.languages[0]
	}
	_, i := bcp47.MatchStrings(s.matcher, wish)
	return s.languages[i]
}

// check reports why a tag names none of the languages.
func (s *shelf) check(tag string) error {
	wanted, err := bcp47.Parse(tag)
	if err == nil {
		// Near is not enough: the matcher takes English for many a language that
		// its speakers mostly share with it.
		_, i, _ := s.matcher.Match(wanted)
		a, _ := wanted.Base()
		if b, _ := s.languages[i].tag.Base(); a == b {
			return nil
		}
	}
	var have []string
	for _, l := range s.languages {
		have = append(have, l.Lang)
	}
	return fmt.Errorf("language %.64q: choose one of %s, or leave it out for each visitor's own", tag, strings.Join(have, ", "))
}

// say is the words of that name with the values in their places.
func (l language) say(name string, values []string) (string, error) {
	words, ok := l.Words[name]
	if !ok {
		return "", fmt.Errorf("no words for %q in %s", name, l.Lang)
	}
	return strings.NewReplacer(values...).Replace(words), nil
}

// count is say of a sentence about n things.
func (l language) count(name string, n int, values []string) (string, error) {
	values = append(slices.Clip(values), "{n}", strconv.Itoa(n))
	return l.say(name+"."+l.plural(n), values)
}

// pluralForms are CLDR's names.
var pluralForms = map[plural.Form]string{
	plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many", plural.Other: "other",
}

func (l language) plural(n int) string {
	return pluralForms[plural.Cardinal.MatchPlural(l.tag, max(n, -n), 0, 0, 0, 0)]
}

// moment is a time as people write it, in t's own zone, which it names.
func (l language) moment(t time.Time) string { return l.write(t, "time") }

// date is the day of a time, in t's own zone.
func (l language) date(t time.Time) string { return l.write(t, "date") }

// write is a time by the layout of that name.
func (l language) write(t time.Time, layout string) string {
	months := strings.Split(l.Words["months"], "|")
	month := strconv.Itoa(int(t.Month()))
	if len(months) == 12 {
		month = months[t.Month()-1]
	}
	return strings.NewReplacer("{month}", month, "{zone}", zone(t)).Replace(t.Format(l.Words[layout]))
}

// zone is how far t's zone is from UTC. The letters that zones go by mean
// several each: CST is China's and Chicago's.
func zone(t time.Time) string {
	_, offset := t.Zone()
	sign := "+"
	if offset < 0 {
		sign, offset = "−", -offset
	}
	hours, minutes := offset/3600, offset%3600/60
	switch {
	case hours == 0 && minutes == 0:
		return "UTC"
	case minutes == 0:
		return fmt.Sprintf("UTC%s%d", sign, hours)
	default:
		return fmt.Sprintf("UTC%s%d:%02d", sign, hours, minutes)
	}
}

// isolate keeps the direction of a value's letters to itself (Unicode TR 9):
// neither does a name in Latin letters tear an Arabic sentence apart, nor does
// an override in a name turn round what follows it.
func (l language) isolate(value string) string {
	if value == "" || l.Dir == "ltr" && !strings.ContainsFunc(value, turns) {
		return value
	}
	return "\u2068" + value + "\u2069"
}

// turns reports whether a rune is written from the right or sets a direction.
func turns(r rune) bool {
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN, bidi.Control, bidi.LRE, bidi.RLE, bidi.LRO, bidi.RLO, bidi.PDF, bidi.LRI, bidi.RLI, bidi.FSI, bidi.PDI:
		return true
	default:
		return false
	}
}
