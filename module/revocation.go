package module

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/backchannel"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/session"
)

// What a person granted us at a provider is revoked there once it is of no use
// any more: the account was disconnected, or its person leaves. It is written
// down in the transaction that decides so, and done afterwards, as often as it
// takes within a week: a provider may be down.

// revocation is the record.
type revocation struct {
	// Provider and Issuer say who is to be told.
	Provider string `json:"provider"`
	Issuer   string `json:"issuer"` // whose account it was
	// Sealed is the guest.Granted.
	Sealed []byte `json:"sealed"`
	// Since is when it was decided, Tries how often it was tried.
	Since time.Time `json:"since"`
	Tries int       `json:"tries,omitempty"` // in vain
}

// revocationKind is revocation/<when to try next, unix seconds, 8 bytes big
// endian>/<chance>.
var revocationKind = record.Kind{Name: "revocation", Version: 1}

const (
	// revokeFor is how long it is tried.
	revokeFor = 7 * 24 * time.Hour
	// firstRetry is doubled with each try, up to lastRetry.
	firstRetry, lastRetry = time.Minute, 6 * time.Hour
	// revokeAtOnce is how many are done in one round.
	revokeAtOnce = 32
	// revokeTimeout is how long one call may take.
	revokeTimeout = 10 * time.Second
)

// revokeLater has what an account granted be revoked: its consent, and what the
// sessions kept that came in by it.
func (h *house) revokeLater(tx guest.Tx, gone identity.Change, ended []session.Ended, at time.Time) error {
	account := &gone.Identity
	granted := guest.Granted{Issuer: account.Issuer, Subject: account.Subject}
	if gone.Consent != nil {
		consent, err := h.ring.OpenAtRest(consentPurpose(account.Key()), gone.Consent)
		if err != nil {
			return fmt.Errorf("reading consent: %w", err)
		}
		granted.Consent = guest.Secret(consent)
	}
	kept := false
	for i := range ended {
		if grant := ended[i].Grant; grant != nil && (grant.Access != "" || grant.Refresh != "") && string(ended[i].Identity) == string(account.Key()) {
			kept = true
			each := granted
			each.Tokens = guest.Tokens{Access: grant.Access, Refresh: grant.Refresh, Expires: grant.Expires}
			if err := h.keepRevocation(tx, account, each, at); err != nil {
				return err
			}
		}
	}
	if kept || granted.Consent == "" {
		return nil
	}
	return h.keepRevocation(tx, account, granted, at)
}

// revokeAll has all be revoked that a user granted, and ends the sessions that
// kept it: as many as one transaction holds. Those that remain keep nothing that
// outlives them.
func (h *house) revokeAll(tx guest.Tx, user identity.UserID, at time.Time) ([]session.Ended, error) {
	accounts, err := identity.Accounts(tx, user)
	if err != nil {
		return nil, err
	}
	ended, _, err := h.sessions.EndUser(tx, user, session.Key{})
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		sealed, err := identity.Consent(tx, account.Key())
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, err
		}
		if err := h.revokeLater(tx, identity.Change{Identity: account, Consent: sealed}, ended, at); err != nil {
			return nil, err
		}
	}
	return ended, nil
}

// revokeKept ends some of the sessions of a user who is no more, as many as one
// transaction holds, and has be revoked what they kept. It is called until done.
func (h *house) revokeKept(tx guest.Tx, user identity.UserID, at time.Time) (ended []session.Ended, done bool, err error) {
	accounts, err := identity.Accounts(tx, user)
	if err != nil {
		return nil, false, err
	}
	if ended, done, err = h.sessions.EndUser(tx, user, session.Key{}); err != nil {
		return nil, false, err
	}
	for _, account := range accounts {
		if err := h.revokeLater(tx, identity.Change{Identity: account}, ended, at); err != nil {
			return nil, false, err
		}
	}
	return ended, done, nil
}

