package page

import (
	"maps"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestColoursThatMeetCanBeTold holds the pairs of the stylesheet, in both
// schemes, against WCAG 2.2: 4.5 for text (1.4.3), 3 for the edges of
// controls and the focus ring (1.4.11).
func TestColoursThatMeetCanBeTold(t *testing.T) {
	const text, edge = 4.5, 3
	pairs := []struct {
		front, back string
		least       float64
	}{
		{"ink", "card", 7}, {"ink", "hover", 7}, {"quiet", "card", text},
		{"on-accent", "accent", text}, {"on-accent", "accent-hover", text},
		{"on-note", "note", text}, {"on-warning", "warning", text}, {"on-good", "good", text},
		{"on-way", "way", 7}, {"mark", "way", 7}, {"way-edge", "way", edge}, {"way-edge", "card", edge},
		{"edge", "card", edge}, {"wrong", "card", text}, {"wrong", "hover", text}, {"accent-edge", "card", edge}, {"accent-edge", "page", edge},
		{"accent", "card", edge}, {"focus", "card", edge}, {"focus", "page", edge},
	}
	for scheme, colours := range schemes(t) {
		for _, p := range pairs {
			if got := contrast(t, colours[p.front], colours[p.back]); got < p.least {
				t.Errorf("%s: %s on %s is %.2f:1, want %.1f:1", scheme, p.front, p.back, got, p.least)
			}
		}
	}
}

// schemes reads the colours of both schemes; the dark one overrides.
func schemes(t *testing.T) map[string]map[string]string {
	t.Helper()
	light, dark, found := strings.Cut(string(stylesheet), "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("the stylesheet has no dark scheme")
	}
	dark, _, _ = strings.Cut(dark, "box-sizing")
	schemes := map[string]map[string]string{"light": colours(light), "dark": colours(light)}
	maps.Copy(schemes["dark"], colours(dark))
	return schemes
}

var declaration = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)

func colours(css string) map[string]string {
	named := map[string]string{}
	for _, m := range declaration.FindAllStringSubmatch(css, -1) {
		named[m[1]] = m[2]
	}
	return named
}

func TestContrastIsThatOfWCAG(t *testing.T) {
	for pair, want := range map[[2]string]float64{{"#000000", "#ffffff"}: 21, {"#777777", "#ffffff"}: 4.48, {"#123456", "#123456"}: 1} {
		if got := contrast(t, pair[0], pair[1]); math.Abs(got-want) > 0.01 {
			t.Errorf("%v: %.2f, want %.2f", pair, got, want)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// luminance is the relative luminance of #rrggbb as WCAG defines it.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil {
		t.Fatalf("colour %q: %v", colour, err)
	}
	return 0.2126*linear(n>>16&255) + 0.7152*linear(n>>8&255) + 0.0722*linear(n&255)
}

func linear(channel uint64) float64 {
	c := float64(channel) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}
