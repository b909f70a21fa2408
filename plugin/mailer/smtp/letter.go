package smtp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"

	"github.com/wneessen/go-mail"

	"github.com/caddy-login/caddy-login/module/guest"
)

// letter is a message, ready to be sent: its envelope and its bytes (RFC 5322).
type letter struct {
	from, to string
	raw      []byte
}

// longestLine is without its line break (RFC 5322 section 2.1.1).
const longestLine = 998

// compose writes a message as text with HTML beside it. Nothing of it can
// become a header or a command: addresses are plain, and what holds a line
// break is refused. Errors hold nothing of the message.
func (m *Mailer) compose(msg guest.Message) (letter, error) {
	sender, err := m.sender(msg)
	if err != nil {
		return letter{}, err
	}
	if !isPlainAddress(msg.To) {
		return letter{}, errors.New("the recipient is no plain address")
	}
	if strings.ContainsAny(msg.Subject, "\r\n\x00") {
		return letter{}, errors.New("the subject holds a line break")
	}
	if msg.Text == "" {
		return letter{}, errors.New("the message has no text")
	}
	var raw bytes.Buffer
	if _, err := m.write(msg, sender).WriteTo(&raw); err != nil {
		return letter{}, fmt.Errorf("encoding the message: %w", err)
	}
	for line := range bytes.Lines(raw.Bytes()) {
		if len(line) > longestLine+len("\r\n") {
			return letter{}, fmt.Errorf("a line has more than %d bytes", longestLine)
		}
	}
	return letter{from: sender.Address, to: msg.To, raw: raw.Bytes()}, nil
}

func (m *Mailer) write(msg guest.Message, sender *netmail.Address) *mail.Msg {
	out := mail.NewMsg(mail.WithCharset(mail.CharsetUTF8), mail.WithEncoding(mail.EncodingQP), mail.WithNoDefaultUserAgent())
	out.FromMailAddress(sender)
	out.ToMailAddress(&netmail.Address{Address: msg.To})
	out.Subject(msg.Subject)
	out.SetDateWithValue(m.now())
	out.SetMessageIDWithValue(m.messageID(msg, sender))
	// No holiday notice comes back (RFC 3834 section 5; the second is
	// Exchange's, MS-OXCMAIL section 2.1.3.2.20).
	out.SetGenHeader("Auto-Submitted", "auto-generated")
	out.SetGenHeader("X-Auto-Response-Suppress", "All")
	out.SetBodyString(mail.TypeTextPlain, msg.Text)
	if msg.HTML != "" {
		out.AddAlternativeString(mail.TypeTextHTML, msg.HTML)
	}
	return out
}

// messageID is the same for each attempt at a message, in the sender's domain.
// It is keyed: mail servers log it, and a mere hash would let whoever reads
// their logs try all codes against it.
func (m *Mailer) messageID(msg guest.Message, sender *netmail.Address) string {
	h := hmac.New(sha256.New, m.idKey)
	for _, part := range []string{sender.Address, msg.To, msg.Subject, msg.Text, msg.HTML} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]) + "@" + domainOf(sender.Address)
}

// sender is the settings', or else the message's.
func (m *Mailer) sender(msg guest.Message) (*netmail.Address, error) {
	switch {
	case m.From != "":
		return parseSender(m.From)
	case msg.From != "":
		return parseSender(msg.From)
	default:
		return nil, errors.New("the message has no sender: write from <address> in the block of mail smtp")
	}
}

// parseSender reads login@example.com, or Example <login@example.com>.
func parseSender(from string) (*netmail.Address, error) {
	if strings.ContainsAny(from, "\r\n\x00") {
		return nil, errors.New("from holds a line break: write an address such as login@example.com")
	}
	sender, err := netmail.ParseAddress(from)
	if err != nil || !isPlainAddress(sender.Address) {
		return nil, fmt.Errorf("from '%.200s' is no address: write one such as login@example.com, with the domain in ASCII", from)
	}
	return sender, nil
}

// isPlainAddress reports whether an address is two dot-atoms (RFC 5322 section
// 3.2.3) in ASCII, with no room for quotes, brackets or parameters of a
// command. All addresses on file are.
func isPlainAddress(s string) bool {
	local, domain, found := strings.Cut(s, "@")
	return found && len(s) <= 254 && len(local) <= 64 && isDotAtom(local) && isDotAtom(domain)
}

func isDotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return !isAtext(r) }) {
			return false
		}
	}
	return true
}

func isAtext(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

func domainOf(address string) string {
	_, domain, _ := strings.Cut(address, "@")
	return domain
}

// mask is an address as a log may hold it.
func mask(address string) string {
	return address[:1] + "…@" + domainOf(address)
}