func (h *house) keepRevocation(tx guest.Tx, account *identity.Identity, granted guest.Granted, at time.Time) error {
	plain, err := json.Marshal(granted)
	if err != nil {
		return fmt.Errorf("encoding what was granted: %w", err)
	}
	r := revocation{Provider: account.Provider, Issuer: account.Issuer, Since: at.UTC()}
	r.Sealed = h.ring.SealAtRest(r.purpose(), plain)
	return r.write(tx, at)
}

func (r *revocation) purpose() string { return "revocation/" + record.Hash(r.Provider, r.Issuer) }

func (r *revocation) write(tx guest.Tx, next time.Time) error {
	chance := make([]byte, 8)
	rand.Read(chance)
	key := revocationKind.Key(string(binary.BigEndian.AppendUint64(nil, uint64(max(0, next.Unix())))), string(chance))
	return revocationKind.Put(tx, key, r, r.Since.Add(revokeFor))
}

// dueRevocation is one whose time has come.
type dueRevocation struct {
	key []byte
	revocation
}

func dueRevocations(tx guest.Tx, now time.Time) (due []dueRevocation, err error) {
	prefix := revocationKind.Key("")
	until := revocationKind.Key(string(binary.BigEndian.AppendUint64(nil, uint64(now.Unix()+1))))
	scanned := tx.Scan(prefix, nil, revokeAtOnce, func(key, value []byte) bool {
		if string(key) >= string(until) {
			return false
		}
		one := dueRevocation{key: append([]byte(nil), key...)}
		if err = revocationKind.Decode(value, &one.revocation); err != nil {
			return false
		}
		due = append(due, one)
		return true
	})
	return due, errors.Join(err, scanned)
}

// revokeDue tells providers what is to be told by now.
func (a *App) revokeDue(ctx context.Context, h *house, now time.Time) error {
	var due []dueRevocation
	err := h.store.View(ctx, func(tx guest.Tx) (err error) {
		due, err = dueRevocations(tx, now)
		return err
	})
	for _, one := range due {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = errors.Join(err, a.revokeOne(ctx, h, one, now))
	}
	return err
}

// revokeOne tells a provider, and writes down whether to tell it again.
func (a *App) revokeOne(ctx context.Context, h *house, one dueRevocation, now time.Time) error {
	failed := a.callRevoker(ctx, h, &one.revocation)
	return h.store.Update(ctx, func(tx guest.Tx) error {
		// During a reload another may have tried as well, and written down when
		// next: two of it would be four after the next reload.
		if _, err := tx.Get(one.key); errors.Is(err, guest.ErrNotFound) {
			return nil
		}
		if err := tx.Delete(one.key); err != nil || failed == nil {
			return err
		}
		next := one.revocation
		next.Tries++
		return next.write(tx, now.Add(min(firstRetry<<min(one.Tries, 12), lastRetry)))
	})
}

// callRevoker returns nil once there is nothing more to do.
func (a *App) callRevoker(ctx context.Context, h *house, r *revocation) error {
	method := a.provider(r.Provider, r.Issuer)
	revoker, ok := method.(guest.Revoker)
	if method != nil && !ok {
		return nil
	}
	plain, err := h.ring.OpenAtRest(r.purpose(), r.Sealed)
	var granted guest.Granted
	if err == nil {
		err = json.Unmarshal(plain, &granted)
	}
	if err != nil {
		a.log.Error("what was granted can't be read", zap.String("provider", r.Provider))
		return nil
	}
	if method == nil {
		return errors.New("no site offers the provider now")
	}
	calling, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	err = revoker.Revoke(backchannel.For(calling, backchannel.Revoke), granted)
	countRevocation(r.Provider, err)
	if err == nil || errors.Is(err, guest.ErrNotRevocable) {
		return nil
	}
	a.log.Warn("could not revoke what a person granted; it will be tried again",
		zap.String("provider", r.Provider), zap.Int("tries", r.Tries+1), zap.Error(err))
	return err
}

