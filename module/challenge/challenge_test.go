package challenge_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/seal"
)

func TestMailedCodeProvesTheAddress(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	if begun.Mail == nil || begun.Withheld != "" || begun.Mail.To != ada || len(begun.Mail.Code) != 6 || begun.Mail.Link == "" {
		t.Fatalf("begun %+v", begun)
	}
	now := w.clock.Now()
	want := challenge.Waiting{
		Purpose: challenge.Login, Email: ada, Return: "/deep?x=1", Subject: "u1", Length: 6, Link: true,
		Expires: now.Add(10 * time.Minute).UTC(), ResendAt: now.Add(30 * time.Second).UTC(), AttemptsLeft: 5,
	}
	if got := *w.poll(begun); got != want || begun.Waiting != want {
		t.Errorf("waiting\n%+v, begun with\n%+v; want\n%+v", got, begun.Waiting, want)
	}
	proof, err := w.challenges.Check(ctx, claim(begun), string(begun.Mail.Code))
	w.must(err)
	if want := (challenge.Proof{Purpose: challenge.Login, Scope: site, Email: ada, Return: "/deep?x=1", Subject: "u1", By: challenge.ByCode, Here: true}); proof != want {
		t.Errorf("proof %+v; want %+v", proof, want)
	}
}

func TestCodeIsSpentOnce(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.must(w.check(begun, string(begun.Mail.Code)))
	for range 2 {
		w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrSpent)
		_, err := w.challenges.Open(ctx, at(begun, begun.ID))
		w.want(err, challenge.ErrSpent)
		_, err = w.challenges.Look(ctx, at(begun))
		w.want(err, challenge.ErrSpent)
		if state := w.poll(begun).State; state != challenge.Spent {
			t.Errorf("state %q", state)
		}
		w.restart()
	}
	w.clock.Advance(11 * time.Minute)
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrSpent)
}

func TestCodeIsSpentOnceAmong64(t *testing.T) {
	w := newWorld(t)
	for round := range 20 {
		begun := w.begin(w.askFor(identity.Email(fmt.Sprintf("u%d@example.com", round))))
		var winners atomic.Int64
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				switch err := w.spend(begun, i%2 == 0); {
				case err == nil:
					winners.Add(1)
				case !errors.Is(err, challenge.ErrSpent):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if winners.Load() != 1 {
			t.Fatalf("%d winners", winners.Load())
		}
	}
}

// spend uses it up by its code or by its link.
func (w *world) spend(b *challenge.Begun, byCode bool) error {
	if byCode {
		return w.check(b, string(b.Mail.Code))
	}
	_, err := w.challenges.Open(ctx, at(b, b.ID))
	return err
}

func TestOf64WrongCodesFiveCount(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	var wrong, tooMany atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			var left *challenge.Wrong
			switch err := w.check(begun, guess(begun.Mail.Code)); {
			case errors.As(err, &left):
				wrong.Add(1)
			case errors.Is(err, challenge.ErrTooMany):
				tooMany.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wrong.Load() != 4 || tooMany.Load() != 60 {
		t.Errorf("%d wrong and %d too many", wrong.Load(), tooMany.Load())
	}
	if got := w.poll(begun); got.AttemptsLeft != 0 || got.State != challenge.Exhausted {
		t.Errorf("waiting %+v", got)
	}
	w.restart()
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrTooMany)
	_, err := w.challenges.Open(ctx, at(begun, begun.ID))
	w.want(err, challenge.ErrTooMany)
}

func TestAttemptsCountAcrossRestartsAndResending(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.wrong(w.check(begun, guess(begun.Mail.Code)), 4)
	w.restart()
	w.wrong(w.check(begun, guess(begun.Mail.Code)), 3)
	w.clock.Advance(30 * time.Second)
	again, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
	w.must(err)
	if again.Waiting.AttemptsLeft != 3 || again.Waiting.Expires != begun.Waiting.Expires {
		t.Errorf("sent again: %+v", again.Waiting)
	}
	w.wrong(w.check(begun, guess(begun.Mail.Code)), 2)
	w.must(w.check(begun, string(begun.Mail.Code)))
}

func TestWhatCanBeNoCodeIsNoAttempt(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	code := string(begun.Mail.Code)
	for _, typed := range []string{"", " ", code[:5], code + "0", code + "\x00", "abcdef", "-", "½½½½½½", "\xff" + code, "#" + code, code + strings.Repeat(" ", 200), code + code} {
		w.want(w.check(begun, typed), challenge.ErrMalformed)
	}
	if left := w.poll(begun).AttemptsLeft; left != 5 {
		t.Errorf("%d attempts left", left)
	}
}

func TestCodeIsTakenAsPeopleTypeIt(t *testing.T) {
	for _, spelling := range []string{
		"123456", " 123 456\r\n", "123-456", "1 2 3 4 5 6", "１２３４５６", "１２３－４５６", "١٢٣٤٥٦", "۱۲۳۴۵۶", "१२३४५६",
		"123\u00a0456", "\u2068123456\u2069", "\u200e123456", "123–456", "123−456", "\ufeff123456",
	} {
		if code, ok := challenge.Normalise(spelling); !ok || code != "123456" {
			t.Errorf("%q is taken for %q, %v", spelling, code, ok)
		}
	}
}

func TestCodeHoldsForItsSiteAndPurposeOnly(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	a.Rules.Length = 10 // of six digits, two codes are one once in a million
	begun, stranger := w.begin(a), w.begin(a)
	right := claim(begun)
	for what, foreign := range map[string]challenge.Claim{
		"site":    {ID: right.ID, Scope: "other.example.com", Purpose: right.Purpose},
		"purpose": {ID: right.ID, Scope: right.Scope, Purpose: challenge.StepUp},
		"no id":   {Scope: right.Scope, Purpose: right.Purpose},
	} {
		_, err := w.challenges.Check(ctx, foreign, string(begun.Mail.Code))
		w.want(err, challenge.ErrExpired)
		if _, err = w.challenges.Poll(ctx, foreign); !errors.Is(err, challenge.ErrExpired) {
			t.Errorf("%s: polled: %v", what, err)
		}
		_, err = w.challenges.Resend(ctx, foreign, "")
		w.want(err, challenge.ErrExpired)
		_, err = w.challenges.Collect(ctx, foreign)
		w.want(err, challenge.ErrExpired)
		w.want(w.challenges.Cancel(ctx, foreign), challenge.ErrExpired)
	}
	w.wrong(w.check(stranger, string(begun.Mail.Code)), 4)
	if got := w.poll(begun); got.AttemptsLeft != 5 || got.State != challenge.Pending {
		t.Errorf("strangers changed it: %+v", got)
	}
}

func TestCodeExpires(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.clock.Advance(10*time.Minute - time.Second)
	w.wrong(w.check(begun, guess(begun.Mail.Code)), 4)
	w.clock.Advance(time.Second)
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrExpired)
	_, err := w.challenges.Open(ctx, at(begun, begun.ID))
	w.want(err, challenge.ErrExpired)
	if state := w.poll(begun).State; state != challenge.Expired {
		t.Errorf("state %q", state)
	}
	w.clock.Advance(-24 * time.Hour)
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrExpired)
}

