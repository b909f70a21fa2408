package session

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// filled sets every text and number within v to one of its own, and returns the
// texts.
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
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		*n++
		v.SetInt(int64(*n))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			*n++
			v.Set(reflect.ValueOf(time.Unix(1_700_000_000+int64(*n), 1).UTC()))
			return nil
		}
		for i := range v.NumField() {
			texts = append(texts, filled(v.Field(i), n)...)
		}
	}
	return texts
}

// What is at hand says what was read, to the last text and instant: a field that
// is forgotten there would be empty on some page, or in some assertion.
func TestSessionAtHandSaysWhatWasRead(t *testing.T) {
	var live Live
	n := 0
	live.Grant = new(Grant)
	texts := filled(reflect.ValueOf(&live).Elem(), &n)
	filled(reflect.ValueOf(live.Grant).Elem(), &n)
	live.Handle, live.Session.Identity = live.Key.Handle(), []byte{0, 255, '"'}
	held, err := newAtHand(&live)
	if err != nil {
		t.Fatal(err)
	}
	if got := held.Live(); len(texts) < 20 || !reflect.DeepEqual(got, &live) {
		t.Errorf("\n%+v became\n%+v", live, got)
	}
	if one, other := held.Live(), held.Live(); one == other || one.Grant == other.Grant {
		t.Error("who changes what they read changes it for all")
	}
	if !held.isOn(live.Scope) || held.isOn("") || held.isOn(live.Scope+"{") {
		t.Error("its scope is another")
	}
}
