package logintest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Monsters are answers of one endpoint (see Response) that are right in form,
// begin as JSON, and would bring down whoever takes them in whole.
func Monsters(endpoint string) []Row {
	return []Row{
		{"10 MB", Body(endpoint, func() io.Reader { return long(10 << 20) }), endpoint},
		{"endless", Body(endpoint, func() io.Reader { return long(1 << 40) }), endpoint},
		{"gzip bomb", at(endpoint, bomb), endpoint},
		{"deep JSON", Body(endpoint, deep), endpoint},
		{"wide JSON", Body(endpoint, wide), endpoint},
		{"one byte a second", Body(endpoint, func() io.Reader { return &drip{} }), endpoint},
		{"a thousand headers", at(endpoint, manyHeaders), endpoint},
	}
}

// long is the beginning of an object of so many bytes.
func long(size int64) io.Reader {
	return io.MultiReader(strings.NewReader(`{"sub":"`), io.LimitReader(letters{}, size))
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for n := range p {
		p[n] = 'a'
	}
	return len(p), nil
}

const depth = 100_000

func deep() io.Reader {
	return strings.NewReader(strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth))
}

// wide fits into what a token endpoint may answer, and holds as many members as
// go in there.
func wide() io.Reader {
	var b strings.Builder
	for n := range 80_000 {
		fmt.Fprintf(&b, `,"%x":{}`, n)
	}
	return strings.NewReader("{" + b.String()[1:] + "}")
}

// bomb is 10 GB in 10 MB: members of a gzip stream may follow each other (RFC
// 1952 section 2.2).
func bomb(r *Response) {
	var member bytes.Buffer
	packer, _ := gzip.NewWriterLevel(&member, gzip.BestSpeed) // the level is a valid one
	io.Copy(packer, long(1<<20))                              // a buffer
	packer.Close()                                            // takes all
	r.Header.Set("Content-Encoding", "gzip")
	r.Body = &again{what: member.Bytes(), times: 10_000}
}

// again is the same bytes so many times over.
type again struct {
	what  []byte
	times int
	rest  []byte
}

func (a *again) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.times == 0 {
			return 0, io.EOF
		}
		a.times, a.rest = a.times-1, a.what
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// drip never ends, and never is so slow that a connection counts as dead.
type drip struct{ io.Reader }

func (*drip) WriteTo(w io.Writer) (written int64, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	answer, ok := w.(http.ResponseWriter)
	if !ok {
		return 0, io.ErrNoProgress
	}
	for flush := http.NewResponseController(answer); err == nil; written++ {
		if _, err = io.WriteString(w, " "); err == nil {
			err = flush.Flush()
		}
		<-tick.C
	}
	return written, err
}

func manyHeaders(r *Response) {
	for n := range 1000 {
		r.Header.Set(fmt.Sprintf("X-Monster-%d", n), strings.Repeat("m", 100))
	}
}