func TestOperatorDecidesOnLengthAndLifetime(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	a.Rules = challenge.Rules{Length: 10, Lifetime: 2 * time.Minute, NoLink: true}
	begun := w.begin(a)
	if len(begun.Mail.Code) != 10 || begun.Mail.Link != "" || begun.Waiting.Link || begun.Waiting.Expires != w.clock.Now().Add(2*time.Minute).UTC() {
		t.Errorf("begun %+v", begun)
	}
	w.must(w.check(begun, string(begun.Mail.Code)))
	for _, bad := range []challenge.Rules{
		{Length: 5}, {Length: 11}, {Length: -6}, {Lifetime: 59 * time.Second}, {Lifetime: 61 * time.Minute}, {CrossDevice: "any"},
	} {
		a := w.ask()
		a.Rules = bad
		if _, err := w.challenges.Begin(ctx, a); err == nil || bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestMalformedWishesAreRefused(t *testing.T) {
	w := newWorld(t)
	for what, spoil := range map[string]func(*challenge.Ask){
		"purpose": func(a *challenge.Ask) { a.Purpose = "anything" },
		"address": func(a *challenge.Ask) { a.Email = "" },
		"site":    func(a *challenge.Ask) { a.Scope = "" },
		"subject": func(a *challenge.Ask) { a.Subject = strings.Repeat("s", 257) },
	} {
		a := w.ask()
		spoil(&a)
		if _, err := w.challenges.Begin(ctx, a); err == nil {
			t.Errorf("a wish without a good %s is taken", what)
		}
	}
}

func TestWhatVisitorsSendIsCut(t *testing.T) {
	w := newWorld(t)
	for given, want := range map[string]string{
		"/p?" + strings.Repeat("&", 1021): "/p?" + strings.Repeat("&", 1021),
		"/p?" + strings.Repeat("&", 1022): "/p",
		"/" + strings.Repeat("p", 1024):   "/",
	} {
		a := w.ask()
		a.Return = given
		if got := w.begin(a).Waiting.Return; got != want {
			t.Errorf("%d bytes became %.20q", len(given), got)
		}
	}
	a := w.ask()
	a.Asker = challenge.Asker{Device: "Fire\r\nfox " + strings.Repeat("ü", 400), Place: strings.Repeat("ü", 400)}
	asker := w.begin(a).Mail.Asker
	if len(asker.Device) > 160 || len(asker.Place) != 80 || !strings.HasPrefix(asker.Device, "Fire  fox ü") || strings.ContainsRune(asker.Device, '�') {
		t.Errorf("asker %+v", asker)
	}
}

func TestCancelledCodeIsDead(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.must(w.challenges.Cancel(ctx, claim(begun)))
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrCancelled)
	_, err := w.challenges.Open(ctx, at(begun, begun.ID))
	w.want(err, challenge.ErrCancelled)
	w.want(w.challenges.Cancel(ctx, claim(begun)), challenge.ErrCancelled)
	spent := w.begin(w.ask())
	w.must(w.check(spent, string(spent.Mail.Code)))
	w.want(w.challenges.Cancel(ctx, claim(spent)), challenge.ErrSpent)
}

func TestStoreBetraysNothing(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	a.Rules.CrossDevice = challenge.Match
	a.Rules.Length = 10 // six digits may stand in a time that the store holds
	begun := w.begin(a)
	dump := w.dump()
	if !strings.Contains(dump, string(ada)) {
		t.Fatal("the dump shows no challenge")
	}
	secret := string(begun.Mail.Link)[22:]
	for what, found := range map[string]string{
		"code": string(begun.Mail.Code), "link": secret, "id": string(begun.ID[:]), "id as text": begun.ID.Text(),
		"number": fmt.Sprintf(":%d,", begun.Waiting.Number),
	} {
		if strings.Contains(dump, found) {
			t.Errorf("the store holds the %s", what)
		}
	}
	for _, shown := range []string{fmt.Sprint(begun.ID), fmt.Sprintf("%#v", begun.ID), fmt.Sprintf("%+v", *begun.Mail), fmt.Sprintf("%#v", *begun.Mail)} {
		if strings.Contains(shown, string(begun.Mail.Code)) || strings.Contains(shown, secret) || strings.Contains(shown, begun.ID.Text()) {
			t.Errorf("printed: %s", shown)
		}
	}
}

// Who has the whole store has the keys as well: they must not do without the
// id.
func TestKeysAloneOpenNoLink(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	link, err := base64.RawURLEncoding.DecodeString(string(begun.Mail.Link))
	w.must(err)
	key := "challenge/" + string(link[:16])
	var stored struct {
		Secret []byte `json:"secret"` // as the store has it
	}
	w.must(w.store.View(ctx, func(tx guest.Tx) error {
		value, err := tx.Get([]byte(key))
		if err != nil {
			return err
		}
		return json.Unmarshal(value[1:], &stored)
	}))
	opened, err := w.ring.OpenAtRest(key, stored.Secret)
	w.must(err)
	if len(opened) != 32 || bytes.Equal(opened, link[16:]) {
		t.Errorf("%d bytes were opened: the link's secret", len(opened))
	}
}

func TestCodeIsNoneForAnotherAddress(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.must(w.store.Update(ctx, func(tx guest.Tx) error {
		return rewrite(tx, func(value []byte) { copy(value, bytes.Replace(value, []byte("ada@"), []byte("eve@"), 1)) })
	}))
	if email := w.poll(begun).Email; email != "eve@example.com" {
		t.Fatalf("the record is still for %s", email)
	}
	w.wrong(w.check(begun, string(begun.Mail.Code)), 4)
}

func TestIDHasOneSpelling(t *testing.T) {
	w := newWorld(t)
	id := w.begin(w.ask()).ID
	if got, ok := challenge.ParseID(id.Text()); !ok || got != id {
		t.Fatalf("%s became %v, %v", id.Text(), got.Text(), ok)
	}
	text := id.Text()
	last := strings.IndexByte("AQgw", text[21])
	for _, other := range []string{"", text[:21], text + "=", text + "==", text[:20] + "\n" + text[20:], text[:21] + string("BRhx"[last]), "!" + text[1:], "\n" + text} {
		if _, ok := challenge.ParseID(other); ok {
			t.Errorf("%q is an id", other)
		}
	}
}

func TestKeysRotateAndNoCodeDies(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.clock.Advance(time.Minute)
	w.must(w.ring.Rotate(ctx, time.Second))
	w.restart()
	again, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
	w.must(err)
	if *again.Mail != *begun.Mail {
		t.Error("another mail")
	}
	w.must(w.check(begun, string(begun.Mail.Code)))
}

func TestMailIsSentAgainFourTimesEachLater(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	a.Rules.Lifetime = 20 * time.Minute
	begun := w.begin(a)
	for i, wait := range []time.Duration{30, 60, 120, 300} {
		wait *= time.Second
		if at := w.poll(begun).ResendAt; !at.Equal(w.clock.Now().Add(wait)) {
			t.Errorf("%d: to be sent again in %s; want %s", i, at.Sub(w.clock.Now()), wait)
		}
		w.clock.Advance(wait - time.Second)
		_, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
		w.want(err, challenge.ErrTooSoon)
		w.clock.Advance(time.Second)
		w.restart()
		again, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
		w.must(err)
		if again.Mail == nil || *again.Mail != *begun.Mail {
			t.Errorf("%d: mail %+v; want the same as before", i, again)
		}
	}
	w.clock.Advance(10 * time.Minute)
	if at := w.poll(begun).ResendAt; !at.IsZero() {
		t.Errorf("a fifth is promised for %s", at)
	}
	_, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
	w.want(err, challenge.ErrTooSoon)
	w.must(w.check(begun, string(begun.Mail.Code)))
	_, err = w.challenges.Resend(ctx, claim(begun), w.elsewhere())
	w.want(err, challenge.ErrSpent)
}

func TestNoMailIsSentForItsLastMinute(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	a.Rules.Lifetime = time.Minute
	if at := w.begin(a).Waiting.ResendAt; !at.IsZero() {
		t.Errorf("to be sent again with %s left", time.Minute-at.Sub(w.clock.Now()))
	}
}

func TestAtOnceTheMailIsSentAgainOnce(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.clock.Advance(30 * time.Second)
	var mails atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere()); err == nil {
				mails.Add(1)
			}
		})
	}
	wg.Wait()
	if mails.Load() != 1 {
		t.Errorf("%d mails", mails.Load())
	}
}

