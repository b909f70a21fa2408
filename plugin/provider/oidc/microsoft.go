package oidc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Microsoft signs people in with a work, school or personal account of
// Microsoft's (Entra ID).
//
//	microsoft [<id> <secret>] {
//		tenant common|organizations|consumers|<id>
//		allowed_tenants <id...>
//	}
//
// Without id and secret they are taken from MICROSOFT_CLIENT_ID and
// MICROSOFT_CLIENT_SECRET.
//
// The administrator of any tenant can write any address into an account there
// (nOAuth). So an address counts only where Microsoft says that its domain's
// owner verified it: switch on the optional claims `email` and `xms_edov` for
// the ID token of your app registration. And while tenants that you did not
// choose may sign in, a site whose rules name addresses does not load.
//
// Another cloud has another issuer, written as its documents spell it:
// https://login.microsoftonline.us/{tenantid}/v2.0.
type Microsoft struct {
	provider.Options
	Endpoints

	// Whose accounts may sign in: `common` (the default) for work, school and
	// personal accounts of all the world, `organizations` for work and school
	// accounts, `consumers` for personal ones, or the directory (tenant) ID of
	// one organisation, as the overview of its Entra admin center shows it.
	Tenant string `json:"tenant,omitempty"`

	// With `common` or `organizations`: only accounts of the tenants with these
	// IDs may sign in. Default: of every tenant.
	AllowedTenants []string `json:"allowed_tenants,omitempty"`

	party
	tenants
	warned sync.Once
}

// CaddyModule returns the module's ID.
func (*Microsoft) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.microsoft", New: func() caddy.Module { return new(Microsoft) }}
}

var microsoftDefaults = provider.Defaults{
	Name:         "microsoft",
	Label:        "Microsoft",
	ClientID:     "{env.MICROSOFT_CLIENT_ID}",
	ClientSecret: "{env.MICROSOFT_CLIENT_SECRET}",
}

const microsoftIssuer = "https://login.microsoftonline.com/" + anyTenant + "/v2.0"

// UnmarshalCaddyfile reads the block shown at Microsoft.
func (m *Microsoft) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return m.Unmarshal(d, microsoftDefaults, m.option)
}

func (m *Microsoft) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "tenant":
		return provider.Checked(d, &m.Tenant, func(value string) error {
			if provider.HasPlaceholder(value) {
				return nil
			}
			_, err := parseTenant(value)
			return err
		})
	case "allowed_tenants":
		return provider.CheckedTexts(d, &m.AllowedTenants, func(line []string) error {
			_, err := parseTenantIDs(line)
			return err
		})
	default:
		return provider.Rest(d, []string{"tenant", "allowed_tenants"}, &m.Options, &m.Endpoints)
	}
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (m *Microsoft) Provision(caddy.Context) (err error) {
	if m.tenants, err = m.resolveTenants(); err != nil {
		return err
	}
	if err := m.checkOpen(); err != nil {
		return err
	}
	endpoints := m.Endpoints
	endpoints.Issuer = strings.Replace(cmp.Or(m.Issuer, microsoftIssuer), anyTenant, m.choice, 1)
	err = m.party.setUp(settings{options: &m.Options, endpoints: endpoints, clientAuth: "post"}, brand{
		key:          "microsoft",
		defaults:     microsoftDefaults,
		switchPrompt: "select_account",
		anewPrompt:   "login",
		// Microsoft's userinfo knows no more, and its documentation advises to
		// read the ID token.
		skipsUserinfo: true,
		issues:        m.issues,
		signs:         m.signs,
		admit:         m.admit,
		admitsBy:      "tid",
		offline:       offline{scope: true},
		identify:      microsoftSubject,
		proves:        m.proves,
		runsMailbox:   func(provider.Claims, string) bool { return true },
	})
	if err != nil {
		return err
	}
	return m.locate(m.settings.endpoints.Issuer)
}

