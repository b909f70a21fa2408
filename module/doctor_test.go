package module

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// asked is a provider whose answer to Check a test writes.
type asked struct {
	guest.Provider
	date time.Time
	err  error
}

func (a asked) Check(context.Context) (time.Time, error) { return a.date, a.err }

func TestDoctorFailsAClockThatIsWrong(t *testing.T) {
	for skew, want := range map[time.Duration]finding{
		0: checkOK, 25 * time.Second: checkOK, -25 * time.Second: checkOK,
		time.Minute: checkFailed, -time.Minute: checkFailed, 100 * 365 * 24 * time.Hour: checkFailed,
	} {
		got := checkProvider(t.Context(), "op", asked{date: time.Now().Add(skew)})
		if got.Status != want || want == checkFailed && !strings.Contains(got.Detail, "set the clock") {
			t.Errorf("%s apart: %+v", skew, got)
		}
	}
	behind := checkProvider(t.Context(), "op", asked{date: time.Now().Add(time.Hour)})
	ahead := checkProvider(t.Context(), "op", asked{date: time.Now().Add(-time.Hour)})
	if !strings.Contains(behind.Detail, "behind the provider's") || !strings.Contains(ahead.Detail, "ahead of the provider's") {
		t.Errorf("%q, %q", behind.Detail, ahead.Detail)
	}
}

func TestDoctorTellsWhatAProviderSays(t *testing.T) {
	if got := checkProvider(t.Context(), "op", asked{}); got.Status != checkOK {
		t.Errorf("without a date: %+v", got)
	}
	if got := checkProvider(t.Context(), "op", asked{err: errors.New("no key")}); got.Status != checkFailed || got.Detail != "no key" {
		t.Errorf("%+v", got)
	}
	var silent struct{ guest.Provider }
	if got := checkProvider(t.Context(), "op", silent); got.Status != checkNote {
		t.Errorf("one that can't be asked: %+v", got)
	}
}

func TestCheckThatPanicsOrHangsIsAFinding(t *testing.T) {
	broken := outside{"op", func(context.Context) check { panic("the secret") }}
	if got := broken.safely(t.Context()); got.Status != checkFailed || strings.Contains(got.Detail, "secret") {
		t.Errorf("%+v", got)
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		hanging := outside{"op", func(ctx context.Context) check {
			<-ctx.Done()
			return check{"op", checkFailed, ctx.Err().Error()}
		}}
		if got := hanging.safely(t.Context()); got.Status != checkFailed || time.Since(begun) > outsidePatience {
			t.Errorf("%+v after %s", got, time.Since(begun))
		}
	})
}

func TestTimesAndSizesAreForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "just now", time.Second: "1 second ago", 59 * time.Second: "59 seconds ago", time.Minute: "1 minute ago",
		90 * time.Minute: "1 hour ago", 49 * time.Hour: "2 days ago", -49 * time.Hour: "in 2 days", 400 * 24 * time.Hour: "400 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{-1: "0 KiB", 2048: "2 KiB", 24 << 20: "24 MiB", 12 << 30: "12 GiB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestHostnamesWithoutTheirPort(t *testing.T) {
	for written, want := range map[string]string{"app.test": "app.test", "app.test:80": "app.test", "[::1]:80": "::1", "[::1]": "::1"} {
		if got := hostname(written); got != want {
			t.Errorf("%s: %q, want %q", written, got, want)
		}
	}
}
