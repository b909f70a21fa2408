package backchannel

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// serve starts a server on loopback and returns its URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// serveTLS starts one with a certificate for example.com and 127.0.0.1, and a
// Network that trusts it and ignores the environment's proxy.
func serveTLS(t *testing.T, config *tls.Config, h http.HandlerFunc) (string, Network) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = config
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.URL, Network{Roots: roots, Proxy: noProxy}
}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

func write(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func readAll(c *http.Client, u string) ([]byte, error) {
	res, err := c.Get(u)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

func TestProviderIsMetAgainWithoutAWholeHandshake(t *testing.T) {
	var resumed atomic.Int32
	u, network := serveTLS(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			resumed.Add(1)
		}
		w.Header().Set("Connection", "close")
	})
	client := network.Client(u)
	for range 3 {
		if _, err := readAll(client, u); err != nil {
			t.Fatal(err)
		}
	}
	if n := resumed.Load(); n != 2 {
		t.Errorf("%d of 2 later connections resumed", n)
	}
}

func TestCallToTheOperatorsHostWorks(t *testing.T) {
	u := serve(t, write("hello"))
	got, err := readAll(Client(u), u)
	if err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestPostReachesTheServerAsItIs(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("Authorization"), b)
	})
	req, _ := http.NewRequest("POST", u, strings.NewReader("a=b"))
	req.Header.Set("Authorization", "Bearer x")
	res, err := Client(u).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(res.Body)
	if string(got) != "POST Bearer x a=b" {
		t.Fatalf("got %q", got)
	}
}

func TestBodyIsReadUpToTheCapAndNoFurther(t *testing.T) {
	for _, row := range []struct {
		size int
		want error
	}{{0, nil}, {MaxBody - 1, nil}, {MaxBody, nil}, {MaxBody + 1, ErrTooLarge}, {3 * MaxBody, ErrTooLarge}} {
		u := serve(t, write(strings.Repeat("x", row.size)))
		got, err := readAll(Client(u), u)
		if !errors.Is(err, row.want) || len(got) != min(row.size, MaxBody) {
			t.Errorf("size %d: read %d, %v", row.size, len(got), err)
		}
	}
}

// bomb inflates to 1 GiB from 1 MiB.
func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	chunk := make([]byte, 1<<20)
	for range 1 << 10 {
		if _, err := z.Write(chunk); err != nil {
			return
		}
	}
	z.Close()
}

func TestGzipBombCostsNoMoreThanTheCap(t *testing.T) {
	u := serve(t, bomb)
	for _, accept := range []string{"", "gzip", "identity"} {
		req, _ := http.NewRequest("GET", u, nil)
		if accept != "" {
			req.Header.Set("Accept-Encoding", accept)
		}
		res, err := Client(u).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if n != MaxBody || !errors.Is(err, ErrTooLarge) {
			t.Errorf("Accept-Encoding %q: read %d, %v", accept, n, err)
		}
	}
}

func TestRedirectIsAnErrorThatNamesTheHostOnly(t *testing.T) {
	var followed atomic.Bool
	other := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	for status := 300; status < 309; status++ {
		u := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other+"/there?token=sekret")
			w.WriteHeader(status)
		})
		_, err := readAll(Client(u, other), u+"/path?code=sekret")
		if !errors.Is(err, ErrRedirect) {
			t.Errorf("status %d: %v", status, err)
		}
		if err != nil && (strings.Contains(err.Error(), "sekret") || strings.Contains(err.Error(), "path")) {
			t.Errorf("status %d: error tells too much: %v", status, err)
		}
		if err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(u, "http://")) {
			t.Errorf("status %d: error does not name the host: %v", status, err)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

// rewrapped is what libraries do: another client around the same transport.
func rewrapped(c *http.Client) *http.Client { return &http.Client{Transport: c.Transport} }

func TestErrorsHideQueryAndUserinfo(t *testing.T) {
	closed := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for name, u := range map[string]string{
		"dropped":   closed,
		"forbidden": "http://127.0.0.9:1",
		"insecure":  "http://example.com",
		"scheme":    "ftp://example.com",
		"no host":   "https://",
	} {
		parsed, _ := url.Parse(u + "/p/sekret?access_token=sekret#sekret")
		parsed.User = url.UserPassword("sekret", "sekret")
		for _, c := range []*http.Client{Client(closed), rewrapped(Client(closed))} {
			res, err := c.Do(&http.Request{Method: "POST", URL: parsed, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("sekret"))})
			if err == nil {
				res.Body.Close()
				t.Fatalf("%s: no error", name)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(e.Error(), "sekret") {
					t.Errorf("%s: %T leaks: %v", name, e, e)
				}
			}
		}
	}
}

func TestFailureIsNoSuccessToAClientThatFollowsNothing(t *testing.T) {
	c := Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.Get("https://127.0.0.1/")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(res.Body)
	if res.StatusCode < 300 || !errors.Is(err, ErrForbiddenAddress) {
		t.Fatalf("status %d, body error %v", res.StatusCode, err)
	}
}

func TestMalformedAnswerIsQuotedShortAndPrintable(t *testing.T) {
	u := raw(t, func(c net.Conn) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n\x1b[31m%s\r\n\r\n", strings.Repeat("evil", 1000))
	})
	_, err := readAll(Client(u), u)
	if err == nil || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x1b\r\n") {
		t.Fatalf("got %q", err)
	}
}

// raw answers the first request of each connection with what speak writes,
// then waits until the client hangs up.
func raw(t *testing.T, speak func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, speak)
		}
	}()
	return "http://" + l.Addr().String()
}

