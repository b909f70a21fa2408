// Package backchannel makes the one HTTP client for calls to providers. What
// it talks to is partly chosen by others (a discovery document names the
// token endpoint), so it limits where a call may go, how long it may take and
// how much it may bring back.
package backchannel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// The bounds of every call.
const (
	// Timeout is how long a call may take in all: waiting for its turn,
	// connecting, sending, and reading the last byte of the answer.
	Timeout = 10 * time.Second
	// MaxBody is how many bytes of an answer can be read, after decompression.
	MaxBody = 1 << 20
	// MaxCalls is how many calls of one client run at once; more wait. A call
	// runs until its body is closed.
	MaxCalls = 32

	maxHeader      = 64 << 10
	connectTimeout = 5 * time.Second
	headerTimeout  = 8 * time.Second
	idleTimeout    = 30 * time.Second
	maxIdle        = 4
	maxIdlePerHost = 2
)

// What a call fails with, to be tested with errors.Is.
var (
	// ErrTooLarge: the answer's body exceeds MaxBody. Read returns it.
	ErrTooLarge = errors.New("answer is too large")
	// ErrRedirect: the answer was a redirect. No call follows any.
	ErrRedirect = errors.New("answered with a redirect")
	// ErrInsecure: the URL is neither https nor http to this machine.
	ErrInsecure = errors.New("not https")
	// ErrForbiddenAddress: the host is, or resolves to, an address inside the
	// network, and none of the operator's URLs names it.
	ErrForbiddenAddress = errors.New("address is not allowed: it is private and no URL in the configuration names this host")
)

// Client is Network.Client for the network as it is.
func Client(operatorURLs ...string) *http.Client {
	return Network{}.Client(operatorURLs...)
}

// Network is how calls leave this machine. The zero value asks the system.
type Network struct {
	// Roots are the certificate authorities to trust. Default: the system's.
	Roots *x509.CertPool

	// Resolver looks names up. Default: net.DefaultResolver.
	Resolver *net.Resolver

	// Proxy says through which proxy a request goes, nil for none. Default:
	// http.ProxyFromEnvironment, because in a network that lets traffic out
	// only through a proxy, sign-in would otherwise not work at all.
	//
	// A proxy resolves the name itself, so that only an address written out in
	// the URL can be refused here: keeping calls out of the inner network is
	// then the proxy's work. It sees the host, and no more: all that goes
	// through it is TLS from end to end, and calls to this machine never do.
	Proxy func(*http.Request) (*url.URL, error)

	// Watch, where it is not nil, is told of each call that ended: how long it
	// took, from waiting for its turn to the last byte read, and what was wrong
	// with it. A call that its caller gave up is passed over. Watch is called on
	// many goroutines and must not block.
	Watch func(Call, time.Duration, Flaw)
}

// Client makes a client for one provider. operatorURLs are those that the
// operator wrote into the configuration, never one that came out of an answer:
// their hosts, and no others, may be or resolve to a loopback, private or
// carrier-grade NAT address. Link-local, multicast and cloud metadata
// addresses are refused even to them.
//
// Its calls are bounded by the constants above; they go by https, or by http
// to a loopback host. They send and keep no cookies and follow no redirect.
// Their errors name scheme and host of the URL, never its path, query or
// userinfo. The client is safe for concurrent use; it drops idle connections
// by itself.
func (n Network) Client(operatorURLs ...string) *http.Client {
	return n.client(bounds{timeout: Timeout, body: MaxBody, calls: MaxCalls}, operatorURLs)
}

// bounds are the constants above; tests shrink them.
type bounds struct {
	timeout time.Duration
	body    int64
	calls   int
}

func (n Network) client(b bounds, operatorURLs []string) *http.Client {
	own := hostsOf(operatorURLs)
	proxied := n.transport((&net.Dialer{Timeout: connectTimeout, Resolver: n.Resolver}).DialContext)
	proxied.Proxy = proxyOf
	return &http.Client{Transport: &transport{
		bounds:  b,
		own:     own,
		proxy:   n.proxy(),
		direct:  n.transport(dialer{own: own, resolver: n.Resolver}.dial),
		proxied: proxied,
		turns:   make(chan struct{}, b.calls),
		watch:   n.Watch,
	}}
}

