package module

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/backchannel"
)

// labels are the providers that metrics tell apart.
var labels providerLabels

// providerLabels are the names of the configs of this process, of which there
// may be many: the first maxProviderLabels have series of their own.
type providerLabels struct {
	mu    sync.RWMutex
	known map[string]bool
}

const maxProviderLabels = 256

// learn is told of a name that a config gave to a provider.
func (l *providerLabels) learn(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]bool{}
	}
	if len(l.known) < maxProviderLabels && !l.known[name] {
		l.known[name] = true
		showZeroes(name)
	}
}

// of is the label for a provider: "other" for a name that no config gave, which
// may be a guest's invention, and empty where there is no provider.
func (l *providerLabels) of(name string) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if name == "" || l.known[name] {
		return name
	}
	return "other"
}

// meter watches the calls of one provider.
type meter struct {
	name atomic.Pointer[string] // nil until the guest is open: then it may call
}

// client is guest.Env.Client.
func (m *meter) client(operatorURLs ...string) *http.Client {
	return backchannel.Network{Watch: m.count}.Client(operatorURLs...)
}

func (m *meter) count(call backchannel.Call, took time.Duration, flaw backchannel.Flaw) {
	name := m.name.Load()
	if name == nil {
		return
	}
	label := labels.of(*name)
	calls.WithLabelValues(label, string(call)).Observe(took.Seconds())
	if flaw != backchannel.Flawless {
		flaws.WithLabelValues(label, string(call), string(flaw)).Inc()
	}
}

// belongsTo says whose calls they are.
func (m *meter) belongsTo(name string) {
	labels.learn(name)
	m.name.Store(&name)
}