func (m *Microsoft) resolveTenants() (t tenants, err error) {
	if t.choice, err = provider.Placeholders("tenant", cmp.Or(m.Tenant, "common")); err != nil {
		return t, err
	}
	if t.choice, err = parseTenant(t.choice); err != nil {
		return t, err
	}
	for _, written := range m.AllowedTenants {
		id, err := provider.Placeholders("allowed_tenants", written)
		if err != nil {
			return t, err
		}
		t.allowed = append(t.allowed, id)
	}
	if t.allowed, err = parseTenantIDs(t.allowed); err != nil {
		return t, err
	}
	if len(t.allowed) > 0 && t.choice != "common" && t.choice != "organizations" {
		return t, fmt.Errorf("allowed_tenants chooses among many, and tenant %s is one: remove either line", t.choice)
	}
	return t, nil
}

// locate takes the cloud from its issuer.
func (m *Microsoft) locate(issuer string) error {
	cloud, ok := strings.CutSuffix(issuer, "/"+m.choice+"/v2.0")
	if !ok {
		return fmt.Errorf("issuer: %q has not the form of Microsoft's: write it as %s, with the address of your cloud",
			issuer, microsoftIssuer)
	}
	m.cloud = cloud
	switch m.choice {
	case "common", "organizations":
		m.brand.document = m.issuerOf(anyTenant)
	case "consumers":
		m.brand.document = m.issuerOf(personal)
	}
	return nil
}

const anyAdministrator = "the administrator of any tenant can write any address into an account there (nOAuth): " +
	"write 'tenant <your tenant's id>' or 'allowed_tenants <id...>' in the block of microsoft"

// checkOpen refuses to take a stranger's word: for addresses, and for groups,
// which each tenant names as it likes.
func (m *Microsoft) checkOpen() error {
	switch {
	case !m.isOpen():
		return nil
	case m.EmailTrust == "verified" || m.EmailTrust == "authoritative":
		return fmt.Errorf("email_trust %s: with tenant %s %s", m.EmailTrust, m.choice, anyAdministrator)
	case m.Groups != "":
		return fmt.Errorf("groups %s: with tenant %s anybody can open a tenant and name its groups as yours: "+
			"write 'tenant <your tenant's id>' or 'allowed_tenants <id...>' in the block of microsoft", m.Groups, m.choice)
	default:
		return nil
	}
}

// Traits says how the house treats this provider.
func (m *Microsoft) Traits() guest.Traits {
	traits := m.party.Traits()
	if m.isOpen() {
		traits.Email.Doubt = fmt.Sprintf("with tenant %s %s", m.choice, anyAdministrator)
	}
	return traits
}

// microsoftSubject is the tenant and the account's ID there. `sub` would be
// another for each client ID, and `oid` alone is not one person's: a guest has
// another in each tenant.
func microsoftSubject(c provider.Claims) (string, error) {
	account := c.Text("oid")
	if !uuid.MatchString(account) {
		return "", errors.New("claim oid is missing or no UUID: the scope profile brings it")
	}
	return c.Text("tid") + "." + account, nil
}

// proves goes by what Microsoft says of an address it sends: xms_edov, or the
// lists of those it verified. Neither email_verified, which tenants can fill,
// nor a user name that looks like an address proves anything.
func (m *Microsoft) proves(c provider.Claims, email string) bool {
	if c.Text("email") != email {
		return false
	}
	if slices.Contains([]string{"true", `"true"`, "1", `"1"`}, string(c["xms_edov"])) {
		return true
	}
	for _, list := range []string{"verified_primary_email", "verified_secondary_email"} {
		if verified, ok := c.Texts(list); ok && slices.Contains(verified, email) {
			return true
		}
	}
	if !c.Has("xms_edov") {
		m.warned.Do(func() {
			m.env.Log.Warn("ID tokens have an address and no xms_edov, so no address counts as proven: "+
				"add the optional claims email and xms_edov to the ID token, under Token configuration of the app registration",
				"provider", m.InstanceName())
		})
	}
	return false
}

var (
	_ caddy.Module          = (*Microsoft)(nil)
	_ caddy.Provisioner     = (*Microsoft)(nil)
	_ caddyfile.Unmarshaler = (*Microsoft)(nil)
	_ guest.Provider        = (*Microsoft)(nil)
)