func (n Network) proxy() func(*http.Request) (*url.URL, error) {
	if n.Proxy != nil {
		return n.Proxy
	}
	return http.ProxyFromEnvironment
}

// transport speaks HTTP/1.1 only: one connection per call is simple to bound.
func (n Network) transport(dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: n.Roots,
			// A provider that is called now and then is met again without a whole
			// handshake, which costs a third of a log-in.
			ClientSessionCache: tls.NewLRUClientSessionCache(maxIdle),
		},
		TLSHandshakeTimeout:    connectTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		Protocols:              &protocols,
	}
}

// transport carries one client's calls. Those through a proxy have connections
// of their own, dialled without a check: nothing but the operator's proxy is
// ever dialled there.
type transport struct {
	bounds
	own     hosts
	proxy   func(*http.Request) (*url.URL, error)
	direct  http.RoundTripper
	proxied http.RoundTripper
	turns   chan struct{}
	watch   func(Call, time.Duration, Flaw) // may be nil
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if f := carried(req); f != nil {
		closeBody(req)
		return nil, f
	}
	res, err := t.call(req)
	if err != nil {
		return carry(req, err), nil
	}
	return res, nil
}

func (t *transport) call(req *http.Request) (*http.Response, error) {
	watched := t.watched(req)
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	res, err := t.send(ctx, req)
	if err != nil {
		watched.end(flawOf(err))
		cancel()
		return nil, err
	}
	res.Request = req
	res.Body = &body{ReadCloser: res.Body, left: t.body, done: cancel, watched: watched, flaw: flawOfStatus(res.StatusCode)}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		watched.end(BadAnswer)
		res.Body.Close()
		return nil, fmt.Errorf("%w (status %d)", ErrRedirect, res.StatusCode)
	}
	return res, nil
}

func (t *transport) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	proxy, err := t.admit(ctx, req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	// The transport below decompresses only what it asked to be compressed
	// itself; a body it passes on compressed would escape the cap.
	out := req.Clone(context.WithValue(ctx, proxyKey{}, proxy))
	out.Header.Del("Accept-Encoding")
	if proxy != nil {
		return t.proxied.RoundTrip(out)
	}
	return t.direct.RoundTrip(out)
}

// admit checks where req goes, waits for its turn, which lasts until ctx ends,
// and says through which proxy it goes.
func (t *transport) admit(ctx context.Context, req *http.Request) (*url.URL, error) {
	if err := t.own.vet(req.URL); err != nil {
		return nil, err
	}
	proxy, err := t.proxyFor(req)
	if err != nil {
		return nil, err
	}
	select {
	case t.turns <- struct{}{}:
		context.AfterFunc(ctx, func() { <-t.turns })
		return proxy, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for one of %d calls to end: %w", cap(t.turns), ctx.Err())
	}
}

// proxyFor asks for the proxy itself, rather than let the transport do it, so
// that the answer decides at once which connections are used. Its error is
// dropped: it would show the proxy's password.
func (t *transport) proxyFor(req *http.Request) (*url.URL, error) {
	if loopbackHost(hostOf(req.URL)) {
		return nil, nil
	}
	proxy, err := t.proxy(req)
	if err != nil {
		return nil, errors.New("reading the proxy's address: HTTPS_PROXY is not a valid URL")
	}
	return proxy, nil
}

type proxyKey struct{}

func proxyOf(req *http.Request) (*url.URL, error) {
	proxy, _ := req.Context().Value(proxyKey{}).(*url.URL)
	if proxy == nil {
		return nil, errors.New("no proxy was chosen")
	}
	return proxy, nil
}

// closeBody keeps the RoundTripper's promise for a request never sent.
func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
