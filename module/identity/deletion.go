package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// deletionKind lists users by when they are to be erased:
// deletion/<unix seconds, 8 bytes big endian>/<user>.
var deletionKind = record.Kind{Name: "deletion", Version: 1}

const (
	// perErasure is how many records of a kind one Erase looks at: others wait
	// for it.
	perErasure = 64
	// tombstone is how long the id of a deleted user is told from one that never
	// was: longer than anything that names it.
	tombstone = 400 * 24 * time.Hour
)

// BeginDeletion has a user be erased at `deletes`, and ends every session.
// Until then StopDeletion undoes it.
func BeginDeletion(tx guest.Tx, id UserID, at, deletes time.Time) (User, error) {
	user, err := inState(tx, id, Active)
	if err != nil {
		return User{}, err
	}
	if deletes.Before(at) {
		deletes = at
	}
	user.State = Deleting
	user.endSessions(at)
	if err := schedule(tx, user, deletes); err != nil {
		return User{}, err
	}
	return *user, WriteUser(tx, user)
}

// StopDeletion makes a user who is Deleting Active again, also one whose time
// has come, as long as nobody has begun to erase them. What was pending ends.
func StopDeletion(tx guest.Tx, id UserID, at time.Time) (User, error) {
	user, err := inState(tx, id, Deleting)
	if err != nil {
		return User{}, err
	}
	user.State = Active
	user.endSessions(at)
	if err := schedule(tx, user, time.Time{}); err != nil {
		return User{}, err
	}
	return *user, WriteUser(tx, user)
}

// schedule sets when a user is to be erased, the zero time never. The caller
// writes the user.
func schedule(tx guest.Tx, user *User, deletes time.Time) error {
	if !user.Deletes.IsZero() {
		if err := tx.Delete(deletionKey(user.Deletes, user.ID)); err != nil {
			return fmt.Errorf("deleting %s: %w", deletionKind.Name, err)
		}
	}
	user.Deletes = time.Time{}
	if deletes.IsZero() {
		return nil
	}
	user.Deletes = deletes.UTC()
	return deletionKind.Put(tx, deletionKey(user.Deletes, user.ID), struct{}{}, time.Time{})
}

func deletionKey(deletes time.Time, id UserID) []byte {
	return deletionKind.Key(bigEndian(deletes), string(id))
}

// bigEndian sorts as time does. What was before 1970 is due as well.
func bigEndian(t time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(max(0, t.Unix()))))
}

// IsDue reports whether the user is to be erased by now: their own deletion is
// due, or somebody has begun to erase them.
func (u *User) IsDue(now time.Time) bool {
	return !u.Deletes.IsZero() && !now.Before(u.Deletes)
}

// maxMarks bounds how many marks one Due looks at.
const maxMarks = 4096

// Due are the users whose deletion is due, the longest overdue first, at most
// limit. Until Erase is called the deletion may be stopped: ask User.IsDue again
// in the transaction of the first call.
func Due(tx guest.Tx, now time.Time, limit int) (due []UserID, err error) {
	marks, err := marksUntil(tx, bigEndian(now))
	if err != nil {
		return nil, err
	}
	for _, m := range marks {
		if len(due) >= limit {
			break
		}
		user, err := ReadUser(tx, m.user)
		if errors.Is(err, guest.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// A mark alone erases nobody: the user's own record says when.
		if user.IsDue(now) && bigEndian(user.Deletes) == m.at {
			due = append(due, m.user)
		}
	}
	return due, nil
}

// mark is one record of deletionKind.
type mark struct {
	at   string
	user UserID
}

func marksUntil(tx guest.Tx, until string) (marks []mark, err error) {
	prefix := deletionKind.Key("")
	err = tx.Scan(prefix, nil, maxMarks, func(key, _ []byte) bool {
		rest := string(key[len(prefix):])
		if len(rest) <= len(until) || rest[:len(until)] > until {
			return false
		}
		marks = append(marks, mark{at: rest[:len(until)], user: UserID(rest[len(until)+1:])})
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("listing what is due: %w", err)
	}
	return marks, nil
}

// Erase removes a user in any state, a part of what is kept of them at each
// call: call it, in one transaction after the other, until more is false.
//
// The first call decides and takes nothing away yet: from then on the user is
// Deleted, which is none, and Due names them until the last call, so that a
// crash in between leaves nothing behind. Their Accounts can still be read, to
// revoke what they granted. Whatever other packages keep of the user is to be
// erased before the last call. What remains is the id.
func Erase(tx guest.Tx, id UserID, at time.Time) (more bool, err error) {
	if len(id) > maxUserID {
		return false, fmt.Errorf("reading user: %w", guest.ErrNotFound)
	}
	user, err := ReadUser(tx, id)
	if err != nil {
		return false, err
	}
	switch {
	case user.State != Deleted:
		return true, condemn(tx, user, at)
	case user.Deletes.IsZero():
		return false, nil
	default:
		return eraseSome(tx, user, at)
	}
}

// condemn is the deciding write.
func condemn(tx guest.Tx, user *User, at time.Time) error {
	user.State = Deleted
	user.endSessions(at)
	if err := schedule(tx, user, at); err != nil {
		return err
	}
	return WriteUser(tx, user)
}

func eraseSome(tx guest.Tx, user *User, at time.Time) (more bool, err error) {
	accounts, err := eraseAccounts(tx, user.ID)
	if err != nil {
		return false, err
	}
	addresses, err := eraseAddresses(tx, user)
	if err != nil {
		return false, err
	}
	if accounts == perErasure || addresses == perErasure {
		return true, nil
	}
	if err := errors.Join(eraseUndos(tx, user.ID), schedule(tx, user, time.Time{})); err != nil {
		return false, err
	}
	rest := User{ID: user.ID, State: Deleted}
	return false, userKind.Put(tx, userKind.Key(string(user.ID)), &rest, at.Add(tombstone))
}

// eraseAccounts returns how many it looked at.
func eraseAccounts(tx guest.Tx, user UserID) (int, error) {
	keys, err := listed(tx, accountKind, user, perErasure)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		account, err := ownAccount(tx, user, IdentityKey(key))
		switch {
		case err == nil:
			err = forgetAccount(tx, *account)
		case errors.Is(err, guest.ErrNotFound), errors.Is(err, ErrNotYours):
			err = tx.Delete(accountKind.Key(string(user), key))
		}
		if err != nil {
			return 0, fmt.Errorf("erasing an account: %w", err)
		}
	}
	return len(keys), nil
}

// eraseAddresses returns how many it looked at. What has gone to somebody else
// meanwhile stays theirs.
func eraseAddresses(tx guest.Tx, user *User) (int, error) {
	names, err := listed(tx, addressKind, user.ID, perErasure)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := eraseAddress(tx, user.ID, Email(name)); err != nil {
			return 0, err
		}
	}
	// Users of before the index was kept have no other.
	return len(names), eraseAddress(tx, user.ID, user.Email)
}

func eraseAddress(tx guest.Tx, user UserID, e Email) error {
	own, err := readAddresses(tx, user, []string{string(e)})
	if err == nil && len(own) > 0 {
		err = tx.Delete(identifierKind.Key(string(e)))
	}
	if err == nil {
		err = tx.Delete(addressKind.Key(string(user), string(e)))
	}
	if err != nil {
		return fmt.Errorf("erasing an address: %w", err)
	}
	return nil
}
