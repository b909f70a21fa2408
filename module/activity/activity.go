// Package activity keeps what happened to each user's account, for the person
// and for the operator to read: sign-ins, failures, links, changes. It forgets
// after 90 days.
package activity

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
)

// Entry is one thing that happened. It never holds a secret, a code, a token or
// a whole address.
type Entry struct {
	// At is when; the caller sets it.
	At time.Time `json:"at"`
	// What happened.
	What What `json:"what"`
	// Row is that of the decision table (identity.md section 3), where there was
	// a decision.
	Row string `json:"row,omitempty"`
	// Provider is the instance by which, identity.Operator, or empty.
	Provider string `json:"provider,omitempty"`
	// Detail is a masked address, the label of an account, the name of a group…
	Detail string `json:"detail,omitempty"`
	// Device is what the request let guess of the browser.
	Device string `json:"device,omitempty"`
	// Place is where the request seemed to come from.
	Place string `json:"place,omitempty"`
	// Session is its public handle.
	Session string `json:"session,omitempty"`
	// RequestID is what the log has, too.
	RequestID string `json:"request_id,omitempty"`
	// Failed says that it was tried and refused.
	Failed bool `json:"failed,omitempty"`
}

// What is a kind of event. The set is closed: pages have a sentence for each.
type What string

// The words.
const (
	SignedIn        What = "signed_in"
	SignInFailed    What = "sign_in_failed"
	SignedOut       What = "signed_out"
	SessionsEnded   What = "sessions_ended"
	Linked          What = "linked"
	Unlinked        What = "unlinked"
	AddressAdded    What = "address_added"
	AddressRemoved  What = "address_removed"
	PrimaryChanged  What = "primary_changed"
	Renamed         What = "renamed"
	GroupsChanged   What = "groups_changed"
	Disabled        What = "disabled"
	Enabled         What = "enabled"
	DeletionBegun   What = "deletion_begun"
	DeletionStopped What = "deletion_stopped"
	Provisioned     What = "provisioned"
	Claimed         What = "claimed"
	Reverted        What = "reverted"
	Reauthenticated What = "reauthenticated"
	Downloaded      What = "downloaded"
)

var words = []What{
	SignedIn, SignInFailed, SignedOut, SessionsEnded, Linked, Unlinked, AddressAdded, AddressRemoved, PrimaryChanged, Renamed,
	GroupsChanged, Disabled, Enabled, DeletionBegun, DeletionStopped, Provisioned, Claimed, Reverted, Reauthenticated, Downloaded,
}

const (
	// Keeps is how long an entry is kept and shown.
	Keeps = 90 * 24 * time.Hour
	// keepsOfNobody is that for whom there is nobody to show it to: until it no
	// longer counts among the failures of an hour.
	keepsOfNobody = 2 * time.Hour

	maxText = 200 // bytes of each text
	maxPage = 1000
	// maxErased is how many entries one Erase takes: others wait for it.
	maxErased = 1000
	// perHour bounds the failures that are kept of a user in an hour: whoever
	// knows an address can cause them.
	perHour = 60
)

// kind lists newest first: activity/<user>/<inverted time, hex>/<chance, hex>.
var kind = record.Kind{Name: "activity", Version: 1}

// ErrCursor is returned for a Cursor that List never gave.
var ErrCursor = errors.New("no such place in the list")

// Write adds an entry to a user's. Texts are cut to 200 bytes. Of failures no
// more than 60 in a row are kept in an hour; what is beyond is dropped, and no
// error. What is written of a stand-in is kept for two hours alone: strangers
// write it, of as many addresses as they think of.
func Write(tx guest.Tx, user identity.UserID, e Entry) error {
	if user == "" || e.At.IsZero() || !slices.Contains(words, e.What) {
		return fmt.Errorf("writing activity %q: %w", e.What, errors.New("needs a user, a time and a word of ours"))
	}
	e.At = e.At.UTC()
	for _, text := range []*string{&e.Row, &e.Provider, &e.Detail, &e.Device, &e.Place, &e.Session, &e.RequestID} {
		*text = cut(*text)
	}
	if e.Failed {
		flooded, err := isFlooded(tx, user, e.At)
		if err != nil || flooded {
			return err
		}
	}
	keeps := Keeps
	if user.IsStandIn() {
		keeps = keepsOfNobody
	}
	return kind.Put(tx, keyOf(user, e.At), e, e.At.Add(keeps))
}

