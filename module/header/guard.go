// Package header guards what a protected app is told. Whatever a client says
// about who it is goes; what we know is written in its place; our own cookies
// stay between the browser and us.
package header

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Guard removes from a request what a client must not say. It is built once
// per site and safe for concurrent use.
type Guard struct {
	forbidden *nameSet
	travels   *nameSet
}

// NewGuard returns a Guard for the well-known identity headers and for names,
// the site's own besides. A name that requests need for something else is an
// error: stripping it would break the app, and an app that trusts it would
// trust every client.
func NewGuard(names ...string) (*Guard, error) {
	g := &Guard{forbidden: builtin(), travels: &nameSet{exact: make(map[string]struct{})}}
	g.travels.add(endToEnd)
	for _, name := range names {
		if err := g.check(name); err != nil {
			return nil, err
		}
		g.forbidden.add(name)
	}
	return g, nil
}

// check refuses names that can't carry an identity. httpguts would let '*'
// pass, which means a family to us.
func (g *Guard) check(name string) error {
	switch {
	case name == "":
		return errors.New("a header name is empty: name one, such as X-WEBAUTH-USER")
	case !httpguts.ValidHeaderFieldName(name) || strings.Contains(name, "*"):
		return fmt.Errorf("%q is no header name: use letters, digits and '-', as in X-WEBAUTH-USER", name)
	case len(name) < 2 || len(name) > longest:
		return fmt.Errorf("header name %q has %d bytes: use 2 to %d", name, len(name), longest)
	case reserved.has(name), g.travels.has(name) && !g.forbidden.has(name):
		return fmt.Errorf("header %q means something else to browsers, proxies or apps: use a name of its own, such as X-WEBAUTH-USER", name)
	}
	return nil
}

// endToEnd names what a Connection header must not take away, whatever RFC
// 9110 section 7.6.1 says of nominated fields: a client who could would remove
// what a trusted proxy before us, or the browser itself, has put there.
const endToEnd = "Authorization Cookie Host Origin Referer Forwarded Via X-Forwarded-* X-Real-Ip X-Client-Ip X-Cluster-Client-Ip True-Client-Ip Client-Ip Fastly-Client-Ip Cf-Connecting-* Cf-Ipcountry Cf-Ray X-Original-* X-Request-Id Traceparent Tracestate Sec-* Content-* Access-Control-* X-Requested-With Te Upgrade"

// reserved names what an operator must not use for identities, besides
// endToEnd: HTTP's own.
var reserved = func() *nameSet {
	s := &nameSet{exact: make(map[string]struct{})}
	s.add("Set-Cookie Cookie2 Proxy-* Connection Keep-Alive Transfer-Encoding Trailer Expect Http2-Settings Accept Accept-* User-Agent Cache-Control Pragma Range If-* Date Max-Forwards Priority Early-Data Dnt Last-Event-Id Upgrade-Insecure-Requests Www-Authenticate X-Csrf-* X-Xsrf-* X-Http-Method-Override Alt-Svc Alt-Used Server Location")
	return s
}()

// Strip removes the client's identity headers, whatever their spelling, its
// trailers, what its Connection header nominates, and every upgrade but to
// WebSocket. Cookies are Jar's. It must see the request before any handler
// that forwards it, and before Block.Set.
//
// It does not allocate for what browsers send.
func (g *Guard) Strip(r *http.Request) {
	for name := range r.Header {
		if g.forbidden.has(name) {
			delete(r.Header, name)
		}
	}
	g.stripConnection(r.Header)
	stripTrailers(r)
}

// stripTrailers keeps trailers from the app. Forgetting them is enough over
// HTTP/2, where net/http fills only the map that it made for the announced
// ones. Over HTTP/1 it sets the field at the body's end, announced or not, and
// reverse_proxy reads it there.
func stripTrailers(r *http.Request) {
	r.Trailer = nil
	if r.ProtoMajor == 1 && r.ContentLength < 0 && r.Body != nil && r.Body != http.NoBody {
		r.Body = &untrailed{r.Body, r}
	}
}

// untrailed is a request's body that leaves no trailers behind at its end.
type untrailed struct {
	io.ReadCloser
	request *http.Request
}

func (b *untrailed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.forget()
	}
	return n, err
}

// Close may read up to the trailers, too.
func (b *untrailed) Close() error {
	err := b.ReadCloser.Close()
	b.forget()
	return err
}

// forget writes only where net/http has just written: the transport reads a
// body while the handler may be copying the request.
func (b *untrailed) forget() {
	if b.request.Trailer != nil {
		b.request.Trailer = nil
	}
}
