package page

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// CodeFor is what a mailed code proves somebody for. The zero value is signing
// in, and so is what is none of these.
type CodeFor string

const (
	ForSignIn CodeFor = ""
	// ForAddress proves that an address is theirs, to use it for an account: one
	// that signs in by it, or one that it is added to.
	ForAddress CodeFor = "address"
	// ForAgain proves that somebody who is signed in is still the same person.
	ForAgain CodeFor = "again"
)

// known is f, or ForSignIn where it is none.
func (f CodeFor) known() CodeFor {
	switch f {
	case ForAddress, ForAgain:
		return f
	default:
		return ForSignIn
	}
}

// SayFor is Say of the sentence that goes with what the code is for. A code that
// signs in is not to be given away for anything else, nor the other way round:
// whoever reads the mail has only these words to tell by.
func (v *view) SayFor(name string) (string, error) {
	if v.For != ForSignIn {
		name += "." + string(v.For)
	}
	return v.Say(name)
}

// EnterCode is the page that waits for the code that was mailed. It says the
// same whether or not there was a mail.
type EnterCode struct {
	// For is what the code is for. If not for signing in, Again is the way back.
	For CodeFor
	// Address is where the mail goes to, in the canonical form.
	Address string
	// Digits is how long the code is.
	Digits int
	// Wrong says that the code just posted is not right, and Left how many more
	// may be tried.
	Wrong bool
	Left  int
	// Resent says that the mail was just sent again.
	Resent bool
	// ResendIn is when it may be sent again: zero is now, less is never.
	ResendIn time.Duration
	// Minutes is how long the code is still good, rounded down. At zero the page
	// neither says so nor asks whether the link was used.
	Minutes int
	// Number is the two-digit number to pick where the link is opened. Empty:
	// none is asked for.
	Number string
	// Link says that the mail has a link, too.
	Link bool
	// Again is where to give another address; empty: Base+"/".
	Again string
	// Ask is handed back as the field "ask" of both forms: which of several tabs
	// this is. Empty: no field.
	Ask string
	// At is the path, without a query, that takes what is said here to go to
	// Base+"/code". Empty: Base+"/code".
	At string
}

// EnterCode asks for the code, with status 200, or 422 where the last one was
// wrong. It posts "code" to Base+"/code", as the person typed it, and for
// another mail resend=1.
//
// With a Link, a script asks Base+"/code" every few seconds, with Accept:
// application/json, whether there is anything new, and expects {"status":
// "pending"}, {"status":"done","to":"/path"}, or {"status":"over"}, for which
// it opens Base+"/code?over=1".
func (p *Pages) EnterCode(w http.ResponseWriter, r *http.Request, e EnterCode) {
	v := p.view(r, "enter_code")
	v.For = e.For.known()
	v.Script = v.Base + ScriptPath
	e.Address = shorten(e.Address)
	e.Minutes = max(e.Minutes, 0)
	v.Enter = &e
	e.At = ownPath(e.At)
	v.Go = checked(e.Again, v.Home)
	v.values = []string{"{digits}", strconv.Itoa(e.Digits)}
	status := http.StatusOK
	if e.Wrong {
		status = http.StatusUnprocessableEntity
	}
	v.write(w, r, status)
}

// ownPath is a path of this site without a query, else empty.
func ownPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
		return ""
	}
	return checked(path, "")
}

// Pattern takes a code of the right length, with spaces and dashes anywhere
// and digits of any script: half a code shall not cost an attempt.
func (e *EnterCode) Pattern() string {
	return `[\s\-]*(?:\p{Nd}[\s\-]*){` + strconv.Itoa(e.Digits) + `}`
}

// MayResend reports whether there will be another mail.
func (e *EnterCode) MayResend() bool { return e.ResendIn >= 0 }

// ResendSeconds is ResendIn in whole seconds, rounded up.
func (e *EnterCode) ResendSeconds() int { return int(math.Ceil(max(e.ResendIn, 0).Seconds())) }