// houseworkEvery is how often accounts are erased and grants revoked.
const houseworkEvery = time.Minute

// housework revokes what is to be revoked and erases users whose time is over,
// at once, since both may have waited for a restart, and then until ctx ends. The old and the new app of a reload may both do it for a while:
// the transactions bear that, and so do providers.
func (a *App) housework(ctx context.Context) {
	ticker := time.NewTicker(houseworkEvery)
	defer ticker.Stop()
	for {
		if h, err := a.door.enter(); err == nil {
			err = errors.Join(a.revokeDue(ctx, h, time.Now()), a.eraseDue(ctx, h))
			if err != nil && ctx.Err() == nil {
				a.log.Error("revoking grants and erasing accounts", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// eraseAtOnce is how many users are erased in one round.
const eraseAtOnce = 16

func (a *App) eraseDue(ctx context.Context, h *house) error {
	var due []identity.UserID
	err := h.store.View(ctx, func(tx guest.Tx) (err error) {
		due, err = identity.Due(tx, time.Now(), eraseAtOnce)
		return err
	})
	for _, user := range due {
		err = errors.Join(err, a.erase(ctx, h, user))
	}
	return err
}

// erase removes all that is kept of a user who still wants it, in parts. What
// they granted is revoked.
func (a *App) erase(ctx context.Context, h *house, user identity.UserID) error {
	err := h.store.Update(ctx, func(tx guest.Tx) error {
		known, err := identity.ReadUser(tx, user)
		if err != nil {
			return err
		}
		if !known.IsDue(time.Now()) {
			return errStays
		}
		if known.State == identity.Deleted {
			return nil // begun before
		}
		if _, err := h.revokeAll(tx, user, time.Now()); err != nil {
			return err
		}
		_, err = identity.Erase(tx, user, time.Now())
		return err
	})
	if errors.Is(err, errStays) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("erasing a user: %w", err)
	}
	last, err := h.eraseRest(ctx, user, h.forgetThese)
	if err != nil {
		return fmt.Errorf("erasing a user: %w", err)
	}
	if last {
		a.erased(user)
	}
	return nil
}

var errStays = errors.New("the user is not to be erased")

func (h *house) forgetThese(ended []session.Ended) {
	for i := range ended {
		h.sessions.Forget(ended[i].Key)
	}
}

// eraseRest erases in chunks what is left of a user who is condemned: sessions,
// which it tells of, then the activity; the last chunk of the user is what ends
// it. Several may be at it at once, or one after the other was killed: last is
// told to exactly one.
func (h *house) eraseRest(ctx context.Context, user identity.UserID, tell func([]session.Ended)) (last bool, err error) {
	if err := h.eraseSessions(ctx, user, tell); err != nil {
		return false, err
	}
	if err := h.eraseActivity(ctx, user); err != nil {
		return false, err
	}
	for more := true; more; {
		err := h.store.Update(ctx, func(tx guest.Tx) error {
			known, err := identity.ReadUser(tx, user)
			if err != nil {
				return err
			}
			more, err = identity.Erase(tx, user, time.Now())
			last = !more && !known.Deletes.IsZero() // else another was faster
			return err
		})
		if err != nil {
			return false, err
		}
	}
	return last, nil
}

func (h *house) eraseSessions(ctx context.Context, user identity.UserID, tell func([]session.Ended)) error {
	for done := false; !done; {
		var ended []session.Ended
		err := h.store.Update(ctx, func(tx guest.Tx) (err error) {
			ended, done, err = h.revokeKept(tx, user, time.Now())
			return err
		})
		if err != nil {
			return err
		}
		tell(ended)
	}
	return nil
}

func (h *house) eraseActivity(ctx context.Context, user identity.UserID) error {
	for more := true; more; {
		err := h.store.Update(ctx, func(tx guest.Tx) (err error) {
			more, err = activity.Erase(tx, user, 1000)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
