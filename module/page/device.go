package page

import (
	"regexp"
	"strings"
)

// Device names the browser and the system of a User-Agent in a few words that
// we know, such as "Firefox on Linux"; empty where it names none of them. Who
// asks chooses among our words and puts in none of their own, so the result may
// stand in a mail. Device of a result is that result.
func Device(userAgent string) string {
	browser, system := browserAndSystem(userAgent)
	switch {
	case browser != "" && system != "":
		return browser + " on " + system
	default:
		return browser + system
	}
}

// known is a word of ours and how a User-Agent, or the word itself, says it.
type known struct {
	word string
	said *regexp.Regexp
}

// The first that is said counts: every browser says it is also others.
var (
	browsers = []known{
		{"Edge", regexp.MustCompile(`\b(?:Edge?|EdgA|EdgiOS)\b`)},
		{"Opera", regexp.MustCompile(`\b(?:Opera|OPR|OPT)\b`)},
		{"Samsung Internet", regexp.MustCompile(`\bSamsung(?:Browser| Internet)\b`)},
		{"Vivaldi", regexp.MustCompile(`\bVivaldi\b`)},
		{"DuckDuckGo", regexp.MustCompile(`\b(?:DuckDuckGo|Ddg)\b`)},
		{"Firefox", regexp.MustCompile(`\b(?:Firefox|FxiOS)\b`)},
		{"Chrome", regexp.MustCompile(`\b(?:Chrome|CriOS|Chromium|HeadlessChrome)\b`)},
		{"Safari", regexp.MustCompile(`\bSafari\b`)},
	}
	systems = []known{
		{"iPhone", regexp.MustCompile(`\biPhone\b`)},
		{"iPad", regexp.MustCompile(`\biPad\b`)},
		{"Android", regexp.MustCompile(`\bAndroid\b`)},
		{"ChromeOS", regexp.MustCompile(`\b(?:CrOS|ChromeOS)\b`)},
		{"Windows", regexp.MustCompile(`\bWindows\b`)},
		{"macOS", regexp.MustCompile(`\b(?:Macintosh|macOS)\b`)},
		{"Linux", regexp.MustCompile(`\bLinux\b`)},
	}
)

// longestAgent is how much of a User-Agent is read. Browsers send some 150
// bytes.
const longestAgent = 512

func browserAndSystem(userAgent string) (browser, system string) {
	if len(userAgent) > longestAgent {
		userAgent = userAgent[:longestAgent]
	}
	return first(browsers, userAgent), first(systems, userAgent)
}

func first(words []known, userAgent string) string {
	for _, k := range words {
		if k.said.MatchString(userAgent) {
			return k.word
		}
	}
	return ""
}

// device says in the page's language what asked.
func (v *view) device(userAgent string) string {
	browser, system := browserAndSystem(userAgent)
	switch {
	case browser != "" && system != "":
		return strings.NewReplacer("{browser}", browser, "{system}", system).Replace(v.Words["device.both"])
	case browser+system != "":
		return browser + system
	default:
		return v.Words["device.unknown"]
	}
}
