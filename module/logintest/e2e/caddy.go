package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// Caddy is a real Caddy process with a data directory of its own, which
// outlives the process: Stop or Kill it, and Start goes on with the same data.
type Caddy struct {
	// Port and Port2 are free for the sites, AdminPort is the admin API's.
	Port, Port2, AdminPort int

	httpPort int

	// Env are further variables of the process. In a Caddyfile {$PORT},
	// {$PORT2} and these stand for their values.
	Env map[string]string

	t         testing.TB
	program   string
	dir       string
	caddyfile string
	process   *exec.Cmd
	ended     chan struct{}
	log       *logFile
	mayShow   string // why the log may show secrets; empty: it may not
}

// NewCaddy prepares a Caddy of program (see Build) without starting it, so
// that its ports are known to those who need them first.
func NewCaddy(t testing.TB, program string) *Caddy {
	t.Helper()
	c := &Caddy{
		Port: FreePort(t), Port2: FreePort(t), AdminPort: FreePort(t), httpPort: FreePort(t),
		Env: map[string]string{}, t: t, program: program, dir: t.TempDir(), log: newLogFile(t),
	}
	t.Cleanup(c.finish)
	return c
}

// DataDir is where Caddy keeps its data.
func (c *Caddy) DataDir() string { return filepath.Join(c.dir, "data", "caddy") }

// Start runs Caddy with this Caddyfile and returns when it serves. The
// harness adds global options: admin address, JSON log, certificates of its
// own and no other.
func (c *Caddy) Start(caddyfile string) *Caddy {
	c.t.Helper()
	c.write(caddyfile)
	return c.Restart()
}

// Restart runs Caddy again with the Caddyfile it had last.
func (c *Caddy) Restart() *Caddy {
	c.t.Helper()
	if c.process != nil {
		c.t.Fatal("Caddy runs already")
	}
	c.process = c.command("run", "--config", c.file(), "--adapter", "caddyfile")
	c.process.Stderr = c.log.file
	c.ended = make(chan struct{})
	if err := c.process.Start(); err != nil {
		c.t.Fatalf("starting Caddy: %v", err)
	}
	go func(process *exec.Cmd, ended chan struct{}) {
		_ = process.Wait() // how it ended is in the log
		close(ended)
	}(c.process, c.ended)
	c.awaitReady()
	return c
}

// Reload runs `caddy reload` with this Caddyfile.
func (c *Caddy) Reload(caddyfile string) *Caddy {
	c.t.Helper()
	if out, err := c.TryReload(caddyfile); err != nil {
		c.t.Fatalf("reloading Caddy: %v\n%s", err, out)
	}
	c.awaitCertificates()
	return c
}

// TryReload is Reload for a Caddyfile that may be refused; it returns what
// the command printed.
func (c *Caddy) TryReload(caddyfile string) (string, error) {
	c.t.Helper()
	c.write(caddyfile)
	return c.Command("reload", "--config", c.file(), "--adapter", "caddyfile",
		"--address", c.admin(), "--force")
}

// Command runs the program's sub-command with Caddy's environment and returns
// what it printed.
func (c *Caddy) Command(args ...string) (string, error) {
	out, err := c.command(args...).CombinedOutput()
	return string(out), err
}

// Stop ends Caddy as an operator does, and waits.
func (c *Caddy) Stop() { c.t.Helper(); c.end(syscall.SIGTERM) }

// Kill ends Caddy with SIGKILL, and waits.
func (c *Caddy) Kill() { c.t.Helper(); c.end(syscall.SIGKILL) }

// Log is everything Caddy has written to its standard error.
func (c *Caddy) Log() string {
	c.t.Helper()
	text, err := c.log.read()
	if err != nil {
		c.t.Errorf("reading Caddy's log: %v", err)
	}
	return text
}

// Logs are the log lines that are JSON objects.
func (c *Caddy) Logs() []map[string]any {
	var entries []map[string]any
	for line := range strings.Lines(c.Log()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil {
			entries = append(entries, entry)
		}
	}
	return entries
}

// LogKeepsSecret fails the test if one of the secrets stands in the log.
func (c *Caddy) LogKeepsSecret(secrets ...string) {
	c.t.Helper()
	for line := range strings.Lines(c.Log()) {
		for _, secret := range secrets {
			if len(secret) < 6 {
				c.t.Fatalf("%q is too short to be looked for", secret)
			}
			if strings.Contains(line, secret) {
				c.t.Errorf("the log shows %.12s…:\n%s", secret, line)
			}
		}
	}
}

// LogMayShowSecrets lets this Caddy's log show what the test's players gave out,
// for a reason: by default none of it may stand there in the end.
func (c *Caddy) LogMayShowSecrets(why string) { c.mayShow = why }

