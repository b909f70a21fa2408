package page

import (
	"bytes"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// CodeLetter is what the mail with a code and a link says. All of it comes from
// us or from the operator, none from a stranger: a mail that carries a
// stranger's words is a mail that strangers can send.
type CodeLetter struct {
	// For is what the code is for.
	For CodeFor
	// To is the canonical address.
	To string
	// Code is what to type, Link where to go instead; an empty Link is left out,
	// and so is one that does not lead to Host.
	Code, Link string
	// Host is where the code may be typed, with its port if it has one: an
	// origin that the operator vouches for. A request's Host is the stranger's
	// word and would have us mail a link to wherever they like.
	Host string
	// Device is the asker's User-Agent, or Device of it; Place a network or a
	// rough place that we found ourselves, or empty; Asked when they asked.
	Device, Place string
	Asked         time.Time
	// Expires is when code and link end. Times are told in the zone they are in.
	Expires time.Time
	// Mode is what Link does in another browser: ModeCode, ModeMatch, or, to sign
	// in, ModeAllow. Anything else is ModeCode.
	Mode string
	// Language is the asker's Accept-Language, or a BCP 47 tag. What Pages says
	// comes first.
	Language string
}

// letter is a CodeLetter as drawn.
type letter struct {
	Subject, Code, Link, LinkWords, Until string
	Device, Place, Time                   string
	Accent, Ink, Edge, DarkEdge           string
}

// CodeLetter writes the mail, as text and as HTML that loads nothing. The last
// line of the text binds the code to the host in the form that browsers read
// (https://wicg.github.io/sms-one-time-codes): it ends the text, with no line
// break after it. From is left empty.
func (p *Pages) CodeLetter(l CodeLetter) guest.Message {
	host := hostOnly.FindString(strings.ToLower(l.Host))
	v := p.leaf(l.Language, host)
	v.For, v.Site = l.For.known(), titleLine(p.Title, v.Host)
	v.page, v.template = "letter", p.set("letter")
	v.Letter = v.letter(l, host)
	v.values = []string{"{code}", l.Code, "{time}", v.Letter.Until}
	v.Letter.LinkWords = v.say("letter.link." + modeOf(l.Mode, v.For))
	v.Heading = v.sayFor("letter.title")
	return guest.Message{To: l.To, Subject: v.subject(), Text: v.text(host), HTML: v.html()}
}

// hostOnly is a host with or without a port, in letters that need no care.
var hostOnly = regexp.MustCompile(`^(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?$`)

// titleLine is the operator's title on one line, or else the host: a line break
// in a subject would begin another header.
func titleLine(title, host string) string {
	if line := printable(title); line != "" {
		return line
	}
	return host
}

func modeOf(mode string, f CodeFor) string {
	switch {
	case mode == ModeMatch, mode == ModeAllow && f == ForSignIn:
		return mode
	default:
		return ModeCode
	}
}

func (v *view) letter(l CodeLetter, host string) *letter {
	return &letter{
		Code: l.Code, Link: leadingTo(host, l.Link), Until: v.Moment(l.Expires), Device: v.device(l.Device), Place: printable(l.Place), Time: v.Moment(l.Asked),
		Accent: v.accent.String(), Ink: v.ink.String(), Edge: v.accent.edge(lightGrounds).String(), DarkEdge: v.accent.edge(darkGrounds).String(),
	}
}

func (v *view) subject() string {
	if v.Site == v.Host {
		return v.sayFor("letter.subject_host")
	}
	return v.sayFor("letter.subject")
}

// sayFor is SayFor where every name is known to a test.
func (v *view) sayFor(name string) string {
	words, _ := v.SayFor(name)
	return words
}

// text is the letter for who reads no HTML.
func (v *view) text(host string) string {
	l := v.Letter
	parts := []string{v.sayFor("letter.lead"), "    " + l.Code}
	if l.Until != "" {
		parts = append(parts, v.say("letter.until"))
	}
	if l.Link != "" {
		parts = append(parts, l.LinkWords+"\n\n"+l.Link)
	}
	parts = append(parts, v.facts(), v.Share(), v.NotYou())
	if host != "" {
		parts = append(parts, "@"+withoutPort(host)+" #"+l.Code)
	}
	return strings.Join(parts, "\n\n")
}

// facts are who asked, a line each.
func (v *view) facts() string {
	var lines []string
	if v.Letter.Device != "" {
		lines = append(lines, v.say("letter.device")+": "+v.Letter.Device)
	}
	if v.Letter.Place != "" {
		lines = append(lines, v.say("letter.place")+": "+v.isolate(v.Letter.Place))
	}
	if v.Letter.Time != "" {
		lines = append(lines, v.say("letter.time")+": "+v.Letter.Time)
	}
	return strings.Join(lines, "\n")
}

// Share warns of giving away what the letter has.
func (v *view) Share() string { return v.say(v.byLink("letter.share")) }

// NotYou is what to do for who did not ask.
func (v *view) NotYou() string { return v.sayFor(v.byLink("letter.not_you")) }

func (v *view) byLink(name string) string {
	if v.Letter.Link == "" {
		return name
	}
	return name + "_link"
}

// Start is the side on which lines begin.
func (v *view) Start() string {
	if v.Dir == "rtl" {
		return "right"
	}
	return "left"
}

// withoutPort is the host alone: an origin-bound code has no port.
func withoutPort(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}

// html is the letter as HTML, or empty where a template of the operator's
// fails: the text says it all.
func (v *view) html() string {
	var page bytes.Buffer
	if err := v.template.ExecuteTemplate(&page, v.page, v); err != nil {
		v.tell(letters[v.page], err)
		return ""
	}
	return page.String()
}
