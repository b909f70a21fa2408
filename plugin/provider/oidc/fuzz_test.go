package oidc

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// No text but the one that was signed passes, and none makes us panic.
func FuzzIDToken(f *testing.F) {
	i := newIssuer(f)
	i.nonce = "n"
	p := i.oidc(f)
	m, err := p.metadata.value(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	good := i.idToken()
	if _, err := p.verify(context.Background(), m, provider.Tokens{ID: good}, guest.Attempt{Nonce: "n"}); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(stripSignature(good))
	f.Add(spoilSignature(good))
	f.Add(jsonSerialized(good))
	f.Add("..")
	f.Add(b64([]byte(`{"alg":"RS256","kid":"k1","crit":[]}`)) + "." + b64([]byte(`{}`)) + ".")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := p.verify(context.Background(), m, provider.Tokens{ID: raw}, guest.Attempt{Nonce: "n"}); err == nil && raw != good {
			t.Errorf("accepted %q", raw)
		}
	})
}

// Whatever a key set holds, no unusable key comes out of it.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"},{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},null,7]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ring, err := readKeys(body)
		if err != nil {
			return
		}
		for _, key := range ring.keys {
			if !key.Valid() || !key.IsPublic() || !usable(key.Key) {
				t.Errorf("took %+v", key)
			}
			fits(&key, jose.Header{Algorithm: "ES256"})
		}
	})
}

// direct answers requests without a network, so that the benchmark counts our
// side alone.
type direct map[string]string

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, d[r.URL.Path])
	return w.Result(), nil
}

func BenchmarkFinish(b *testing.B) {
	i := newIssuer(b)
	i.nonce = "n"
	body := new(strings.Builder)
	reply(body, object{"access_token": "a", "token_type": "Bearer", "id_token": i.idToken()})
	p := i.oidc(b)
	ctx := context.Background()
	ring, err := p.keys.value(ctx)
	if err != nil || len(ring.keys) != 1 {
		b.Fatal(err)
	}
	p.client = &http.Client{Transport: direct{"/token": body.String()}}
	a := guest.Attempt{State: "s", Nonce: "n", Verifier: "v"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Finish(ctx, a, url.Values{"code": {"c"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBegin(b *testing.B) {
	i := newIssuer(b)
	p := i.oidc(b)
	a := attempt()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Begin(context.Background(), a); err != nil {
			b.Fatal(err)
		}
	}
}
