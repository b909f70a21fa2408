package logintest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestEachFaultIsSeenByACarefulClient(t *testing.T) {
	for _, row := range Refused() {
		t.Run(row.Name, func(t *testing.T) {
			p := newParty(t)
			p.issuer.NextLogin(row.Faults)
			if claims, err := p.finish(p.answer("ada")); err == nil {
				t.Fatalf("accepted %v", claims)
			}
			if _, err := p.finish(p.answer("ada")); err != nil {
				t.Fatalf("the log-in after it: %v", err)
			}
		})
	}
}

func TestOddLoginsAreStillRight(t *testing.T) {
	for _, row := range Accepted() {
		t.Run(row.Name, func(t *testing.T) {
			p := newParty(t)
			p.issuer.NextLogin(row.Faults)
			if _, err := p.finish(p.answer("ada")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFaultsJoin(t *testing.T) {
	p := newParty(t)
	p.issuer.NextLogin(Set("a", "first").And(Set("b", "second")).And(Set("a", "third")).And(Faults{}))
	claims, err := p.finish(p.answer("ada"))
	if err != nil || claims["a"] != "third" || claims["b"] != "second" {
		t.Fatalf("got %v, %v", claims, err)
	}
}

func TestFaultsForAlwaysReachDocumentsAndEveryAnswer(t *testing.T) {
	p := newParty(t)
	p.issuer.Always(Faults{
		Discovery: func(doc map[string]any) { doc["issuer"] = "INVALID" },
		Keys:      func(doc map[string]any) { doc["keys"] = "INVALID" },
		Response: func(res *Response) {
			res.Status, res.Body = http.StatusTeapot, io.MultiReader(res.Body, strings.NewReader(res.Endpoint))
		},
	})
	for path, ends := range map[string]string{
		"/.well-known/openid-configuration": "discovery", p.issuer.keysPath: "keys", "/oauth/userinfo": "userinfo",
	} {
		res, err := http.Get(p.issuer.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusTeapot || !strings.HasSuffix(string(body), ends) {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
		if ends != "userinfo" && !strings.Contains(string(body), "NVALID") {
			t.Errorf("%s was not spoiled", path)
		}
	}
	p.issuer.Always(Faults{})
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
}
