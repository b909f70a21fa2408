package module

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/backchannel"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/limit"
	"github.com/caddy-login/caddy-login/module/seal"
)

func init() { caddy.RegisterModule(App{}) }

// App is the Caddy app "login": what all sites share.
type App struct {
	// Defaults for every site. What a site says itself wins.
	Settings

	// Where sessions and people are kept: a module in the namespace
	// login.stores. Default: `badger`, in the directory `login` below Caddy's
	// data directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=login.stores inline_key=store"`

	// Ways in that sites may offer, in the order in which they are offered:
	// modules in the namespace login.providers.
	ProvidersRaw []json.RawMessage `json:"providers,omitempty" caddy:"namespace=login.providers inline_key=provider"`

	// The private key that signs what apps are told (Remote-Assertion): EC P-256
	// in PEM, best as {file./path}. It is never rotated. Default: one of our own,
	// made on first start, kept in the store and rotated every 90 days.
	SigningKey string `json:"signing_key,omitempty"`

	ctx       caddy.Context
	log       *zap.Logger
	events    *caddyevents.App
	providers []guest.Method
	door      *door
	signer    *seal.Signer // of SigningKey; nil: the store's
	gates     []*Gate
	noise     *limit.Limit // of the log, by network
	failures  *limit.Limit // of renewals, in the log: strangers must not silence them
}

// What one network, and all together, may have written into the log about
// sign-ins that could not begin and requests that something of ours failed: a
// company whose provider is down, and a flood no more than that. The metrics
// count all.
const (
	noiseBurst = 100
	noiseEvery = time.Second
)

// CaddyModule returns the module's name in Caddy.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login", New: func() caddy.Module { return new(App) }}
}

// Provision loads the guests. It touches neither disk nor network: `caddy
// validate` runs it beside a running Caddy.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.log = ctx, ctx.Logger()
	a.noise = &limit.Limit{Burst: noiseBurst, Every: noiseEvery}
	a.failures = &limit.Limit{Burst: noiseBurst, Every: noiseEvery}
	if err := a.Settings.provision(ctx); err != nil {
		return err
	}
	var err error
	if a.providers, err = loadProviders(ctx, a, len(a.ProvidersRaw)); err != nil {
		return err
	}
	if err := a.loadStore(); err != nil {
		return err
	}
	if err := a.useKey(); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading events app: %w", err)
	}
	a.events = events.(*caddyevents.App)
	registerMetrics(ctx)
	return nil
}

func (a *App) loadStore() error {
	if a.StoreRaw == nil {
		a.StoreRaw = json.RawMessage(`{"store":"badger"}`)
	}
	loaded, err := a.ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return fmt.Errorf("loading store: %w", err)
	}
	store, ok := loaded.(guest.StoreModule)
	if !ok {
		return fmt.Errorf("loading store: %T is no store", loaded)
	}
	a.door = &door{key: store.Key(), now: time.Now, open: func() (caddy.Destructor, error) {
		return openHouse(store, a.houseEnv())
	}}
	return nil
}

// envOf is what the guests of one config are lent.
func envOf(ctx caddy.Context) guest.Env {
	return guest.Env{Client: backchannel.Client, Now: time.Now, Log: ctx.Slogger()}
}

// houseEnv is what the store is lent. It outlives this config, and so does its
// log.
func (a *App) houseEnv() guest.Env {
	env := envOf(a.ctx)
	env.Log = slog.New(caddySlog{})
	return env
}

// longestSession is the longest any site's session may live.
func (a *App) longestSession() time.Duration {
	longest := defaultLifetime
	for _, g := range a.gates {
		longest = max(longest, time.Duration(g.settings.Session.Lifetime))
	}
	return longest
}

// Start opens the store here rather than in Provision, so that `caddy
// validate` works beside a running Caddy.
//
// A store that cannot be opened does not keep a fresh Caddy from starting:
// public paths work, the others get 503 until it can. A reload that would lose
// a working one is refused.
func (a *App) Start() error {
	house, err := a.door.enter()
	switch {
	case err == nil:
		house.expect(a.longestSession())
	case running():
		return err
	default:
		a.log.Error("store does not open; protected paths answer 503 until it does", zap.Error(err))
	}
	a.tellCallbacks()
	go a.housework(a.ctx)
	return nil
}

// running reports whether an earlier config of this process holds a store.
func running() (found bool) {
	houses.Range(func(any, any) bool { found = true; return false })
	return found
}

// Stop gives the store back. It stays open where a newer config uses it.
func (a *App) Stop() error { return a.door.leave() }

// Cleanup gives back what a request took that came before a Start that never
// did. After `caddy validate`, which starts nothing, it names the callback URLs.
func (a *App) Cleanup() error {
	if a.door == nil {
		return nil
	}
	if a.validated() {
		a.tellCallbacks()
	}
	if a.Settings.post != nil {
		a.Settings.post.close()
	}
	return a.door.leave()
}

// loadProviders loads the guests of a struct's field ProvidersRaw.
func loadProviders(ctx caddy.Context, owner any, count int) ([]guest.Method, error) {
	if count == 0 {
		return nil, nil
	}
	loaded, err := ctx.LoadModule(owner, "ProvidersRaw")
	if err != nil {
		return nil, fmt.Errorf("loading providers: %w", err)
	}
	var providers []guest.Method
	for _, one := range loaded.([]any) {
		provider, ok := one.(guest.Method)
		if !ok {
			return nil, fmt.Errorf("loading providers: %T is no provider", one)
		}
		env, meter := envOf(ctx), new(meter)
		env.Client = meter.client
		if err := provider.Open(env); err != nil {
			return nil, fmt.Errorf("provider %s: %w", cmp.Or(provider.Traits().Name, "without a name"), err)
		}
		meter.belongsTo(provider.Traits().Name)
		providers = append(providers, provider)
	}
	return providers, distinct(providers)
}

// distinct refuses names that would hide each other.
func distinct(providers []guest.Method) error {
	seen := make(map[string]bool)
	for _, p := range providers {
		name := p.Traits().Name
		if err := guest.CheckName(name); err != nil {
			return fmt.Errorf("provider: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("two providers are called %q: give one another name", name)
		}
		seen[name] = true
	}
	return nil
}

// mayTell reports whether the log may hear of one more thing that whoever comes
// along can cause.
func (a *App) mayTell(r *http.Request) bool {
	now := time.Now()
	return a.noise.Allow(clientIP(r.Context()), now) && a.noise.Allow("", now)
}

// Interface guards
var (
	_ caddy.Module       = (*App)(nil)
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
