package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// The parts that run in processes of their own.
const (
	roleApp   = "app"
	roleLoad  = "load"
	roleProxy = "proxy"
)

// roleVariable tells a process which part it plays. Without it, it is the one
// who starts the others.
const roleVariable = "LOGIN_BENCH_ROLE"

// play is the whole life of such a process. It reports whether this is one.
func play() bool {
	parts := map[string]func() http.Handler{roleApp: appControl, roleLoad: loadControl, roleProxy: proxyControl}
	control, found := parts[os.Getenv(roleVariable)]
	if !found {
		return false
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "listening for control:", err)
		os.Exit(1)
	}
	server := &http.Server{Handler: control(), ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l)
	fmt.Println(l.Addr())
	if os.Getenv(roleVariable) == roleProxy {
		go dieWithParent()
		runCaddy()
		return true
	}
	dieWithParent()
	return true
}

// dieWithParent ends the process when its standard input does: also where the
// one who started it was killed.
func dieWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// process is a part at work.
type process struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	control string
	gone    chan struct{} // closed once it has ended
}

// startProcess starts a part on these processors. Its log goes to the file.
func startProcess(role string, on mask, log string, env ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(append(os.Environ(), env...), roleVariable+"="+role)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := begin(cmd, on, log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", role, err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go p.wait()
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("starting %s, see %s: %w", role, log, err)
	}
	p.control = "http://" + strings.TrimSpace(line)
	return p, nil
}

// begin starts a process; wait must be called then.
func begin(cmd *exec.Cmd, on mask, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	defer out.Close()
	cmd.Stderr = out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &process{cmd: cmd, stdin: stdin, gone: make(chan struct{})}, startOn(cmd, on)
}

func (p *process) wait() {
	_ = p.cmd.Wait() // it ends by our signal, or its log says why
	close(p.gone)
}

// ask puts a question to a part. Both question and answer are JSON.
func (p *process) ask(path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("asking %s: %w", path, err)
	}
	res, err := http.Post(p.control+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return fmt.Errorf("asking %s: %s: %s", path, res.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(answer)
}

// answers makes a handler of what answers one question.
func answers[Q, A any](answer func(Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var question Q
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := answer(question)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(a)
	}
}

// stop lets the part end as an operator would, and does not wait for ever.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.gone
	p.stdin.Close()
}