// answer has the first request answered, and waits until the client hangs up.
func answer(c net.Conn, speak func(net.Conn)) {
	defer c.Close()
	if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		speak(c)
	}
	io.Copy(io.Discard, c)
}

func TestHeadersAreCapped(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", maxHeader))
	})
	if _, err := readAll(Client(u), u); err == nil {
		t.Fatal("64 KiB of headers were read")
	}
}

func short(d time.Duration) bounds { return bounds{timeout: d, body: MaxBody, calls: MaxCalls} }

func TestSilentServerEndsAtTheTimeout(t *testing.T) {
	u := raw(t, func(net.Conn) {})
	_, err := readAll(Network{}.client(short(50*time.Millisecond), []string{u}), u)
	var timeout net.Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("got %v", err)
	}
}

// piped is a client whose connections lead to speak and to no network. In a
// bubble of synctest no time goes by but where everybody waits: what is to come
// before a timeout does.
func piped(b bounds, speak func(net.Conn)) *http.Client {
	return overPipe(Network{}.client(b, []string{pipe}), speak)
}

func overPipe(c *http.Client, speak func(net.Conn)) *http.Client {
	c.Transport.(*transport).direct = Network{}.transport(func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answer(there, speak)
		return here, nil
	})
	return c
}

const pipe = "http://127.0.0.1/"

func TestTricklingBodyEndsAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := piped(short(50*time.Millisecond), func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst")
		})
		begun := time.Now()
		got, err := readAll(c, pipe)
		if !errors.Is(err, context.DeadlineExceeded) || string(got) != "first" || time.Since(begun) != 50*time.Millisecond {
			t.Fatalf("got %q, %v after %s", got, err, time.Since(begun))
		}
	})
}

// Eight seconds are the longest that a provider is waited for until it begins to
// answer, and ten until it has.
func TestCallsEndAfterTenSeconds(t *testing.T) {
	for _, row := range []struct {
		sent, got string
		after     time.Duration
	}{
		{"", "", 8 * time.Second},
		{"HTTP/1.1 200 OK\r\nContent-", "", 8 * time.Second},
		{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst", "first", 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := overPipe(Network{}.Client(pipe), func(c net.Conn) { io.WriteString(c, row.sent) })
			begun := time.Now()
			got, err := readAll(c, pipe)
			var late net.Error
			if !errors.As(err, &late) || !late.Timeout() || string(got) != row.got || time.Since(begun) != row.after {
				t.Errorf("%q: got %q, %v after %s", row.sent, got, err, time.Since(begun))
			}
		})
	}
}

func TestCallersContextEndsACall(t *testing.T) {
	u := raw(t, func(net.Conn) {})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", u, nil)
	if _, err := Client(u).Do(req); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestNoMoreThan32CallsRunAtOnce(t *testing.T) {
	var now, most atomic.Int32
	gate := make(chan struct{})
	arrived := make(chan struct{}, 100)
	u := serve(t, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		arrived <- struct{}{}
		<-gate
	})
	c := Client(u)
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			if _, err := readAll(c, u); err != nil {
				t.Error(err)
			}
		})
	}
	for range MaxCalls {
		<-arrived
	}
	close(gate)
	calls.Wait()
	if most.Load() != MaxCalls {
		t.Fatalf("%d calls ran at once", most.Load())
	}
}

func TestWaitingForATurnEndsWithTheCallersContext(t *testing.T) {
	u := serve(t, write("x"))
	c := Network{}.client(bounds{timeout: time.Minute, body: 1, calls: 1}, []string{u})
	held, err := c.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", u, nil)
	if _, err := c.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("second call: %v", err)
	}
	held.Body.Close()
	if _, err := readAll(c, u); err != nil {
		t.Fatalf("after the turn was given back: %v", err)
	}
}

func TestForgottenBodyGivesItsTurnBackAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := piped(bounds{timeout: time.Second, body: 1, calls: 1}, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
		})
		forgotten, err := c.Get(pipe)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second / 2)
		if _, err := readAll(c, pipe); err != nil {
			t.Errorf("half a second before the second call's own timeout: %v", err)
		}
		forgotten.Body.Close()
	})
}

func TestFailedCallsGiveTheirTurnBack(t *testing.T) {
	u := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	good := serve(t, write("x"))
	c := Network{}.client(bounds{timeout: 5 * time.Second, body: 1, calls: 1}, []string{u, good})
	for range 5 {
		if _, err := readAll(c, u); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := readAll(c, good); err != nil {
		t.Fatal(err)
	}
}

func TestTLSBefore12IsRefused(t *testing.T) {
	u, n := serveTLS(t, &tls.Config{MaxVersion: tls.VersionTLS11}, write("x"))
	if _, err := readAll(n.Client(u), u); err == nil {
		t.Fatal("TLS 1.1 was spoken")
	}
	u, n = serveTLS(t, &tls.Config{MaxVersion: tls.VersionTLS12}, write("x"))
	if _, err := readAll(n.Client(u), u); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownCertificateIsRefused(t *testing.T) {
	u, _ := serveTLS(t, nil, write("x"))
	_, err := readAll(Network{Proxy: noProxy}.Client(u), u)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v", err)
	}
}

func TestCookiesAreNotKept(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		io.WriteString(w, r.Header.Get("Cookie"))
	})
	c := Client(u)
	readAll(c, u)
	if got, err := readAll(c, u); err != nil || len(got) > 0 {
		t.Fatalf("sent %q, %v", got, err)
	}
}
