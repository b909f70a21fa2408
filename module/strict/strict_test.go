package strict

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

type letter struct {
	Kind  string   `json:"kind"`
	Email string   `json:"email,omitempty"`
	Sure  bool     `json:"sure,omitempty"`
	Ways  []string `json:"ways,omitempty"`
}

func TestObjectIsReadByItsExactNames(t *testing.T) {
	var got letter
	err := Read([]byte(` {"kind":"email","ways":["a","b"],"sure":true} `), &got)
	want := letter{Kind: "email", Sure: true, Ways: []string{"a", "b"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestWhatTwoReadersCouldReadDifferentlyIsRefused(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `"kind"`, `{`, `{"kind":"a"`, `{"kind":"a"}}`, `{"kind":"a"}{}`, `{"kind":"a",}`, `{kind:"a"}`,
		"{\"kind\":\"\xff\"}", `{"kind":"a"} x`, "{\"kind\":\"a\x00\"}", `{"kind":` + strings.Repeat("[", 1<<16),
	} {
		if err := Read([]byte(body), &letter{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40q: %v", body, err)
		}
	}
	for _, body := range []string{
		`{"Kind":"a"}`, `{"kind":"a","kind":"a"}`, `{"kind":"a","\u006bind":"b"}`, `{"kind":1}`, `{"kind":null}`, `{"sure":"true"}`,
		`{"ways":["a",1]}`, `{"ways":{}}`, `{"other":1}`, `{"":1}`, `{"kind":{"a":1}}`, `{"` + strings.Repeat("é", 1000) + `":1}`,
	} {
		var field *FieldError
		if err := Read([]byte(body), &letter{}); !errors.As(err, &field) || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v", body, err)
		}
	}
}

// FuzzRead: what is read means the same to encoding/json, and is all there is.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"kind":"email","email":"ada@example.com","sure":false,"ways":[]}`))
	f.Add([]byte(`{"kind":"a","Kind":"b"}`))
	f.Add([]byte("{\"\\u006bind\":\"\\ud800\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, std letter
		if Read(data, &got) != nil {
			return
		}
		if err := json.Unmarshal(data, &std); err != nil || !reflect.DeepEqual(got, std) {
			t.Fatalf("read %+v, encoding/json %+v, %v", got, std, err)
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
		for name := range all {
			if name != "kind" && name != "email" && name != "sure" && name != "ways" {
				t.Fatalf("took %q", name)
			}
		}
	})
}
