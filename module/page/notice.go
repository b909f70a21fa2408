package page

import (
	"cmp"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// NoticeKind is what a Notice tells of.
type NoticeKind string

// The kinds. The zero NoticeKind, and one that is not listed, says no more than
// that something was changed.
const (
	// NoticeNewDevice: they signed in by a browser that was not seen before.
	NoticeNewDevice NoticeKind = "new_device"
	// NoticeLinked: an account at Provider was connected; NoticeUnlinked: disconnected.
	NoticeLinked   NoticeKind = "linked"
	NoticeUnlinked NoticeKind = "unlinked"
	// NoticeAddressAdded: Address was added; NoticeAddressRemoved: removed.
	NoticeAddressAdded   NoticeKind = "address_added"
	NoticeAddressRemoved NoticeKind = "address_removed"
	// NoticePrimaryChanged: Address is the one that apps see from now on.
	NoticePrimaryChanged NoticeKind = "primary_changed"
	// NoticeSessionsEnded: sessions were ended, but not by who was signed in.
	NoticeSessionsEnded NoticeKind = "sessions_ended"
	// NoticeDeletionBegun: the account is deleted at Until; NoticeDeletionStopped: it is not.
	NoticeDeletionBegun   NoticeKind = "deletion_begun"
	NoticeDeletionStopped NoticeKind = "deletion_stopped"
	// NoticeReverted: a change was taken back by the link in a Notice.
	NoticeReverted NoticeKind = "reverted"
	// NoticeTokenReuse: a token that works once came twice, and its session was ended.
	NoticeTokenReuse NoticeKind = "token_reuse"
)

// changed is every other kind.
const changed NoticeKind = "changed"

// noticeKinds are the kinds with words of their own.
var noticeKinds = map[NoticeKind]bool{
	NoticeNewDevice: true, NoticeLinked: true, NoticeUnlinked: true, NoticeAddressAdded: true, NoticeAddressRemoved: true, NoticePrimaryChanged: true,
	NoticeSessionsEnded: true, NoticeDeletionBegun: true, NoticeDeletionStopped: true, NoticeReverted: true, NoticeTokenReuse: true,
}

// Notice is a mail that tells a person what happened to their account. As in a
// CodeLetter, no stranger has a word in it.
type Notice struct {
	Kind NoticeKind
	// To is the canonical address.
	To string
	// Host is an origin's host that the operator vouches for, with its port if it
	// has one. Links that do not lead there are left out.
	Host string
	// Provider is its name as a person knows it, where one has to do with it.
	Provider string
	// Address is the one that was added, removed or made primary. Where it is not
	// To, it is masked: whoever got into an account can add any.
	Address string
	// Device is the User-Agent of who did it, or Device of it; Place a network or
	// a rough place that we found ourselves; At when it was. Each may be empty.
	Device, Place string
	At            time.Time
	// Account is the URL of the account page. Revert is one that takes the change
	// back, until Until; both may be empty.
	Account, Revert string
	// Until is when Revert ends, or when the account is deleted. Times are told in
	// the zone they are in.
	Until time.Time
	// Language is an Accept-Language or a BCP 47 tag. What Pages says comes first.
	Language string
}

// notice is a Notice as drawn. It has the facts and colours of a letter.
type notice struct {
	What, Until, Next string
	Account, Revert   string
	Ends              string // when Revert does
}

// NoticeLetter writes the mail, as text and as HTML that loads nothing. From is
// left empty.
func (p *Pages) NoticeLetter(n Notice) guest.Message {
	host := hostOnly.FindString(strings.ToLower(n.Host))
	v := p.leaf(n.Language, host)
	v.Site = titleLine(p.Title, v.Host)
	v.Provider = cmp.Or(printable(n.Provider), v.Provider)
	v.page, v.template = "notice", p.set("notice")
	v.Letter = v.letter(CodeLetter{Device: n.Device, Place: n.Place, Asked: n.At}, host)
	if n.Device == "" {
		v.Letter.Device = ""
	}
	v.notice(n, host)
	return guest.Message{To: n.To, Subject: v.noticeSubject(), Text: v.noticeText(), HTML: v.html()}
}

// notice fills in what happened and what can be done about it.
func (v *view) notice(n Notice, host string) {
	kind := n.Kind
	if !noticeKinds[kind] {
		kind = changed
	}
	until := v.Moment(n.Until)
	v.values = []string{"{address}", v.isolate(shownAddress(n.Address, n.To)), "{time}", until}
	v.Heading = v.say("notice." + string(kind) + ".title")
	v.Notice = &notice{What: v.say("notice." + string(kind) + ".what"), Account: leadingTo(host, n.Account), Revert: leadingTo(host, n.Revert)}
	switch {
	case until == "":
	case kind == NoticeDeletionBegun:
		v.Notice.Until = v.say("notice.deletion_begun.until")
	case v.Notice.Revert != "":
		v.Notice.Ends = v.say("notice.revert_until")
	}
	v.Notice.Next = v.say(v.nextStep(kind))
}

// nextStep names what to do for who did not want what happened.
func (v *view) nextStep(kind NoticeKind) string {
	switch {
	case kind == NoticeTokenReuse:
		return "notice.token_reuse.next"
	case v.Notice.Revert != "":
		return "notice.not_you.revert"
	case v.Notice.Account != "":
		return "notice.not_you.account"
	default:
		return "notice.not_you.ask"
	}
}

// leadingTo is the link if it leads to the host, else empty.
func leadingTo(host, link string) string {
	u, err := url.Parse(checked(link, ""))
	if err != nil || host == "" || strings.ToLower(u.Host) != host {
		return ""
	}
	return link
}

// addressParts are the first letters of both sides of an address, and its last
// label. An address can say as much as a sentence does.
var addressParts = regexp.MustCompile(`^([A-Za-z0-9])[^@]*@([a-z0-9])[^@]*\.([a-z0-9-]{2,24})$`)

// shownAddress is the address if it is one's own, else masked; "•••" where it
// is no address.
func shownAddress(address, own string) string {
	m := addressParts.FindStringSubmatch(address)
	switch {
	case address != "" && address == own:
		return address
	case m == nil:
		return "•••"
	default:
		return m[1] + "•••@" + m[2] + "•••." + m[3]
	}
}

func (v *view) noticeSubject() string {
	v.values = append(v.values, "{what}", v.Heading)
	if v.Site == v.Host {
		return v.say("notice.subject_host")
	}
	return v.say("notice.subject")
}

// noticeText is the notice for who reads no HTML.
func (v *view) noticeText() string {
	n := v.Notice
	parts := []string{v.Heading, n.What}
	if n.Until != "" {
		parts = append(parts, n.Until)
	}
	if facts := v.facts(); facts != "" {
		parts = append(parts, facts)
	}
	if n.Revert != "" {
		parts = append(parts, strings.TrimSpace(n.Next+" "+n.Ends), n.Revert)
	} else {
		parts = append(parts, n.Next)
	}
	if n.Account != "" {
		parts = append(parts, v.say("notice.account")+":\n"+n.Account)
	}
	return strings.Join(parts, "\n\n")
}