// broken is a store whose disk fails, once told to.
type broken struct {
	guest.Store
	fails atomic.Bool
}

func (b *broken) View(ctx context.Context, fn func(guest.Tx) error) error {
	if b.fails.Load() {
		return guest.ErrFull
	}
	return b.Store.View(ctx, fn)
}

func (b *broken) Update(ctx context.Context, fn func(guest.Tx) error) error {
	if b.fails.Load() {
		return guest.ErrFull
	}
	return b.Store.Update(ctx, fn)
}

func TestBrokenStoreSettlesNothing(t *testing.T) {
	w := newWorld(t)
	store := &broken{Store: w.store}
	w.open(store)
	begun := w.begin(w.ask())
	w.clock.Advance(time.Minute)
	store.fails.Store(true)
	_, err := w.challenges.Begin(ctx, w.ask())
	w.want(err, guest.ErrFull)
	w.want(w.check(begun, string(begun.Mail.Code)), guest.ErrFull)
	_, err = w.challenges.Poll(ctx, claim(begun))
	w.want(err, guest.ErrFull)
	_, err = w.challenges.Resend(ctx, claim(begun), w.elsewhere())
	w.want(err, guest.ErrFull)
	_, err = w.challenges.Look(ctx, at(begun))
	w.want(err, guest.ErrFull)
	_, err = w.challenges.Open(ctx, at(begun, begun.ID))
	w.want(err, guest.ErrFull)
	w.want(w.challenges.Sweep(ctx), guest.ErrFull)
	store.fails.Store(false)
	if left := w.poll(begun).AttemptsLeft; left != 5 {
		t.Errorf("%d attempts left", left)
	}
	w.must(w.check(begun, string(begun.Mail.Code)))
}

