package session

import (
	"fmt"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/caddy-login/caddy-login/module/identity"
)

// filled sets every text within v to one of its own, and returns them.
func filled(v reflect.Value, n *int) (texts []string) {
	switch v.Kind() {
	case reflect.String:
		*n++
		v.SetString(fmt.Sprintf("text %d", *n))
		return []string{v.String()}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		}
		for i := range v.Len() {
			texts = append(texts, filled(v.Index(i), n)...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type() != reflect.TypeFor[time.Time]() {
				texts = append(texts, filled(v.Field(i), n)...)
			}
		}
	}
	return texts
}

// read is every text within v, as it lies in memory.
func read(v reflect.Value) (texts []string) {
	switch v.Kind() {
	case reflect.String:
		return []string{v.String()}
	case reflect.Slice:
		for i := range v.Len() {
			texts = append(texts, read(v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type() != reflect.TypeFor[time.Time]() {
				texts = append(texts, read(v.Field(i))...)
			}
		}
	}
	return texts
}

// What is at hand says what was read, and lies in one piece: a text that is
// forgotten there costs every collection of garbage one more object.
func TestSessionAtHandIsPacked(t *testing.T) {
	var session Session
	var person identity.Person
	n := 0
	want := append(filled(reflect.ValueOf(&session).Elem(), &n), filled(reflect.ValueOf(&person).Elem(), &n)...)
	live := newLive(session, person, nil)
	got := append(read(reflect.ValueOf(&live.Session).Elem()), read(reflect.ValueOf(&live.Person).Elem())...)
	if len(want) < 20 || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q became %q", want, got)
	}
	first, last, size := uintptr(unsafe.Pointer(unsafe.StringData(got[0]))), uintptr(0), uintptr(0)
	for _, text := range got {
		at := uintptr(unsafe.Pointer(unsafe.StringData(text)))
		first, last, size = min(first, at), max(last, at+uintptr(len(text))), size+uintptr(len(text))
	}
	if last-first != size {
		t.Errorf("%d texts of %d bytes lie within %d", len(got), size, last-first)
	}
}
