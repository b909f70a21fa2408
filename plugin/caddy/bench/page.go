package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(constant))
	httpcaddyfile.RegisterHandlerDirective("bench_constant", parseConstant)
	// The place that login has.
	httpcaddyfile.RegisterDirectiveOrder("bench_constant", httpcaddyfile.After, "try_files")
}

// constant answers one page to everybody, by nothing but what HTTP takes.
type constant struct {
	// A file with the page: Header and Body.
	Page string `json:"page"`

	page constantPage
}

// constantPage is an answer in the file.
type constantPage struct {
	Header http.Header
	Body   []byte
}

// CaddyModule returns the module's name in Caddy.
func (*constant) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_constant", New: func() caddy.Module { return new(constant) }}
}

// Provision reads the page.
func (c *constant) Provision(caddy.Context) error {
	raw, err := os.ReadFile(c.Page)
	if err == nil {
		err = json.Unmarshal(raw, &c.page)
	}
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	return nil
}

func (c *constant) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	h := w.Header()
	for name, values := range c.page.Header {
		h[name] = slices.Clone(values)
	}
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(c.page.Body)
	return err
}

func parseConstant(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := new(constant)
	h.Next() // the directive
	if !h.AllArgs(&c.Page) {
		return nil, h.ArgErr()
	}
	return c, nil
}

// pageSite asks who it is: by two providers, or by email.
const pageSite = "{" + options + `}
http://localhost:{$PORT} {
	bind 127.0.0.1
	login {
		google bench-client {env.BENCH_SECRET}
		github bench-client {env.BENCH_SECRET}
		email
		mail bench_box
		allow users
	}
	reverse_proxy {$APP}
}
`

const constantSite = "{" + options + `}
http://localhost:{$PORT} {
	bind 127.0.0.1
	bench_constant * {$PAGE}
}
`

// The arms' names, as they are reported.
const (
	armPage     = "sign-in page, gate"
	armConstant = "the same bytes, Caddy"
)

// measurePage compares the sign-in page with one that was made before.
func (b *bench) measurePage() error {
	defer b.stop()
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	arms, err := b.pageArms()
	if err != nil {
		return err
	}
	section, err := b.compareArms("the sign-in page", arms, []pair{{of: armPage, to: armConstant}})
	if err != nil {
		return err
	}
	b.results.Sections = append(b.results.Sections, section)
	return nil
}

func (b *bench) pageArms() ([]*arm, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	gate, err := b.startFurther(launch{name: "page", port: ports[0], caddyfile: pageSite, env: []string{"BENCH_SECRET=" + clientSecret}})
	if err != nil {
		return nil, err
	}
	page, err := pageAt(gate.address)
	if err != nil {
		return nil, fmt.Errorf("asking for the sign-in page: %w", err)
	}
	text, err := json.Marshal(page)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "page.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("writing the page: %w", err)
	}
	same, err := b.startFurther(launch{name: "constant", port: ports[1], caddyfile: constantSite, env: []string{"PAGE=" + path}})
	if err != nil {
		return nil, err
	}
	return []*arm{
		{name: armPage, proxy: gate, order: b.pageOrder(gate.address, page)},
		{name: armConstant, proxy: same, order: b.pageOrder(same.address, page)},
	}, nil
}

// pageOrder has strangers ask for the sign-in page.
func (b *bench) pageOrder(address string, page constantPage) order {
	request := fmt.Appendf(nil, chrome, signInPath, address, theme)
	return order{
		Address: address, Requests: slices.Repeat([][]byte{request}, b.conns), Status: "HTTP/1.1 200 ",
		Head: "\r\nContent-Type: " + page.Header.Get("Content-Type") + "\r\n", Length: len(page.Body), Duration: b.length(),
	}
}

const signInPath = "/.login/"

// pageAt is the sign-in page as Chrome gets it, with the headers that are ours:
// what Caddy adds, it adds to a constant one, too.
func pageAt(address string) (page constantPage, err error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+address+signInPath+"?tab=open", nil)
	if err != nil {
		return page, err
	}
	for line := range strings.Lines(chrome) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		if found && !strings.Contains(value, "%") && name != "Connection" {
			r.Header.Set(name, value)
		}
	}
	res, text, err := answered(http.DefaultTransport.RoundTrip(r))
	if err == nil && (res.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("<form"))) {
		err = fmt.Errorf("answered %s %.300s", res.Status, text)
	}
	if err != nil {
		return page, err
	}
	for _, added := range []string{"Date", "Server"} {
		res.Header.Del(added)
	}
	return constantPage{res.Header, text}, nil
}

// Interface guards
var (
	_ caddy.Module                = (*constant)(nil)
	_ caddy.Provisioner           = (*constant)(nil)
	_ caddyhttp.MiddlewareHandler = (*constant)(nil)
)
