package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// Query asks for users by exactly one of their names: the id, an address,
// proven or provisioned, or an account.
type Query struct {
	ID                UserID
	Email             Email
	Provider, Subject string
}

var errQuery = errors.New("finding users: ask for an id, an address, or a provider and a subject")

// Find returns the users that q names, none where there are none. By an
// account there may be several: at other issuers the same subject is another's.
func Find(tx guest.Tx, q Query) ([]User, error) {
	switch {
	case q.ID != "" && q == Query{ID: q.ID}:
		return atMostOne(existing(tx, q.ID))
	case q.Email != "" && q == Query{Email: q.Email}:
		held, err := heldBy(tx, q.Email)
		if err != nil {
			return atMostOne(nil, err)
		}
		return atMostOne(existing(tx, held.User))
	case q.Provider != "" && q.Subject != "" && q == Query{Provider: q.Provider, Subject: q.Subject}:
		return bySubject(tx, q.Provider, q.Subject)
	default:
		return nil, errQuery
	}
}

func atMostOne(user *User, err error) ([]User, error) {
	if errors.Is(err, guest.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []User{*user}, nil
}

func bySubject(tx guest.Tx, provider, subject string) (users []User, err error) {
	keys, err := listed(tx, subjectKind, UserID(record.Hash(provider, subject)), maxListed)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		user, err := owner(tx, IdentityKey(key))
		if errors.Is(err, guest.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(users, func(u User) bool { return u.ID == user.ID }) {
			users = append(users, *user)
		}
	}
	return users, nil
}

// owner is whose an identity is.
func owner(tx guest.Tx, key IdentityKey) (*User, error) {
	var identity Identity
	if err := identityKind.Get(tx, identityKind.Key(string(key)), &identity); err != nil {
		return nil, err
	}
	return existing(tx, identity.User)
}

// List returns users in the order of their ids, beginning after one, at most
// limit, often fewer. It returns none only at the end: past a great many who
// were deleted it reads more than Page does at once.
func List(tx guest.Tx, after UserID, limit int) ([]User, error) {
	for {
		users, next, err := Page(tx, after, limit)
		if err != nil || len(users) > 0 || next == "" {
			return users, err
		}
		after = next
	}
}

// maxPage bounds what is read at once.
const maxPage = 1000

// Page returns users in the order of their ids, beginning after one, at most
// limit (and 1,000), and where the next page begins; empty: it was the last. It
// reads at most four times as many records, and so may return fewer users, or
// none, before the end.
func Page(tx guest.Tx, after UserID, limit int) (users []User, next UserID, err error) {
	limit = min(limit, maxPage)
	if limit <= 0 || len(after) > maxUserID {
		return nil, "", nil
	}
	prefix := userKind.Key("")
	from := append(userKind.Key(string(after)), 0) // the first key after that one's
	seen, last := 0, after
	errScan := tx.Scan(prefix, from, 4*limit+1, func(key, value []byte) bool {
		if seen++; seen > 4*limit || len(users) == limit {
			next = last
			return false
		}
		last = UserID(key[len(prefix):])
		var user User
		err = userKind.Decode(value, &user)
		if err == nil && user.State != Deleted {
			users = append(users, user)
		}
		return err == nil
	})
	if err := errors.Join(err, errScan); err != nil {
		return nil, "", fmt.Errorf("listing users: %w", err)
	}
	return users, next, nil
}
