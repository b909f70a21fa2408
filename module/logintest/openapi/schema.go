package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"
)

// schema is one JSON Schema (draft 2020-12), as far as documents use it here.
type schema struct {
	to *schema // of $ref; nil: there is none

	types      []string
	properties map[string]*schema
	required   []string
	closed     bool // additionalProperties is false
	items      *schema
	oneOf      []*schema
	enum       []any
	constant   *any
	format     string
	pattern    *regexp.Regexp

	minLength, maxLength *int
	minimum, maximum     *float64
	maxItems             *int
}

// check reports why a value is not described.
func (s *schema) check(value any) error {
	if s.to != nil {
		if err := s.to.check(value); err != nil {
			return err
		}
	}
	if len(s.types) > 0 && !slices.ContainsFunc(s.types, func(t string) bool { return isOf(value, t) }) {
		return fmt.Errorf("%.100v is no %v", value, s.types)
	}
	is := func(one any) bool { return reflect.DeepEqual(one, value) }
	switch {
	case s.enum != nil && !slices.ContainsFunc(s.enum, is):
		return fmt.Errorf("%.100v is none of %v", value, s.enum)
	case s.constant != nil && !is(*s.constant):
		return fmt.Errorf("%.100v is not %v", value, *s.constant)
	}
	if err := s.checkOne(value); err != nil {
		return err
	}
	switch value := value.(type) {
	case string:
		return s.checkText(value)
	case json.Number:
		return s.checkNumber(value)
	case []any:
		return s.checkList(value)
	case map[string]any:
		return s.checkObject(value)
	}
	return nil
}

func isOf(value any, kind string) bool {
	switch kind {
	case "null":
		return value == nil
	case "integer":
		n, ok := value.(json.Number)
		_, err := n.Int64()
		return ok && err == nil
	case "number":
		_, ok := value.(json.Number)
		return ok
	}
	switch value.(type) {
	case string:
		return kind == "string"
	case bool:
		return kind == "boolean"
	case []any:
		return kind == "array"
	case map[string]any:
		return kind == "object"
	}
	return false
}

func (s *schema) checkOne(value any) error {
	if s.oneOf == nil {
		return nil
	}
	var errs []error
	for _, one := range s.oneOf {
		if err := one.check(value); err != nil {
			errs = append(errs, err)
		}
	}
	if fit := len(s.oneOf) - len(errs); fit != 1 {
		return fmt.Errorf("%d of the alternatives fit: %w", fit, errors.Join(errs...))
	}
	return nil
}

func (s *schema) checkText(text string) error {
	n := utf8.RuneCountInString(text)
	switch {
	case s.minLength != nil && n < *s.minLength, s.maxLength != nil && n > *s.maxLength:
		return fmt.Errorf("%.100q has %d characters", text, n)
	case s.pattern != nil && !s.pattern.MatchString(text):
		return fmt.Errorf("%.100q does not fit %s", text, s.pattern)
	}
	switch s.format {
	case "date-time":
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || at.Location() != time.UTC {
			return fmt.Errorf("%.100q is no time in UTC", text)
		}
	case "uri":
		u, err := url.Parse(text)
		if err != nil || !u.IsAbs() {
			return fmt.Errorf("%.100q is no address", text)
		}
	}
	return nil
}

func (s *schema) checkNumber(text json.Number) error {
	n, err := text.Float64()
	if err != nil || math.IsInf(n, 0) || s.minimum != nil && n < *s.minimum || s.maximum != nil && n > *s.maximum {
		return fmt.Errorf("%s is out of bounds", text)
	}
	return nil
}

func (s *schema) checkList(list []any) error {
	if s.maxItems != nil && len(list) > *s.maxItems {
		return fmt.Errorf("there are %d of them", len(list))
	}
	if s.items == nil {
		return nil
	}
	for i, one := range list {
		if err := s.items.check(one); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

func (s *schema) checkObject(object map[string]any) error {
	for _, name := range s.required {
		if _, ok := object[name]; !ok {
			return fmt.Errorf("%s is missing", name)
		}
	}
	for name, value := range object {
		property, ok := s.properties[name]
		switch {
		case !ok && s.closed:
			return fmt.Errorf("%s is not described", name)
		case !ok:
			continue
		}
		if err := property.check(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// words are those that a property may be: its own, else those of what the schema
// refers to.
func (s *schema) words(property string) (words []string) {
	for ; s != nil; s = s.to {
		one, ok := s.properties[property]
		if !ok || one.enum == nil {
			continue
		}
		for _, word := range one.enum {
			if text, ok := word.(string); ok {
				words = append(words, text)
			}
		}
		return words
	}
	return nil
}
