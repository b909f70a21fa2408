package logintest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

// Each is what its name says, to a client that takes in all of it.
func TestMonstersAreAsLargeAsTheySay(t *testing.T) {
	p := newParty(t)
	sizes := map[string]int64{"10 MB": 10 << 20, "endless": 64 << 20, "gzip bomb": 64 << 20, "deep JSON": 5 * depth, "wide JSON": 800_000}
	for _, row := range Monsters("discovery") {
		want, ok := sizes[row.Name]
		if !ok {
			continue
		}
		p.issuer.Always(row.Faults)
		res, err := http.Get(p.issuer.URL + "/.well-known/openid-configuration")
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		got, _ := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<20))
		res.Body.Close()
		if got < want {
			t.Errorf("%s: %d bytes, want %d", row.Name, got, want)
		}
	}
}

func TestMonsterOfMembersIsRightJSON(t *testing.T) {
	var members map[string]any
	if err := json.NewDecoder(wide()).Decode(&members); err != nil || len(members) != 80_000 {
		t.Errorf("%d members, %v", len(members), err)
	}
}

func TestDrippingAnswerIsUnderWayAtOnceAndStays(t *testing.T) {
	p := newParty(t)
	for _, row := range Monsters("keys") {
		if row.Name == "one byte a second" {
			p.issuer.Always(row.Faults)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.issuer.URL+p.issuer.keysPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	drops := make([]byte, 2)
	if n, err := io.ReadFull(res.Body, drops[:1]); err != nil {
		t.Fatalf("%d bytes, then %v", n, err)
	}
	if n, err := io.ReadFull(res.Body, drops); err != nil {
		t.Errorf("it did not stay: %d bytes more, then %v", n, err)
	}
}

func TestThousandHeadersAreMoreThanMostTake(t *testing.T) {
	p := newParty(t)
	for _, row := range Monsters("keys") {
		if row.Name == "a thousand headers" {
			p.issuer.Always(row.Faults)
		}
	}
	res, err := http.Get(p.issuer.URL + p.issuer.keysPath)
	if err != nil || len(res.Header) < 1000 {
		t.Fatalf("got %v", err)
	}
	res.Body.Close()
}

func TestAnswerCanBeLate(t *testing.T) {
	p := newParty(t)
	p.published() // keys take their time to be made
	p.issuer.Always(Late("keys", time.Hour))
	client := &http.Client{Timeout: 50 * time.Millisecond}
	if _, err := client.Get(p.issuer.URL + p.issuer.keysPath); err == nil {
		t.Error("it came at once")
	}
	p.issuer.Always(Late("keys", time.Millisecond))
	if len(p.published()) == 0 {
		t.Error("it never came")
	}
}
