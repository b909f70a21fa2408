package challenge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
)

// FuzzRecord changes the record of a challenge as another program, another
// version or a broken disk would: the right code proves the address it was
// mailed to, for its purpose at its site, once; no other code proves anything;
// and a newer program's record is told to be one.
func FuzzRecord(f *testing.F) {
	for _, change := range []string{
		`{}`, `{"more":[{}]}`, `{"state":"spent"}`, `{"STATE":"cancelled"}`, `{"state":"of a newer program"}`, `{"attempts":5}`, `{"attempts":-9}`, `{"resent":-1}`, `{"resent":4}`,
		`{"length":7}`, `{"length":-1}`, `{"length":0}`, `{"length":1000000000}`, `{"email":"eve@example.com"}`, `{"purpose":"link"}`, `{"scope":"evil.example"}`,
		`{"phantom":true}`, `{"familiar":false}`, `{"tag":null}`, `{"secret":""}`, `{"secret":"AAAA"}`, `{"link_hash":null}`, `{"cross_device":"match"}`,
		`{"begun":"2999-01-01T00:00:00Z"}`, `{"expires":"2999-01-01T00:00:00Z"}`, `{"expires":"1999-01-01T00:00:00Z"}`, `[]`, ``, `null`,
	} {
		f.Add(byte(1), change)
	}
	f.Add(byte(0), `{}`)
	f.Add(byte(2), `{}`)
	w, begin := fuzzed(f)
	store := w.store.(*memory)
	f.Fuzz(func(t *testing.T, version byte, change string) {
		begun := begin(t, challenge.Match)
		lay(t, store, "challenge/", version, change)
		_, polled := w.challenges.Poll(ctx, claim(begun))
		proof, err := w.challenges.Check(ctx, claim(begun), guess(begun.Mail.Code))
		if err == nil {
			t.Fatalf("%s: a wrong code proves %+v", change, proof)
		}
		lay(t, store, "challenge/", version, change)
		proof, err = w.challenges.Check(ctx, claim(begun), string(begun.Mail.Code))
		switch {
		case version > 1 && !(errors.Is(err, guest.ErrNewer) && errors.Is(polled, guest.ErrNewer)), version == 0 && (err == nil || polled == nil):
			t.Errorf("version %d: %v, %v", version, polled, err)
		case err != nil && proof != (challenge.Proof{}):
			t.Errorf("%s: proves %+v in spite of %v", change, proof, err)
		case err != nil:
			return
		}
		if proof.Email != begun.Mail.To || proof.Purpose != challenge.Login || proof.Scope != site {
			t.Errorf("%s: proves %+v", change, proof)
		}
		if _, err := w.challenges.Check(ctx, claim(begun), string(begun.Mail.Code)); !errors.Is(err, challenge.ErrSpent) {
			t.Errorf("%s: the code works again: %v", change, err)
		}
	})
}

// FuzzBudget changes the record of an address's budget: it makes no code right,
// and whatever it holds, nobody is kept out for longer than a day.
func FuzzBudget(f *testing.F) {
	for _, change := range []string{
		`{}`, `{"more":1}`, `{"familiar":{"sends":[1,2,3]},"stranger":null}`, `{"familiar":{"paused":NOW}}`, `{"familiar":{"paused":NOW,"pauses":-1,"failures":[NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW,NOW]}}`,
		`{"familiar":{"paused":9223372036854775807}}`, `{"familiar":{"paused":-9223372036854775808,"pauses":9223372036854775807}}`, `{"familiar":{"sends":[9223372036854775807,-1]}}`, `[]`, ``,
	} {
		f.Add(byte(1), change)
	}
	f.Add(byte(0), `{}`)
	f.Add(byte(2), `{}`)
	w, begin := fuzzed(f)
	store := w.store.(*memory)
	f.Fuzz(func(t *testing.T, version byte, change string) {
		begun := begin(t, "")
		lay(t, store, "budget/", version, strings.ReplaceAll(change, "NOW", fmt.Sprint(w.clock.Now().Unix())))
		_, err := w.challenges.Check(ctx, claim(begun), guess(begun.Mail.Code))
		var wrong *challenge.Wrong
		if version > 1 && !errors.Is(err, guest.ErrNewer) || err == nil {
			t.Fatalf("%s, version %d: %v", change, version, err)
		}
		if !errors.As(err, &wrong) {
			return // it can't be read
		}
		w.clock.Advance(25 * time.Hour)
		again, err := w.challenges.Begin(ctx, challenge.Ask{Purpose: challenge.Login, Scope: site, Email: begun.Waiting.Email, Familiar: true})
		if err != nil || again.Mail == nil {
			t.Fatalf("%s: no mail a day later: %+v, %v", change, again, err)
		}
		if _, err := w.challenges.Check(ctx, claim(again), string(again.Mail.Code)); err != nil {
			t.Errorf("%s: the right code a day later: %v", change, err)
		}
	})
}

// lay changes the records of one kind in the store.
func lay(t *testing.T, store *memory, kind string, version byte, change string) {
	t.Helper()
	for key, record := range store.records {
		if strings.HasPrefix(key, kind) {
			store.records[key] = append([]byte{version}, changed(t, bytes.Clone(record[1:]), change)...)
		}
	}
}

// changed is a record with the fields of another laid over it, or that text
// itself where it has none.
func changed(t testing.TB, record []byte, change string) string {
	t.Helper()
	all, some := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if json.Unmarshal(record, &all) != nil || json.Unmarshal([]byte(change), &some) != nil {
		return change
	}
	for name, value := range some {
		all[name] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