// keepsSecrets fails the test for what stands in the log that the players of the
// test gave out: providers their codes and tokens, mails their codes and links,
// sites their states and cookies.
func (c *Caddy) keepsSecrets() {
	if c.mayShow != "" {
		c.t.Logf("the log may show secrets: %s", c.mayShow)
		return
	}
	for _, line := range secrets.Shown(c.t, c.Log()) {
		c.t.Errorf("the log shows %.2000s", line)
	}
}

func (c *Caddy) end(signal os.Signal) {
	c.t.Helper()
	if c.process == nil {
		return
	}
	_ = c.process.Process.Signal(signal) // it may have ended by itself
	select {
	case <-c.ended:
	case <-time.After(Patience):
		_ = c.process.Process.Kill()
		<-c.ended
		c.t.Errorf("Caddy did not end within %s of %s", Patience, signal)
	}
	c.process = nil
}

// races are the race detector's reports. One that has none of our code in it is
// not ours to mend.
var races = regexp.MustCompile(`(?s)WARNING: DATA RACE.*?={18}`)

const ours = "caddy-login/caddy-login/"

// finish is the end of every test: a data race of ours, a panic anywhere in
// Caddy, or a secret in its log fails it, and a failed test shows how the log
// ends.
func (c *Caddy) finish() {
	c.end(syscall.SIGTERM)
	c.keepsSecrets()
	log := c.Log()
	for _, bad := range []string{"panic:", "fatal error:"} {
		if at := strings.Index(log, bad); at >= 0 {
			c.t.Errorf("Caddy: %.6000s", log[at:])
		}
	}
	for _, race := range races.FindAllString(log, -1) {
		// Caddy has one of its own, between its TLS app's start and its events.
		if strings.Contains(race, ours) {
			c.t.Errorf("Caddy: %.6000s", race)
		}
	}
	if c.t.Failed() {
		c.t.Logf("the end of Caddy's log:\n%s", log[max(0, len(log)-12_000):])
	}
}

func (c *Caddy) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.program, args...)
	cmd.Dir = c.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + c.dir,
		"XDG_DATA_HOME=" + filepath.Join(c.dir, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(c.dir, "config"),
		fmt.Sprintf("PORT=%d", c.Port),
		fmt.Sprintf("PORT2=%d", c.Port2),
	}
	for name, value := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	dieWithUs(cmd)
	return cmd
}

func (c *Caddy) awaitReady() {
	c.t.Helper()
	Eventually(c.t, Patience, "Caddy to start", func() bool {
		select {
		case <-c.ended:
			c.t.Fatalf("Caddy ended at once:\n%s", c.Log())
		default:
		}
		res, err := http.Get("http://" + c.admin() + "/config/apps/http")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	c.awaitCertificates()
}

var secureSite = regexp.MustCompile(`https://([\w.-]+):\{\$(PORT2?)\}`)

// awaitCertificates waits for the sites written as https://name:{$PORT}:
// Caddy makes their certificates while it serves already.
func (c *Caddy) awaitCertificates() {
	c.t.Helper()
	ports := map[string]int{"PORT": c.Port, "PORT2": c.Port2}
	for _, site := range secureSite.FindAllStringSubmatch(c.caddyfile, -1) {
		Eventually(c.t, Patience, "a certificate for "+site[1], func() bool {
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[site[2]]),
				&tls.Config{ServerName: site[1], InsecureSkipVerify: true})
			if err != nil {
				return false
			}
			conn.Close()
			return true
		})
	}
}

func (c *Caddy) admin() string { return fmt.Sprintf("127.0.0.1:%d", c.AdminPort) }

func (c *Caddy) file() string { return filepath.Join(c.dir, "Caddyfile") }

func (c *Caddy) write(caddyfile string) {
	c.t.Helper()
	c.caddyfile = caddyfile
	if err := os.WriteFile(c.file(), []byte(c.withGlobals(caddyfile)), 0o600); err != nil {
		c.t.Fatalf("writing the Caddyfile: %v", err)
	}
}

// withGlobals puts the harness's global options into the Caddyfile's own
// block of them, or one before it. Ports 80 and 443 are never touched. Storage is
// not tidied: as it starts, Caddy may remove the folder that it is about to put
// its first certificate into, and tries again after a minute.
func (c *Caddy) withGlobals(caddyfile string) string {
	globals := fmt.Sprintf(`
	admin %s
	default_bind 127.0.0.1
	http_port %d
	https_port %d
	auto_https disable_redirects
	local_certs
	skip_install_trust
	storage_clean_interval off
	grace_period 2s
	log default {
		output stderr
		format json
	}
`, c.admin(), c.httpPort, c.Port)
	caddyfile = strings.TrimSpace(caddyfile)
	if own, ok := strings.CutPrefix(caddyfile, "{\n"); ok {
		return "{" + globals + own + "\n"
	}
	return "{" + globals + "}\n" + caddyfile + "\n"
}

// recorder is a buffer that is written and read at the same time.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// take returns what was written since the last take, and keeps none of it.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.buf.Reset()
	return r.buf.String()
}