func TestRecordsOfANewerProgramAreRefusedAndKept(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.must(w.store.Update(ctx, func(tx guest.Tx) error { return rewrite(tx, func(value []byte) { value[0]++ }) }))
	w.want(w.check(begun, string(begun.Mail.Code)), guest.ErrNewer)
	_, err := w.challenges.Poll(ctx, claim(begun))
	w.want(err, guest.ErrNewer)
	_, err = w.challenges.Begin(ctx, w.ask())
	w.want(err, guest.ErrNewer)
	before := w.records()
	w.clock.Advance(50 * time.Hour)
	w.must(w.challenges.Sweep(ctx))
	if after := w.records(); after != before {
		t.Errorf("%v records became %v", before, after)
	}
}

func TestSpoiltSecretDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.must(w.store.Update(ctx, func(tx guest.Tx) error {
		return rewrite(tx, func(value []byte) {
			if _, secret, found := bytes.Cut(value, []byte(`"secret":"`)); found {
				secret[0] = "AB"[strings.Count(string(secret[:1]), "A")] // another one in any case
			}
		})
	}))
	_, err := w.challenges.Poll(ctx, claim(begun))
	w.want(err, seal.ErrSeal)
}

// rewrite changes every record.
func rewrite(tx guest.Tx, change func(value []byte)) error {
	records := map[string][]byte{}
	for _, prefix := range []string{"challenge/", "budget/"} {
		err := tx.Scan([]byte(prefix), nil, 0, func(key, value []byte) bool {
			records[string(key)] = bytes.Clone(value)
			return true
		})
		if err != nil {
			return err
		}
	}
	for key, value := range records {
		change(value)
		if err := tx.Put([]byte(key), value, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}
