package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// weight is a process's memory in MB (1 MB = 2^20 bytes).
type weight struct {
	Resident  float64 `json:"resident"`
	Anonymous float64 `json:"anonymous"`
}

// What is weighed.
const (
	weightStock = "Caddy without us"
	weightPlain = "this program, without a gate"
	weightGate  = "this program, with the gate"
)

// stockCaddy is Caddy as its authors build it.
const stockCaddy = "github.com/caddyserver/caddy/v2/cmd/caddy"

// weigh compares idle proxies, each as it is a while after it was started.
func (b *bench) weigh() error {
	stock, err := b.startStock()
	if err != nil {
		return err
	}
	defer stock.stop()
	time.Sleep(b.idle)
	for name, p := range map[string]*process{weightStock: stock, weightPlain: b.plain.process, weightGate: b.gate.process} {
		resident, anonymous := memory(p.cmd.Process.Pid)
		b.results.Memory[name] = weight{float64(resident) / (1 << 20), float64(anonymous) / (1 << 20)}
	}
	return nil
}

// startStock builds Caddy without us and starts it: what we link in weighs
// something, too, also where it does nothing.
func (b *bench) startStock() (*process, error) {
	program := filepath.Join(b.dir, "stock")
	if out, err := exec.Command("go", "build", "-o", program, stockCaddy).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	config := filepath.Join(b.dir, "stock.caddyfile")
	if err := os.WriteFile(config, []byte(plainSite), 0o600); err != nil {
		return nil, fmt.Errorf("writing Caddyfile: %w", err)
	}
	cmd := exec.Command(program, "run", "--config", config, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), b.proxyEnv(b.ports.stock, fmt.Sprintf("PORT2=%d", b.ports.stockRedirect))...)
	p, err := begin(cmd, mask{}, filepath.Join(b.dir, "stock.log"))
	if err != nil {
		return nil, fmt.Errorf("starting Caddy: %w", err)
	}
	go p.wait()
	if err := p.serves(b.ports.stock); err != nil {
		p.stop()
		return nil, fmt.Errorf("starting Caddy: %w", err)
	}
	return p, nil
}

func (r *results) printMemory(w io.Writer) {
	if len(r.Memory) == 0 {
		return
	}
	fmt.Fprintf(w, "\nIDLE MEMORY, MB\tresident\tof it no file's\n")
	for _, name := range []string{weightStock, weightPlain, weightGate} {
		fmt.Fprintf(w, "  %s\t%.1f\t%.1f\n", name, r.Memory[name].Resident, r.Memory[name].Anonymous)
	}
}
