package header_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/header"
)

func asserted(t *testing.T, a header.Assertion) map[string]any {
	t.Helper()
	text, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestAssertionSaysWhoAndNothingUnproven(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	got := asserted(t, header.Assertion{
		Origin: "https://app.test", Subject: "u1", Email: "ada@example.com", Name: "Ada ✓ \"L\"", Picture: "https://p.test/a.png",
		Groups: []string{"maths", "a,b"}, Roles: []string{"staff"}, Methods: []string{"pwd", "otp"},
		AuthTime: at.Add(-time.Hour), Session: "s1", Provider: "op", Issued: at, Expires: at.Add(5 * time.Minute),
	})
	want := map[string]any{
		"iss": "https://app.test", "aud": "https://app.test", "sub": "u1", "email": "ada@example.com", "email_verified": true,
		"name": "Ada ✓ \"L\"", "picture": "https://p.test/a.png", "groups": []any{"maths", "a,b"}, "roles": []any{"staff"},
		"amr": []any{"pwd", "otp"}, "auth_time": 1_799_996_400.0, "sid": "s1", "provider": "op", "iat": 1_800_000_000.0, "exp": 1_800_000_300.0,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	got = asserted(t, header.Assertion{Origin: "https://app.test", Subject: "u1", Session: "s1", Provider: "op", Issued: at, Expires: at,
		Picture: "javascript:alert(1)"})
	want = map[string]any{
		"iss": "https://app.test", "aud": "https://app.test", "sub": "u1", "groups": []any{}, "roles": []any{}, "amr": []any{},
		"sid": "s1", "provider": "op", "iat": 1_800_000_000.0, "exp": 1_800_000_000.0,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAssertionFitsAHeaderAndSaysWhatIsMissing(t *testing.T) {
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("department-%d", i))
	}
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		assertion header.Assertion
		omitted   []any
	}{
		"few":    {header.Assertion{Groups: many[:10]}, nil},
		"many":   {header.Assertion{Groups: many, Roles: []string{"staff"}}, []any{"groups"}},
		"both":   {header.Assertion{Groups: many, Roles: many}, []any{"groups", "roles"}},
		"all":    {header.Assertion{Picture: "https://" + long, Groups: many, Roles: many, Methods: many, Name: long}, []any{"picture", "groups", "roles", "amr", "name"}},
		"a name": {header.Assertion{Name: long}, []any{"name"}},
	} {
		text, err := c.assertion.Claims()
		if err != nil || len(text)*4/3+250 > 6<<10 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		got := asserted(t, c.assertion)
		if !reflect.DeepEqual(got["omitted"], any(c.omitted)) && len(c.omitted) > 0 || len(c.omitted) == 0 && got["omitted"] != nil {
			t.Errorf("%s: omits %v, want %v", name, got["omitted"], c.omitted)
		}
		if _, ok := got["groups"].([]any); !ok {
			t.Errorf("%s: groups is %v", name, got["groups"])
		}
	}
	if _, err := (&header.Assertion{Subject: long}).Claims(); err == nil {
		t.Error("asserts more than fits")
	}
}
