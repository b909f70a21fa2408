package module

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/header"
)

// field is one identity header.
type field struct {
	name string
	// template is what it says: text, and {words} that stand for what is known
	// of the person.
	template string
	kind     kind

	preset string              // that wrote it; empty: the operator did
	value  func(*known) string // of the template
}

// kind says who is told a field, and when it is made. A value that does not
// last as long as a session, such as a signature that expires, needs a kind of
// its own.
type kind int

const (
	// forApp is rendered once for a session and sent with every request.
	forApp kind = iota
	// forCheck is for another proxy, in the answer to its question whether
	// somebody may pass. The app behind this site never sees it.
	forCheck
	// signed is the assertion: the same in every header that carries it.
	signed
)

// presets are the header sets known from other gates, as far as an app can
// tell. Where a gate sends an empty header, we send none; where one joins
// names by commas, a comma within a name is encoded: a group that somebody
// else may name must not become two.
var presets = map[string][]field{
	"remote": {
		{name: "Remote-User", template: "{id}"},
		{name: "Remote-Email", template: "{email}"},
		{name: "Remote-Name", template: "{name}"},
		{name: "Remote-Groups", template: "{groups}"},
		{name: "Remote-Roles", template: "{roles}"},
		{name: "Remote-Assertion", kind: signed},
	},
	// https://www.authelia.com/integration/trusted-header-sso/introduction/
	// Its Remote-User is a login name, which apps keep people by.
	"authelia": {
		{name: "Remote-User", template: "{username}"},
		{name: "Remote-Email", template: "{email}"},
		{name: "Remote-Name", template: "{name}"},
		{name: "Remote-Groups", template: "{groups}"},
	},
	// https://github.com/oauth2-proxy/oauth2-proxy/blob/master/pkg/apis/options/legacy_options.go
	// Its user is the provider's `sub`, and with prefer_email_to_user the
	// address.
	"oauth2-proxy": {
		{name: "X-Forwarded-User", template: "{id}"},
		{name: "X-Forwarded-Email", template: "{email}"},
		{name: "X-Forwarded-Groups", template: "{groups}"},
		{name: "X-Forwarded-Preferred-Username", template: "{username}"},
		{name: "X-Auth-Request-User", template: "{id}", kind: forCheck},
		{name: "X-Auth-Request-Email", template: "{email}", kind: forCheck},
		{name: "X-Auth-Request-Groups", template: "{groups}", kind: forCheck},
		{name: "X-Auth-Request-Preferred-Username", template: "{username}", kind: forCheck},
	},
	// https://www.pomerium.com/docs/reference/jwt-claim-headers
	// The claims that it has for everybody; `user` and `sub` are the same.
	"pomerium": {
		{name: "X-Pomerium-Claim-Sub", template: "{id}"},
		{name: "X-Pomerium-Claim-User", template: "{id}"},
		{name: "X-Pomerium-Claim-Email", template: "{email}"},
		{name: "X-Pomerium-Claim-Name", template: "{name}"},
		{name: "X-Pomerium-Claim-Groups", template: "{groups}"},
		{name: "X-Pomerium-Jwt-Assertion", kind: signed},
	},
	// https://developers.cloudflare.com/cloudflare-one/access-controls/applications/http-apps/authorization-cookie/validating-json/
	"cloudflare": {
		{name: "Cf-Access-Authenticated-User-Email", template: "{email}"},
		{name: "Cf-Access-Jwt-Assertion", kind: signed},
	},
	// https://docs.cloud.google.com/iap/docs/identity-howto
	"iap": {
		{name: "X-Goog-Authenticated-User-Email", template: "accounts.google.com:{email}"},
		{name: "X-Goog-Authenticated-User-Id", template: "accounts.google.com:{id}"},
		{name: "X-Goog-Iap-Jwt-Assertion", kind: signed},
	},
}

// PresetNames are the words `headers` takes.
func PresetNames() []string { return slices.Sorted(maps.Keys(presets)) }

func names(fields []field) (names []string) {
	for _, f := range fields {
		names = append(names, f.name)
	}
	return names
}

// fieldNamed is the field that some server could take for name, or nil.
func fieldNamed(fields []field, name string) *field {
	i := slices.IndexFunc(fields, func(f field) bool { return header.Alike(f.name, name) })
	if i < 0 {
		return nil
	}
	return &fields[i]
}

// fields are the headers that the app is told, or an error for words we do not
// know and for what contradicts itself. A header that the operator wrote
// replaces a preset's of that name.
func (h *Headers) fields() ([]field, error) {
	own, err := h.own()
	if err != nil {
		return nil, err
	}
	fields, err := h.chosen(own, false)
	if err != nil {
		return nil, err
	}
	return parsed(append(fields, own...))
}

// checkFields are what another proxy is told besides.
func (h *Headers) checkFields() ([]field, error) {
	own, err := h.own()
	if err != nil {
		return nil, err
	}
	fields, err := h.chosen(own, true)
	if err != nil {
		return nil, err
	}
	return parsed(fields)
}

