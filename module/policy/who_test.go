package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestEntriesAreReadExactly(t *testing.T) {
	for in, want := range map[string]Who{
		"anyone":              {Kind: Anyone},
		"users":               {Kind: Users},
		"ada@example.com":     {Address, "ada@example.com"},
		"Ada+x@EXAMPLE.com":   {Address, "ada+x@example.com"},
		"ada@bücher.example":  {Address, "ada@xn--bcher-kva.example"},
		"*@example.com":       {Domain, "example.com"},
		"*@Bücher.EXAMPLE":    {Domain, "xn--bcher-kva.example"},
		"role:admin":          {Role, "admin"},
		"group:Domain Admins": {Group, "Domain Admins"},
		"group:cn=a,dc=b:c@d": {Group, "cn=a,dc=b:c@d"},
		"group:Büro":          {Group, "Büro"},
		"provider:okta-2":     {Provider, "okta-2"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %v, %v", in, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q reads back as %v, %v", got, again, err)
		}
	}
}

func TestWhatNamesNobodyIsRefusedWithTheCure(t *testing.T) {
	for _, in := range []string{
		"", " ", "*", "*@", "@", "*@*", "Anyone", "anyone ", "user", "any", "everyone", "example.com", "@example.com", "*example.com",
		"*@sub.*", "*@a@b.com", "a@evil.com,b@corp.com", "a@evil@corp.com", "a@b.com\n", "a b@c.com", "ada＠example.com", "adä@example.com",
		"*ada@example.com", "ada@", "ada@[127.0.0.1]", "Ada <ada@example.com>", `"a"@example.com`, "ada@example.com.", "*@.com", "*@com", "a@.com", "a@b..com", "*@b..com",
		"role:", "group:", "provider:", "role: x", "role:a b", "Role:x", "group: x", "group:x ", "group:a\nb", "group:\xff", "provider:a/b",
		"roles:x", ":x", "users:x", "anyone:", "{env.WHO}", "mailto:ada@example.com", strings.Repeat("a", 250) + "@b.com",
	} {
		got, err := Parse(in)
		if err == nil {
			t.Errorf("Parse(%q) = %v", in, got)
			continue
		}
		if !strings.Contains(err.Error(), written) || got.Kind != Nobody {
			t.Errorf("Parse(%q): %v, %v", in, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"anyone", "users", "a@b.com", "*@b.com", "role:x", "group:a b", "provider:x", "", "*@*", "a@b@c", "0@0.\x8e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := Parse(s)
		if err != nil {
			if w != (Who{}) {
				t.Errorf("%q: an error and %v", s, w)
			}
			return
		}
		if again, err := Parse(w.String()); err != nil || again != w {
			t.Errorf("%q: %v reads back as %v, %v", s, w, again, err)
		}
		if w.Kind == Anyone && s != "anyone" || Decide([]Who{w}, &Visitor{}) == Allow && s != "users" && s != "anyone" {
			t.Errorf("%q lets anybody in", s)
		}
	})
}

func ada() *Visitor {
	return &Visitor{UserID: "u1", Email: "ada@example.com", Provider: "google", Groups: []string{"staff"}, Roles: []string{"admin"}}
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		who       Who
		anonymous Verdict
		ada       Verdict
	}{
		{Who{Kind: Anyone}, Allow, Allow},
		{Who{Kind: Users}, SignIn, Allow},
		{Who{Address, "ada@example.com"}, SignIn, Allow},
		{Who{Address, "bob@example.com"}, SignIn, Deny},
		{Who{Domain, "example.com"}, SignIn, Allow},
		{Who{Domain, "ample.com"}, SignIn, Deny},
		{Who{Domain, "com"}, SignIn, Deny},
		{Who{Domain, "sub.example.com"}, SignIn, Deny},
		{Who{Role, "admin"}, SignIn, Allow},
		{Who{Role, "staff"}, SignIn, Deny},
		{Who{Group, "staff"}, SignIn, Allow},
		{Who{Group, "Staff"}, SignIn, Deny},
		{Who{Group, "admin"}, SignIn, Deny},
		{Who{Provider, "google"}, SignIn, Allow},
		{Who{Provider, "github"}, SignIn, Deny},
		{Who{}, SignIn, Deny},
		{Who{Kind: 99}, SignIn, Deny},
	} {
		if got := Decide([]Who{c.who}, nil); got != c.anonymous {
			t.Errorf("%v, anonymous: %v", c.who, got)
		}
		if got := Decide([]Who{c.who}, ada()); got != c.ada {
			t.Errorf("%v, Ada: %v", c.who, got)
		}
		if got := Decide([]Who{{}, c.who}, ada()); got != c.ada {
			t.Errorf("%v as the second: %v", c.who, got)
		}
	}
}

