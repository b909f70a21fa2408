package module

import (
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/signin"
)

// All that a browser can have of ours at once, each cookie at its longest, is
// under 2 KiB: what the other cookies come to is what attempts leave them.
func TestCookiesAtTheirLongestAreSmall(t *testing.T) {
	gate := openGate(t, `{"allow":[{"who":["*@example.com"]}]}`)
	house, err := gate.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	list := func(n int, text string) string { return strings.TrimSuffix(strings.Repeat(text+".", n), ".") }
	for _, settings := range []CookieSettings{{Name: "login"}, {Name: strings.Repeat("n", 32)}, {Name: strings.Repeat("n", 32), Domain: "app.test"}} {
		ours := newCookies(settings, true)
		friend := friendTag(&visit{cookies: &ours, house: house}, "ada@example.com")
		jar := []string{
			ours.base + "=" + enter(t, gate),
			ours.landed() + "=1",
			ours.last() + "=" + strings.Repeat("p", 32),
			ours.asked() + "=" + list(maxAsked, challenge.ID{}.Text()),
			ours.friends() + "=" + list(maxFriends, friend),
			ours.waits() + "=" + pending.NewID().Text(),
		}
		for _, c := range jar {
			if name, _, _ := strings.Cut(c, "="); name != ours.base && ours.isAttempt(name) {
				t.Errorf("%s is taken for an attempt", name)
			}
		}
		room := signin.Room(ours.base)
		for i := range signin.MaxPending {
			jar = append(jar, strings.Repeat("a", (room+i)/signin.MaxPending)+"=")
		}
		header := strings.Join(jar, "; ")
		if t.Logf("%s: %d bytes", ours.base, len(header)); len(header) > 2048 {
			t.Errorf("cookies named %s can have %d bytes", ours.base, len(header))
		}
	}
}