func parsed(fields []field) (_ []field, err error) {
	for i, f := range fields {
		if fields[i].value, err = parseTemplate(f.template); err != nil {
			return nil, fmt.Errorf("header %s: %w", f.name, err)
		}
	}
	return fields, nil
}

// own are the headers that the operator wrote. One in two spellings would
// leave it to the app which of them counts.
func (h *Headers) own() (fields []field, err error) {
	for _, name := range slices.Sorted(maps.Keys(h.Set)) {
		if other := fieldNamed(fields, name); other != nil {
			return nil, fmt.Errorf("headers %s and %s are one to many apps: write one of them", other.name, name)
		}
		fields = append(fields, field{name: name, template: h.Set[name], kind: forApp})
	}
	return fields, nil
}

// chosen are the headers of the presets, for another proxy's question or for the
// app, but those that own replaces. Presets may share a header if they agree on
// it.
func (h *Headers) chosen(own []field, check bool) (fields []field, err error) {
	for _, name := range h.Presets {
		preset, found := presets[name]
		if !found {
			return nil, fmt.Errorf("unknown headers preset %q (presets: %s)", name, strings.Join(PresetNames(), ", "))
		}
		for _, f := range preset {
			if (f.kind == forCheck) != check || fieldNamed(own, f.name) != nil {
				continue
			}
			f.preset = name
			if fields, err = agree(fields, f); err != nil {
				return nil, err
			}
		}
	}
	return fields, nil
}

// agree adds a preset's header to those of others.
func agree(fields []field, f field) ([]field, error) {
	other := fieldNamed(fields, f.name)
	switch {
	case other == nil:
		return append(fields, f), nil
	case other.template == f.template:
		return fields, nil
	default:
		return nil, fmt.Errorf("headers presets %s and %s disagree on %s (%s or %s): choose one of them, or say which in their block: %[3]s %[4]s",
			other.preset, f.preset, f.name, other.template, f.template)
	}
}

// headerWords is what may stand in braces.
const headerWords = "{id}, {username}, {email}, {name}, {groups}, {roles}, {provider}, {session}, {subject:<provider>}"

// parseTemplate reads a header's value.
func parseTemplate(template string) (func(*known) string, error) {
	var parts []string // text and word by turns
	for rest := template; ; {
		text, after, open := strings.Cut(rest, "{")
		parts = append(parts, text)
		if !open {
			break
		}
		word, after, closed := strings.Cut(after, "}")
		if _, found := blank().headerWord(word); !closed || !found {
			return nil, fmt.Errorf("unknown {%s} (choose %s)", word, headerWords)
		}
		parts, rest = append(parts, word), after
	}
	return func(k *known) string { return k.fill(parts) }, nil
}

// checkSubjects refuses headers that name a provider which the site does not
// offer: they would never be sent.
func checkSubjects(fields []field, offered []string) error {
	for _, f := range fields {
		for _, from := range strings.Split(f.template, "{subject:")[1:] {
			if provider, _, _ := strings.Cut(from, "}"); !slices.Contains(offered, provider) {
				return fmt.Errorf("header %s: {subject:%s}: this site offers %s", f.name, provider, strings.Join(offered, ", "))
			}
		}
	}
	return nil
}

// fill puts what is known into a parsed template. With words that are all
// empty it says nothing.
func (k *known) fill(parts []string) string {
	if len(parts) == 3 && parts[0]+parts[2] == "" {
		word, _ := k.headerWord(parts[1]) // as most are: there is nothing to copy
		return word
	}
	var b strings.Builder
	said := len(parts) == 1
	for i, part := range parts {
		if i%2 == 1 {
			part, _ = k.headerWord(part)
			said = said || part != ""
		}
		b.WriteString(part)
	}
	if !said {
		return ""
	}
	return b.String()
}

// headerWord is a word as a header can carry it, and whether there is such a
// word. Lists are encoded already.
func (k *known) headerWord(name string) (value string, found bool) {
	if provider, is := strings.CutPrefix(name, "subject:"); is {
		return header.Text(k.subject(provider)), guest.CheckName(provider) == nil
	}
	if name == "username" {
		return header.Text(k.username()), true
	}
	word, found := k.word(name)
	text, _ := word.(string)
	if name == "groups" || name == "roles" {
		return text, found
	}
	return header.Text(text), found
}

// username is what an app may keep somebody by where it wants a name that
// people can read: the address, which is proven and nobody else's, or else the
// ID, which is never an address. A display name would not do: anybody could
// choose an administrator's.
func (k *known) username() string { return cmp.Or(k.visitor.Email, k.visitor.UserID) }

// subject is the provider's own name for the account that somebody came in by.
// It is empty for those who came in by another provider: two of them may give
// one name to two people.
func (k *known) subject(provider string) string {
	if k.visitor.Provider == provider {
		return k.account
	}
	return ""
}