func TestWhereNoRuleFitsNobodyPasses(t *testing.T) {
	for _, who := range [][]Who{nil, {}} {
		if got := Decide(who, nil); got != SignIn {
			t.Errorf("anonymous: %v", got)
		}
		if got := Decide(who, ada()); got != Deny {
			t.Errorf("signed in: %v", got)
		}
	}
	if Verdict(0) != Deny {
		t.Error("forgetting to decide does not deny")
	}
}

func TestEmptyNeverMeetsEmpty(t *testing.T) {
	for _, v := range []*Visitor{{}, {Groups: []string{""}, Roles: []string{""}}, {Email: "@"}, {Email: "@example.com"}, {Email: "a@evil.com@example.com"}} {
		for _, who := range []Who{{Kind: Address}, {Kind: Domain}, {Kind: Role}, {Kind: Group}, {Kind: Provider}, {Domain, "example.com"}} {
			if got := Decide([]Who{who}, v); got != Deny {
				t.Errorf("%v admits %+v", who, v)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	roles, err := NewRoles([]RoleDef{
		{"boss", []Who{{Role, "admin"}, {Address, "eve@example.com"}}}, // before what it refers to
		{"admin", []Who{{Group, "staff"}}},
		{"guest", []Who{{Kind: Users}}},
		{"octocat", []Who{{Provider, "github"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v    *Visitor
		want []string
	}{
		{nil, nil},
		{ada(), []string{"boss", "admin", "guest"}},
		{&Visitor{Email: "eve@example.com", Provider: "github"}, []string{"boss", "guest", "octocat"}},
		{&Visitor{Roles: []string{"admin", "boss"}}, []string{"guest"}}, // what is claimed does not count
	} {
		if got := roles.Of(c.v); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q", c.v, got)
		}
	}
	if v := ada(); roles.Of(v) == nil || !slices.Equal(v.Roles, []string{"admin"}) {
		t.Error("Of changed its visitor")
	}
	if (*Roles)(nil).Of(ada()) != nil {
		t.Error("no roles are some")
	}
}

func TestRolesThatCannotWorkAreRefused(t *testing.T) {
	users := []Who{{Kind: Users}}
	for want, defs := range map[string][]RoleDef{
		"refers to itself":           {{"a", []Who{{Role, "a"}}}},
		"role c refers":              {{"c", []Who{{Role, "d"}}}, {"d", []Who{{Kind: Users}, {Role, "c"}}}},
		"defined twice":              {{"a", users}, {"b", users}, {"a", users}},
		"no members":                 {{"a", nil}},
		"no role b (defined are: a)": {{"a", []Who{{Role, "b"}}}},
		"cannot hold anyone":         {{"a", []Who{{Kind: Anyone}}}},
		"empty member":               {{"a", []Who{{}}}},
		`role name ""`:               {{"", users}},
		`role name "a,b"`:            {{"a,b", users}},
	} {
		if _, err := NewRoles(defs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	who, v := []Who{{Address, "bob@example.com"}, {Group, "admins"}, {Domain, "example.com"}}, ada()
	b.ReportAllocs()
	for b.Loop() {
		if Decide(who, v) != Allow {
			b.Fatal("denied")
		}
	}
}
