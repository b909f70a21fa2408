package module

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-login/caddy-login/module/header"
)

// field is one identity header: its name, and the parts its value is made of.
type field struct {
	name  string
	value func(*known) string
}

func names(fields []field) (names []string) {
	for _, f := range fields {
		names = append(names, f.name)
	}
	return names
}

// presets are the header sets known from other gates.
var presets = map[string][]field{
	"remote": {
		{"Remote-User", func(k *known) string { return header.Text(k.visitor.UserID) }},
		{"Remote-Email", func(k *known) string { return header.Text(k.visitor.Email) }},
		{"Remote-Name", func(k *known) string { return header.Text(k.live.Person.User.Name) }},
		{"Remote-Groups", func(k *known) string { return header.List(k.visitor.Groups) }},
		{"Remote-Roles", func(k *known) string { return header.List(k.visitor.Roles) }},
	},
}

// PresetNames are the words `headers` takes.
func PresetNames() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fields are the headers to send, or an error for a word we do not know.
func (h *Headers) fields() (fields []field, err error) {
	for _, name := range h.Presets {
		preset, found := presets[name]
		if !found {
			return nil, fmt.Errorf("unknown headers preset %q (presets: %s)", name, strings.Join(PresetNames(), ", "))
		}
		fields = append(fields, preset...)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Set)) {
		value, err := parseTemplate(h.Set[name])
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		fields = append(fields, field{name, value})
	}
	return fields, nil
}

// parseTemplate reads a header's value: text, and {words} that stand for what
// is known of the person.
func parseTemplate(template string) (func(*known) string, error) {
	var parts []string // text and word by turns
	for rest := template; ; {
		text, after, open := strings.Cut(rest, "{")
		parts = append(parts, text)
		if !open {
			break
		}
		word, after, closed := strings.Cut(after, "}")
		if _, found := blank().word(word); !closed || !found {
			return nil, fmt.Errorf("unknown {%s} (choose {id}, {email}, {name}, {groups}, {roles}, {provider}, {session})", word)
		}
		parts, rest = append(parts, word), after
	}
	return func(k *known) string { return k.fill(parts) }, nil
}

// fill puts what is known into a parsed template. With words that are all
// empty it says nothing.
func (k *known) fill(parts []string) string {
	var b strings.Builder
	said := len(parts) == 1
	for i, part := range parts {
		if i%2 == 1 {
			part = k.headerWord(part)
			said = said || part != ""
		}
		b.WriteString(part)
	}
	if !said {
		return ""
	}
	return b.String()
}

// headerWord is a word as a header can carry it. Lists are encoded already.
func (k *known) headerWord(name string) string {
	value, _ := k.word(name)
	text, _ := value.(string)
	if name == "groups" || name == "roles" {
		return text
	}
	return header.Text(text)
}
