package page

import (
	"regexp"
	"strings"
	"testing"
)

func TestDeviceIsToldInWordsOfOurs(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                     "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                            "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":              "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15":                      "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1":    "Safari on iPhone",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0.0.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/140.0 Mobile/15E148 Safari/605.1.15":           "Firefox on iPad",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                            "Chrome on Android",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36":        "Samsung Internet on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                             "Chrome on ChromeOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 OPR/120.0.0.0":              "Opera on Windows",
		"curl/8.14.1": "", "": "", "Firefox": "Firefox", "Linux": "Linux", "Firefoxy on Linuxes": "",
		"Your account is locked! Call +1 555 0100 from Firefox on Windows": "Firefox on Windows",
		strings.Repeat("x", 600) + " Firefox":                              "",
	} {
		if got := Device(agent); got != want {
			t.Errorf("%.120q is %q, want %q", agent, got, want)
		}
	}
}

var ourWords = regexp.MustCompile(`^(?:[A-Z][A-Za-z]+(?: Internet)?)?(?: on )?(?:iPhone|iPad|macOS|[A-Z][A-Za-z]+)?$`)

func FuzzDevice(f *testing.F) {
	for _, seed := range []string{"", "Firefox/140.0 (X11; Linux)", "Edge on ChromeOS", "Opera\r\nBcc: x@example.com", "\xff Chrome \x00 iPad"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, agent string) {
		got := Device(agent)
		if Device(got) != got || len(got) > 40 || !ourWords.MatchString(got) {
			t.Errorf("%q is %q, and that is %q", agent, got, Device(got))
		}
	})
}
