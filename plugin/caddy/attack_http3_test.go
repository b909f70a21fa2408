package main_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// overHTTP3 asks as quic-go lets it: its paths begin with a slash.
type overHTTP3 struct {
	addr string
	http.RoundTripper
}

func (a *overHTTP3) ask(t testing.TB, q inquiry) int {
	t.Helper()
	if !strings.HasPrefix(q.target, "/") {
		return 0 // its client would send none, and wait
	}
	u := &url.URL{Scheme: "https", Host: a.addr, Opaque: q.target}
	if strings.HasPrefix(q.target, "//") { // Opaque would be absolute
		u = &url.URL{Scheme: "https", Host: a.addr, Path: decoded(q.target), RawPath: q.target}
	}
	r := &http.Request{Method: q.method, URL: u, Host: q.host, Header: http.Header{}}
	for _, f := range q.fields {
		r.Header.Add(f[0], f[1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), askPatience)
	defer cancel()
	res, err := a.RoundTrip(r.WithContext(ctx))
	if err != nil {
		q.wantEnd(t, err)
		return 0
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	q.wantEnd(t, err)
	return res.StatusCode
}

// The three protocols make their requests of different parsers.
func TestNoSpellingPassesOverTLS(t *testing.T) {
	secure := corners[0]
	secure.https = true
	q := newQuarter(t, []corner{secure}, "")
	addr, host := fmt.Sprintf("127.0.0.1:%d", q.Port), secure.name+".test"
	trust := func(protocol string) *tls.Config {
		return &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{protocol}}
	}
	transport := http3Visitor(t)
	transport.(*http3.Transport).TLSClientConfig.ServerName = host
	for name, over := range map[string]asker{
		"HTTP/1": &overHTTP1{addr: addr, tls: trust("http/1.1")}, "HTTP/2": &overHTTP2{addr: addr, tls: trust("h2")}, "HTTP/3": &overHTTP3{addr, transport},
	} {
		q.askers, q.passed = []asker{over}, map[string]int{}
		chance := rand.New(rand.NewPCG(3, 3))
		for range 700 {
			q.try(t, drawn(chance, 25))
		}
		t.Logf("%s: reached the app %v", name, q.passed)
		for _, who := range []int{asNobody, asGrace, asAda} {
			if q.passed[fmt.Sprint(secure.name, who)] == 0 {
				t.Errorf("%s: %d reached nothing", name, who)
			}
		}
	}
}
