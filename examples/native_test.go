package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// appOnADeviceSignsInByTheBrowser shows the example at localhost, which is where
// the program finds it without a name server.
func appOnADeviceSignsInByTheBrowser(t *testing.T) {
	program := e2e.BuildPackage(t, "github.com/caddy-login/caddy-login/examples/native")
	google := newGoogle(t)
	s := show(t, "native", replacement{"app.example.com {", "localhost {"},
		replacement{"login google {", "login google {\ngoogle {\nissuer " + google.URL + "\n}"})
	s.awaitCertificate("localhost")
	s.register(google, "google", secrets["GOOGLE_CLIENT_ID"], secrets["GOOGLE_CLIENT_SECRET"], "localhost")
	b := e2e.NewBrowser(t).AllowConsole("/favicon.ico") // the app is gone by then

	refused := s.startNative(program)
	b.Get(refused.address()).See("pick who you want to be").Click("Ada Lovelace").See("asks to be signed in").Click("No, cancel").See("Go back to the app")
	refused.says("they said no")

	app := s.startNative(program)
	b.Get(app.address()).See("Ada Lovelace").Screenshot("native-consent").Click("Continue").See("Go back to the app")
	app.says("You are Ada Lovelace <ada@example.com>")
	app.types("/api/notes").says("Notes of ada@example.com")
	app.types("refresh")
	app.types("/api/notes").says("Notes of ada@example.com")
	app.types("out")
	app.ends()
	b.Get(s.at("localhost", "/api/notes")).See("Notes of ada@example.com")
}

// native is the program, as somebody runs it in a terminal.
type native struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func (s *stage) startNative(program string) *native {
	s.t.Helper()
	n := &native{t: s.t, cmd: exec.Command(program), lines: make(chan string, 100)}
	authority := filepath.Join(s.DataDir(), "pki", "authorities", "local", "root.crt")
	n.cmd.Env = append(os.Environ(), "SITE="+strings.TrimSuffix(s.at("localhost", ""), "/"), "BROWSER=true", "SSL_CERT_FILE="+authority)
	in, err := n.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, pipe := io.Pipe()
	n.in, n.cmd.Stdout, n.cmd.Stderr = in, pipe, pipe
	if err := n.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.lines <- lines.Text()
		}
		close(n.lines)
	}()
	go func() {
		pipe.CloseWithError(n.cmd.Wait()) // nil is its end, as any other
	}()
	s.t.Cleanup(func() { _ = n.cmd.Process.Kill() }) // it may have ended
	return n
}

var signInAt = regexp.MustCompile(`Sign in by your browser: (\S+)`)

// address is what it would have the browser open.
func (n *native) address() string {
	n.t.Helper()
	return signInAt.FindStringSubmatch(n.says("Sign in by your browser"))[1]
}

// says waits for a line with this text.
func (n *native) says(text string) string {
	n.t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case line, open := <-n.lines:
			if strings.Contains(line, text) {
				return line
			}
			if !open {
				n.t.Fatalf("it ended and never said %q", text)
			}
			n.t.Logf("it says %s", line)
		case <-deadline:
			n.t.Fatalf("it never says %q", text)
		}
	}
}

func (n *native) types(line string) *native {
	n.t.Helper()
	if _, err := fmt.Fprintln(n.in, line); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// ends waits for its end, which it comes to with nothing more to say.
func (n *native) ends() {
	n.t.Helper()
	for line := range n.lines {
		n.t.Errorf("it says %s", line)
	}
}
