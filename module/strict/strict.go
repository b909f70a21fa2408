// Package strict reads the JSON that strangers send: what two readers could
// take for different things is refused.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// ErrMalformed is returned for what is no JSON object, or is one twice over.
var ErrMalformed = errors.New("malformed JSON")

// FieldError is a member that is not as it must be. What it holds is not told:
// it may be a secret.
type FieldError struct {
	// Field is the member's name, as it was sent.
	Field string
	// Why is in English, such as "is not known".
	Why string
}

func (e *FieldError) Error() string { return fmt.Sprintf("member %q %s", e.Field, e.Why) }

// Read reads one JSON object into the struct that into points to. Members are
// known by the exact names of its `json` tags: encoding/json would take "Code"
// for "code". One that is not known, or occurs twice, or is of another type, is
// a *FieldError; null is of no type. All else that is wrong is ErrMalformed:
// invalid UTF-8, too, which encoding/json would mend.
//
// Fields are strings, booleans, numbers and slices of strings. There is no
// nesting, so nothing deep costs anything.
func Read(data []byte, into any) error {
	if !utf8.Valid(data) {
		return ErrMalformed
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return ErrMalformed
	}
	fields := fieldsOf(reflect.ValueOf(into).Elem())
	for d.More() {
		if err := readMember(d, fields); err != nil {
			return err
		}
	}
	if end, err := d.Token(); err != nil || end != json.Delim('}') {
		return ErrMalformed
	}
	if _, err := d.Token(); err != io.EOF {
		return ErrMalformed
	}
	return nil
}

func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	return fields
}

// readMember reads one member, and strikes it from those that may still come.
func readMember(d *json.Decoder, fields map[string]reflect.Value) error {
	token, err := d.Token()
	name, ok := token.(string)
	if err != nil || !ok {
		return ErrMalformed
	}
	field, known := fields[name]
	if !known {
		return &FieldError{Field: clip(name), Why: "is not known here, or occurs twice"}
	}
	delete(fields, name)
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return ErrMalformed
	}
	if string(raw) == "null" || json.Unmarshal(raw, field.Addr().Interface()) != nil {
		return &FieldError{Field: clip(name), Why: "is of another type"}
	}
	return nil
}

// clip keeps an error short, whatever was sent.
func clip(name string) string {
	if len(name) <= 64 {
		return name
	}
	return strings.ToValidUTF8(name[:64], "")
}
