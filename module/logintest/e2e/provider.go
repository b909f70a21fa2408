package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// Person is somebody who can sign in at the Provider, under the address.
type Person struct {
	Subject       string   `json:"sub"`
	Email         string   `json:"email"`
	EmailVerified bool     `json:"email_verified"`
	Name          string   `json:"name"`
	Groups        []string `json:"groups"`
}

// The people every Provider knows.
var (
	Ada = Person{Subject: "sub-ada", Email: "ada@example.com", EmailVerified: true,
		Name: "Ada Lovelace", Groups: []string{"staff", "maths"}}
	Grace = Person{Subject: "sub-grace", Email: "grace@example.com", EmailVerified: true,
		Name: "Grace Hopper", Groups: []string{"staff"}}
	Zoe = Person{Subject: "sub-zoe", Email: "zoe@example.org", EmailVerified: true,
		Name: "Zoë, of \"elsewhere\"", Groups: []string{}}
	Mallory = Person{Subject: "sub-mallory", Email: "mallory@example.com", EmailVerified: false,
		Name: "Mallory", Groups: []string{"staff"}}
)

// Client is a site's registration at the Provider.
type Client struct {
	ID                     string   `json:"client_id"`
	Secret                 string   `json:"client_secret"`
	RedirectURIs           []string `json:"redirect_uris"`
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`
	AuthMethod             string   `json:"token_endpoint_auth_method,omitempty"`

	// BackchannelLogoutURI is where the provider says that somebody signed out
	// there; any host name leads to this machine, any certificate is trusted.
	// With BackchannelLogoutSession it says which session it was.
	BackchannelLogoutURI     string `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSession bool   `json:"backchannel_logout_session_required,omitempty"`
}

// Provider is the certified oidc-provider in a process of its own.
type Provider struct {
	// Issuer is its http address on 127.0.0.1, without a slash at its end.
	Issuer string

	t     testing.TB
	stdin io.Closer
	ended chan struct{}

	mu     sync.Mutex
	events []providerEvent
}

// providerEvent is a line of server.mjs.
type providerEvent struct {
	Event  string   `json:"event"`
	Issuer string   `json:"issuer"`
	Issued []string `json:"issued"`
	Error  string   `json:"error"`
}

// NewProvider starts a provider with these clients, and ends it with the test.
// It needs Node.js 18 or newer, and `npm ci` in logintest/oidcprovider.
func NewProvider(t testing.TB, clients ...Client) *Provider {
	t.Helper()
	dir := providerDir(t)
	config, err := json.Marshal(map[string]any{"clients": clients, "people": []Person{Ada, Grace, Zoe, Mallory}})
	if err != nil {
		t.Fatalf("describing the provider: %v", err)
	}
	cmd := exec.Command("node", filepath.Join(dir, "server.mjs"), string(config))
	stderr := &recorder{}
	cmd.Stderr = stderr
	p := &Provider{t: t, ended: make(chan struct{})}
	p.run(cmd, stderr)
	return p
}

// TokenCalls is how often a code was redeemed by now, in vain or not.
func (p *Provider) TokenCalls() int {
	p.t.Helper()
	n := 0
	for _, event := range p.told() {
		if strings.HasPrefix(event.Event, "token") {
			n++
		}
	}
	return n
}

// LogoutCalls is how often a site was told of a sign-out by now, and answered
// that it is done.
func (p *Provider) LogoutCalls() int {
	p.t.Helper()
	n := 0
	for _, event := range p.told() {
		if event.Event == "logout_told" {
			n++
		}
	}
	return n
}

// Secrets are all states, codes and tokens given out so far.
func (p *Provider) Secrets() []string {
	p.t.Helper()
	var secrets []string
	for _, event := range p.told() {
		secrets = append(secrets, event.Issued...)
	}
	return secrets
}

// Stop ends the provider: its port refuses connections from now on.
func (p *Provider) Stop() {
	p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.t.Errorf("the provider did not end within %s", Patience)
	}
}

func (p *Provider) run(cmd *exec.Cmd, stderr *recorder) {
	p.t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatalf("opening the provider's stdin: %v", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatalf("opening the provider's stdout: %v", err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("starting the provider: %v", err)
	}
	p.stdin = stdin
	go p.listen(cmd, stdout)
	p.t.Cleanup(func() { p.Stop(); p.explain(stderr) })
	Eventually(p.t, Patience, "the provider to start", func() bool { return p.ready(stderr) })
}

// listen reads the provider's lines until it ends.
func (p *Provider) listen(cmd *exec.Cmd, stdout io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event providerEvent
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		secrets.Keep(p.t, event.Issued...)
		p.mu.Lock()
		p.events = append(p.events, event)
		p.mu.Unlock()
	}
	_ = cmd.Wait() // an early end shows as a provider that never gets ready
}

// told is all that the provider has reported by now. Its lines come by a pipe,
// later perhaps than the answers they are about: it is asked how many there are.
func (p *Provider) told() []providerEvent {
	p.t.Helper()
	want, err := p.reported()
	Eventually(p.t, Patience, fmt.Sprintf("%d reports of the provider (%v)", want, err), func() bool {
		select {
		case <-p.ended:
			return true // and its last line was read
		default:
			return err == nil && len(p.read()) >= want
		}
	})
	return p.read()
}

// reported is how many lines the provider has written. One that ended does not
// say it.
func (p *Provider) reported() (int, error) {
	client := http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(p.Issuer + "/reported")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(body))
}

// read are the reports that came so far.
func (p *Provider) read() []providerEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

func (p *Provider) ready(stderr *recorder) bool {
	select {
	case <-p.ended:
		p.t.Fatalf("the provider ended at once:\n%s", stderr)
	default:
	}
	events := p.read()
	if len(events) == 0 {
		return false
	}
	p.Issuer = events[0].Issuer
	return true
}

// explain shows what the provider refused, where the test failed.
func (p *Provider) explain(stderr *recorder) {
	if !p.t.Failed() {
		return
	}
	for _, event := range p.read() {
		p.t.Logf("provider: %s %s", event.Event, event.Error)
	}
	p.t.Logf("provider's stderr:\n%s", stderr)
}

func providerDir(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		Without(t, "node")
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "module", "logintest", "oidcprovider")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider")); err != nil {
		Without(t, "oidc-provider (npm ci in module/logintest/oidcprovider)")
	}
	return dir
}
