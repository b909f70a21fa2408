package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
)

// visitor is somebody who has signed in.
type visitor struct {
	cookie  string            // the session's value
	headers map[string]string // what the app is told of them
}

// newIssuer is a provider with n people, for the site at this address.
func newIssuer(issuerAddress, site string, n int) *logintest.Issuer {
	issuer := &logintest.Issuer{Issuer: "http://" + issuerAddress}
	issuer.Client("bench-client", clientSecret, "http://"+site+"/.login/bench/callback")
	for i := range n {
		issuer.Person(logintest.Person{
			Subject: fmt.Sprint(1000 + i), Name: fmt.Sprint("Visitor ", i),
			Email: fmt.Sprintf("visitor%d@example.com", i), EmailVerified: true,
			Groups: []string{"staff", "engineering", "on-call"},
		})
	}
	return issuer
}

// clientSecret is between our own issuer and our own gate, on loopback.
const clientSecret = "a secret of this benchmark"

// signIn signs visitor i in at the site, as a browser would.
func signIn(site string, i int) (visitor, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return visitor{}, err
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	asked, _, err := open(browser, "http://"+site+echoPath)
	if err != nil {
		return visitor{}, fmt.Errorf("going to sign in: %w", err)
	}
	pick := *asked
	pick.Path = "/oauth/pick"
	res, err := browser.PostForm(pick.String(), url.Values{"subject": {fmt.Sprint(1000 + i)}})
	if err != nil {
		return visitor{}, fmt.Errorf("signing in: %w", err)
	}
	res.Body.Close()
	_, echo, err := open(browser, "http://"+site+echoPath)
	if err != nil {
		return visitor{}, fmt.Errorf("coming back signed in: %w", err)
	}
	return recognised(jar, site, echo)
}

// open asks as a person does, and returns where that led and what was there.
func open(browser *http.Client, address string) (*url.URL, []byte, error) {
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Accept", "text/html")
	res, err := browser.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.500s", res.Request.URL.Path, res.Status, text)
	}
	return res.Request.URL, text, err
}

// recognised reads what the app was told of a visitor.
func recognised(jar http.CookieJar, site string, echo []byte) (visitor, error) {
	var received http.Header
	if err := json.Unmarshal(echo, &received); err != nil {
		return visitor{}, fmt.Errorf("reading what the app received: %w", err)
	}
	v := visitor{headers: toldOf(received)}
	for _, name := range identityHeaders {
		if v.headers[name] == "" {
			return visitor{}, fmt.Errorf("the app was not told %s", name)
		}
	}
	for _, cookie := range jar.Cookies(&url.URL{Scheme: "http", Host: site, Path: "/"}) {
		if cookie.Name == "login" {
			v.cookie = cookie.Value
		}
	}
	if v.cookie == "" {
		return visitor{}, errors.New("no session cookie was set")
	}
	return v, nil
}

// toldOf is what the app was told of somebody.
func toldOf(received http.Header) map[string]string {
	told := make(map[string]string)
	for _, name := range identityHeaders {
		told[name] = received.Get(name)
	}
	if assertion := received.Get(assertionHeader); assertion != "" {
		told[assertionHeader] = assertion
	}
	return told
}

// chrome is a request of Chrome's, at the click on a link.
const chrome = "GET %s?tab=open HTTP/1.1\r\n" +
	"Host: %s\r\n" +
	"Connection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\n" +
	"sec-ch-ua-platform: \"Linux\"\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"Sec-Fetch-User: ?1\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Referer: http://%[2]s/\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7\r\n" +
	"Cookie: %[3]s\r\n" +
	"\r\n"

// requests are one of each visitor, for the proxy at this address.
func (b *bench) requests(address string, signedIn bool, cookie string) [][]byte {
	all := make([][]byte, b.conns)
	for i := range all {
		n, cookies := 0, theme
		if signedIn {
			n, cookies = i, theme+"; "+cmp.Or(cookie, "login="+b.visitors[i].cookie)
		}
		all[i] = fmt.Appendf(nil, chrome, pathOf(n), address, cookies)
	}
	return all
}

// sessionsFile is what the floor knows.
func sessionsFile(visitors []visitor) ([]byte, error) {
	var sessions []floorSession
	for _, v := range visitors {
		sessions = append(sessions, floorSession{v.cookie, v.headers})
	}
	var out bytes.Buffer
	err := json.NewEncoder(&out).Encode(sessions)
	return out.Bytes(), err
}

func trimScheme(address string) string { return strings.TrimPrefix(address, "http://") }