// cut keeps the first 200 bytes, and no half of a character.
func cut(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

// isFlooded reports whether the newest entries are failures of the last hour,
// and enough of them.
func isFlooded(tx guest.Tx, user identity.UserID, now time.Time) (bool, error) {
	entries, _, err := scan(tx, user, nil, perHour)
	isRecent := func(e Entry) bool { return e.Failed && now.Sub(e.At).Abs() < time.Hour }
	return len(entries) == perHour && !slices.ContainsFunc(entries, func(e Entry) bool { return !isRecent(e) }), err
}

func keyOf(user identity.UserID, at time.Time) []byte {
	chance := make([]byte, 4)
	rand.Read(chance)
	return kind.Key(string(user), fmt.Sprintf("%016x", invert(at)), hex.EncodeToString(chance))
}

// invert sorts what is newer first. What a nanosecond count can't say counts as
// the nearest that it can.
func invert(at time.Time) uint64 {
	first, last := time.Unix(0, 0), time.Unix(0, math.MaxInt64)
	switch {
	case at.Before(first):
		at = first
	case at.After(last):
		at = last
	}
	return math.MaxUint64 - uint64(at.UnixNano())
}

// Cursor is a place in a user's list, where the next page begins. The zero
// value is the newest entry. It names nothing that the user may not see.
type Cursor string

var cursor = regexp.MustCompile(`^[0-9a-f]{16}/[0-9a-f]{8}$`)

// List returns a user's entries, newest first, those of the last 90 days: at
// most limit (and 1,000), and where the next page begins, empty at the end.
func List(tx guest.Tx, user identity.UserID, after Cursor, limit int, now time.Time) (entries []Entry, next Cursor, err error) {
	prefix := kind.Key(string(user), "")
	var from []byte
	if after != "" {
		if !cursor.MatchString(string(after)) {
			return nil, "", ErrCursor
		}
		from = append(append(prefix, after...), 0) // the first key after that one
	}
	limit = min(max(limit, 1), maxPage)
	entries, places, err := scan(tx, user, from, limit+1)
	if err != nil {
		return nil, "", err
	}
	// A store may show what has expired.
	isOver := func(e Entry) bool { return now.Sub(e.At) >= Keeps }
	if over := slices.IndexFunc(entries, isOver); over >= 0 {
		entries = entries[:over]
	}
	if len(entries) > limit {
		return entries[:limit], places[limit-1], nil
	}
	return entries, "", nil
}

// scan reads entries and where they are.
func scan(tx guest.Tx, user identity.UserID, from []byte, limit int) (entries []Entry, places []Cursor, err error) {
	prefix := kind.Key(string(user), "")
	errScan := tx.Scan(prefix, from, limit, func(key, value []byte) bool {
		var e Entry
		if err = kind.Decode(value, &e); err != nil {
			return false
		}
		entries, places = append(entries, e), append(places, Cursor(key[len(prefix):]))
		return true
	})
	if err := errors.Join(err, errScan); err != nil {
		return nil, nil, fmt.Errorf("reading activity: %w", err)
	}
	return entries, places, nil
}

// Erase removes a user's entries, at most limit (and 1,000) of them: call it, in
// one transaction after the other, until more is false.
func Erase(tx guest.Tx, user identity.UserID, limit int) (more bool, err error) {
	limit = min(max(limit, 1), maxErased)
	var keys []string
	err = tx.Scan(kind.Key(string(user), ""), nil, limit+1, func(key, _ []byte) bool {
		keys = append(keys, string(key))
		return true
	})
	if err != nil {
		return false, fmt.Errorf("listing activity: %w", err)
	}
	for _, key := range keys[:min(len(keys), limit)] {
		if err := tx.Delete([]byte(key)); err != nil {
			return false, fmt.Errorf("erasing activity: %w", err)
		}
	}
	return len(keys) > limit, nil
}
