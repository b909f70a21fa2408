package page

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// colour is red, green and blue.
type colour [3]uint8

var (
	blackInk = colour{0, 0, 0}
	whiteInk = colour{255, 255, 255}
)

// Our own accent, and the grounds that an accent lies on, as style.css has
// them.
var (
	ownAccent    = colour{0x2b, 0x4a, 0xcb}
	lightGrounds = []colour{whiteInk, {0xee, 0xf0, 0xf5}}
	darkGrounds  = []colour{{0x17, 0x1a, 0x21}, {0x0c, 0x0e, 0x12}}
)

// parseColour reads #rgb and #rrggbb.
func parseColour(text string) (c colour, err error) {
	digits, hashed := strings.CutPrefix(text, "#")
	if len(digits) == 3 {
		digits = strings.Join([]string{digits[:1], digits[:1], digits[1:2], digits[1:2], digits[2:], digits[2:]}, "")
	}
	bytes, err := hex.DecodeString(digits)
	if !hashed || err != nil || len(bytes) != 3 {
		return c, fmt.Errorf("accent %.32q: write a colour like #2b4acb", text)
	}
	return colour(bytes), nil
}

func (c colour) String() string { return "#" + c.hex() }

func (c colour) hex() string { return hex.EncodeToString(c[:]) }

// luminance is relative to white's (WCAG 2.2).
func (c colour) luminance() float64 {
	weights, sum := [3]float64{0.2126, 0.7152, 0.0722}, 0.0
	for i, channel := range c {
		v := float64(channel) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weights[i] * v
	}
	return sum
}

// against is the contrast of two colours (WCAG 2.2), 1 to 21.
func (c colour) against(d colour) float64 {
	a, b := c.luminance(), d.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// toward is c with so much of d in it, 0 to 1.
func (c colour) toward(d colour, share float64) colour {
	for i := range c {
		c[i] = uint8(math.Round(float64(c[i])*(1-share) + float64(d[i])*share))
	}
	return c
}

// ink is what can be read on c: black or white, whichever contrasts more.
// That is 4.58 or more on any colour.
func (c colour) ink() colour {
	if c.against(whiteInk) >= c.against(blackInk) {
		return whiteInk
	}
	return blackInk
}

// hover is c a little further from its ink, which can only be read better
// there, or nearer where c is black or white and there is no further.
func (c colour) hover() colour {
	away := blackInk
	if c.ink() == blackInk {
		away = whiteInk
	}
	for share := 0.16; share < 0.5; share += 0.1 {
		if moved := c.toward(away, share); moved.against(c) > 1.1 {
			return moved
		}
	}
	return c.toward(c.ink(), 0.16)
}

// edge is c moved away from the grounds until a line of it can be told from
// them: 3 to 1 (WCAG 2.2, 1.4.11).
func (c colour) edge(grounds []colour) colour {
	away := grounds[0].ink()
	for share := 0.0; share <= 1; share += 0.05 {
		moved := c.toward(away, share)
		if moved.against(grounds[0]) >= 3 && moved.against(grounds[1]) >= 3 {
			return moved
		}
	}
	return away
}

// palette is an accent and what goes with it.
type palette struct {
	accent, ink, hover, lightEdge, darkEdge colour
}

func newPalette(accent string) (*palette, error) {
	c, err := parseColour(accent)
	if err != nil {
		return nil, err
	}
	return &palette{c, c.ink(), c.hover(), c.edge(lightGrounds), c.edge(darkGrounds)}, nil
}

// css overrides the colours of style.css. A brand's colour is the same in both
// schemes; what makes its shape stand out differs.
func (p *palette) css() string {
	return fmt.Sprintf(`:root { --accent: %s; --accent-hover: %s; --on-accent: %s; --accent-edge: %s; --focus: %s; }
@media (prefers-color-scheme: dark) {
	:root { --accent: %s; --accent-hover: %s; --on-accent: %s; --accent-edge: %s; --focus: %s; }
}
`, p.accent, p.hover, p.ink, p.lightEdge, p.lightEdge, p.accent, p.hover, p.ink, p.darkEdge, p.darkEdge)
}

// colours are the accent and what is written on it, also where there is no
// stylesheet: in the mail and in the tab.
func (d *brand) colours() (accent, ink colour) {
	if d.accent == nil {
		return ownAccent, whiteInk
	}
	return d.accent.accent, d.accent.ink
}
