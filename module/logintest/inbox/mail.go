package inbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"regexp"
	"strings"
)

// Mail is one mail as it came in.
type Mail struct {
	// From and To are the envelope's, to the letter.
	From string
	To   []string
	// TLS and User say how it came: over TLS, from whom.
	TLS  bool
	User string
	// UTF8 is set where the client asked for SMTPUTF8 (RFC 6531), which has
	// servers refuse the mail that don't know it.
	UTF8 bool

	// Header and Raw are the mail's own; Subject is decoded.
	Header  mail.Header
	Subject string
	Raw     []byte
	// Types are the media types of its parts, in their order; Text and HTML
	// are the parts themselves, decoded.
	Types      []string
	Text, HTML string
}

var (
	boundCode = regexp.MustCompile(`(?m)^@\S+ #(\d{6,10})\s*$`)
	anyCode   = regexp.MustCompile(`(?m)(?:^|\s)(\d{6,10})(?:\s|$)`)
	anyLink   = regexp.MustCompile(`https?://[^\s<>"]+`)
)

// Code is the one-time code in the text: that of its last line `@host #code`,
// or else the first number of 6 to 10 digits. It is empty where there is none.
func (m Mail) Code() string {
	for _, pattern := range []*regexp.Regexp{boundCode, anyCode} {
		if found := pattern.FindStringSubmatch(m.Text); found != nil {
			return found[1]
		}
	}
	return ""
}

// Link is the first link in the text, or empty.
func (m Mail) Link() string { return anyLink.FindString(m.Text) }

// parse reads Raw.
func (m *Mail) parse() error {
	message, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		return fmt.Errorf("reading headers: %w", err)
	}
	m.Header = message.Header
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		return fmt.Errorf("reading subject: %w", err)
	}
	return m.part(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), message.Body)
}

func (m *Mail) part(contentType, encoding string, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("reading media type: %w", err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		return m.parts(multipart.NewReader(body, params["boundary"]))
	}
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("reading %s: %w", kind, err)
	}
	m.Types = append(m.Types, kind)
	switch kind {
	case "text/plain":
		m.Text = strings.ReplaceAll(string(content), "\r\n", "\n")
	case "text/html":
		m.HTML = strings.ReplaceAll(string(content), "\r\n", "\n")
	}
	return nil
}

func (m *Mail) parts(r *multipart.Reader) error {
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading next part: %w", err)
		}
		if err := m.part(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part); err != nil {
			return err
		}
	}
}