// Seconds is how long it is worth asking whether the link was used.
func (e *EnterCode) Seconds() int {
	if !e.Link {
		return 0
	}
	return e.Minutes * 60
}

// FollowLink is where a mailed link leads in the browser that asked for it.
type FollowLink struct {
	// For is what the link is for.
	For CodeFor
	// Token is handed back as the form's field "token".
	Token string
	// Auto has the form post itself, once, where scripts run. Only for the
	// browser that asked: a scanner that runs scripts follows links, too.
	Auto bool
}

// FollowLink asks to go on, with status 200. Its form posts to Base+"/link".
func (p *Pages) FollowLink(w http.ResponseWriter, r *http.Request, f FollowLink) {
	v := p.view(r, "follow_link")
	v.For = f.For.known()
	if f.Auto {
		v.Script = v.Base + ScriptPath
	}
	v.Follow = &f
	v.write(w, r, http.StatusOK)
}

// What a link does in another browser than the one that asked.
const (
	ModeCode  = "code"  // shows the code
	ModeMatch = "match" // asks which number the other browser shows
	ModeAllow = "allow" // signs in; no link does it for anything else
)

// OtherDevice is where a mailed link leads in any other browser.
type OtherDevice struct {
	// For is what the link is for.
	For CodeFor
	// Token is handed back as the field "token" of all forms.
	Token string
	// Mode is ModeCode, ModeMatch or ModeAllow.
	Mode string
	// Code is what ModeCode shows.
	Code string
	// Numbers are what ModeMatch lets choose from, in this order.
	Numbers []string
	// Device is the asker's User-Agent, or Device of it; Place a network or a
	// rough place that we found ourselves, or empty; At when they asked.
	Device, Place string
	At            time.Time
	// Host is where they want to go in; empty: the request's.
	Host string
}

// OtherDevice tells what asked and, by mode, shows the code or asks, with
// status 200. Its forms post to Base+"/link": "number", or nothing more than
// the token; and, from who did not ask for it, cancel=1. A mode that is none,
// or ModeAllow but to sign in, gives the page of Internal.
func (p *Pages) OtherDevice(w http.ResponseWriter, r *http.Request, o OtherDevice) {
	o.For = o.For.known()
	if !slices.Contains([]string{ModeCode, ModeMatch, ModeAllow}, o.Mode) || o.Mode == ModeAllow && o.For != ForSignIn {
		p.Trouble(w, r, Trouble{Kind: Internal})
		return
	}
	v := p.view(r, "other_device")
	v.For = o.For
	if o.Host != "" {
		v.Host = o.Host
	}
	v.Heading = v.say("other_device." + o.Mode + ".title")
	o.Device, o.Place = v.device(o.Device), printable(o.Place)
	v.Other = &o
	v.write(w, r, http.StatusOK)
}

// Moment is a time in the page's language, empty for the zero time.
func (v *view) Moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return v.moment(t)
}

// Stopped confirms that a challenge is no more.
type Stopped struct {
	// For is what it was for. Who did not ask for ForAgain has somebody else
	// signed in as them, and is sent to end that.
	For CodeFor
}

// Stopped says that code and link no longer work, with status 200.
func (p *Pages) Stopped(w http.ResponseWriter, r *http.Request, s Stopped) {
	v := p.view(r, "stopped")
	v.For = s.For.known()
	v.Mark = "check"
	v.write(w, r, http.StatusOK)
}

// Approved confirms that the other browser may go on.
type Approved struct{}

// Approved sends the person back to where they began, with status 200.
func (p *Pages) Approved(w http.ResponseWriter, r *http.Request, _ Approved) {
	v := p.view(r, "approved")
	v.Mark = "check"
	v.write(w, r, http.StatusOK)
}

// printable is one line of at most eighty characters that can be seen.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	runes := []rune(strings.Join(strings.Fields(s), " "))
	return string(runes[:min(len(runes), 80)])
}
