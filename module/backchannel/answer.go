package backchannel

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// body caps what can be read of an answer, and ends the call when closed.
type body struct {
	io.ReadCloser
	left    int64
	done    context.CancelFunc
	watched *watched
	flaw    Flaw // what is wrong with it even if all of it can be read
}

// Read returns ErrTooLarge once more than the cap is there to be read. A
// compressed body is inflated as it is read: what lies past the cap never is.
func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		n, err = n-1, ErrTooLarge
	}
	if err != nil && err != io.EOF {
		b.watched.end(flawOfBody(err))
	}
	return n, err
}

// flawOfBody is what was wrong with an answer that could not be read to its end.
func flawOfBody(err error) Flaw {
	if f := flawOf(err); f == TimedOut {
		return f
	}
	return BadAnswer
}

func (b *body) Close() error {
	defer b.done()
	b.watched.end(b.flaw)
	return b.ReadCloser.Close()
}

// failure is what a call failed with. It shows no more than 300 printable
// bytes: the transport quotes malformed answers.
type failure struct{ err error }

func (f *failure) Error() string {
	text := strings.Map(printable, f.err.Error())
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// Timeout makes url.Error tell a timeout as one.
func (f *failure) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(f.err, &t) && t.Timeout()
}

const maxText = 300

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

type failureKey struct{}

// carry answers req with a redirect to the bare host that carries err.
//
// http.Client puts the URL of the request into the error it makes of ours,
// with its query; some providers want tokens there. The one thing that makes
// it use another URL is a redirect: it follows this one, and RoundTrip, before
// anything is sent, returns what is carried. A client set to follow none gets
// an answer that is no success and whose body fails.
func carry(req *http.Request, err error) *http.Response {
	f := &failure{err}
	bare := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host}
	from := &http.Request{Method: req.Method, URL: &bare}
	return &http.Response{
		Status:     "303 See Other",
		StatusCode: http.StatusSeeOther,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"Location": {bare.String()}},
		Body:       io.NopCloser(failing{f}),
		Request:    from.WithContext(context.WithValue(req.Context(), failureKey{}, f)),
	}
}

// carried is the failure that led to req, or nil for a call of its own.
func carried(req *http.Request) error {
	if req.Response == nil {
		return nil
	}
	if from := req.Response.Request; from != nil {
		if f, ok := from.Context().Value(failureKey{}).(*failure); ok {
			return f
		}
	}
	return ErrRedirect
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
