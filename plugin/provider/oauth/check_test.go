package oauth

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestCheckSendsTheTokenEndpointNothing(t *testing.T) {
	f := newFake(t)
	begun := time.Now().Truncate(time.Second) // as the header tells it
	date, err := f.forum(t, nil).Check(t.Context())
	if err != nil || date.Before(begun) || date.After(time.Now()) {
		t.Errorf("at %s, %v", date, err)
	}
	if f.count("/token") != 1 || len(f.form) != 0 || f.asked[0].Header.Get("Authorization") != "" {
		t.Errorf("asked %d times, with %v", f.count("/token"), f.form)
	}
}

func TestCheckFailsWhereNoTokenEndpointIs(t *testing.T) {
	f, empty := newFake(t), httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	gone := f.forum(t, nil)
	nowhere := f.forum(t, func(o *OAuth2) { o.TokenURL = empty.URL + "/token" })
	if _, err := nowhere.Check(t.Context()); err == nil {
		t.Error("the wrong address is well")
	}
	f.Close()
	if _, err := gone.Check(t.Context()); err == nil {
		t.Error("a dead server is well")
	}
}
