package provider

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Address is a setting that is a URL.
type Address struct {
	Word  string // in the Caddyfile and in errors
	To    *string
	Check func(string) error // CheckURL or CheckIssuer
}

// Addresses are the settings of a block that are URLs. They are a Part.
type Addresses []Address

// Consume reads one option that is a URL; see Part. What holds a placeholder
// is checked once that is replaced.
func (a Addresses) Consume(d *caddyfile.Dispenser) (bool, error) {
	for _, one := range a {
		if one.Word == d.Val() {
			return true, Checked(d, one.To, func(value string) error {
				if HasPlaceholder(value) {
					return nil
				}
				return one.valid(value)
			})
		}
	}
	return false, nil
}

// Words lists the options that are URLs.
func (a Addresses) Words() []string {
	var words []string
	for _, one := range a {
		words = append(words, one.Word)
	}
	return words
}

// Resolve replaces the placeholders of those that are written, in place, and
// checks them.
func (a Addresses) Resolve() error {
	for _, one := range a {
		if *one.To == "" {
			continue
		}
		value, err := Placeholders(one.Word, *one.To)
		if err != nil {
			return err
		}
		if err := one.valid(value); err != nil {
			return err
		}
		*one.To = value
	}
	return nil
}

// Given lists those that are written.
func (a Addresses) Given() []string {
	var list []string
	for _, one := range a {
		if *one.To != "" {
			list = append(list, *one.To)
		}
	}
	return list
}

func (a Address) valid(value string) error {
	if err := a.Check(value); err != nil {
		return fmt.Errorf("%s: %w", a.Word, err)
	}
	return nil
}

var _ Part = Addresses(nil)
