package module

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

// archiveKind is the content type of a backup.
const archiveKind = "application/octet-stream"

// archive is the open store, where it can be saved.
func (d *desk) archive() (*house, guest.Archive, error) {
	house, err := d.enter()
	if err != nil {
		return nil, nil, err
	}
	archive, ok := bare(house.store).(guest.Archive)
	if !ok {
		return nil, nil, caddy.APIError{HTTPStatus: http.StatusNotImplemented, Err: errors.New("this store can't be saved from here: back it up by its own means")}
	}
	return house, archive, nil
}

// backup sends everything that the store holds. It is as secret as the store:
// whoever has it has the keys. What fails once it is under way breaks the
// connection off, so that nobody takes half of it for all.
func (d *desk) backup() (any, error) {
	_, archive, err := d.archive()
	if err != nil {
		return nil, err
	}
	d.w.Header().Set("Content-Type", archiveKind)
	d.w.Header().Set("Cache-Control", "no-store")
	out := &counted{Writer: &patientWriter{d.w, http.NewResponseController(d.w)}}
	err = archive.Backup(d.r.Context(), out)
	switch {
	case err != nil && out.n == 0:
		return nil, fmt.Errorf("backing up: %w", err)
	case err != nil:
		d.app.log.Error("backup broke off", zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	d.app.log.Info("backed up", zap.String("by", identity.Operator), zap.Int64("bytes", out.n))
	return none{}, nil
}

// counted counts what went out.
type counted struct {
	io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// restoration is the answer of a restore.
type restoration struct {
	Restored bool `json:"restored"` // always true: else there is an error
}

// restore replaces everything with a backup. Nobody is signed in after it: what
// was ended or spent since the backup was made would else live again. So no
// session of the backup lives, and nothing opens that was sealed before.
func (d *desk) restore() (any, error) {
	if err := d.mustBe(archiveKind); err != nil {
		return nil, err
	}
	house, archive, err := d.archive()
	if err != nil {
		return nil, err
	}
	prepared := false
	failed := archive.Restore(d.r.Context(), d.patientBody(), func(fresh guest.Store) error {
		prepared = true
		return disarm(fresh)
	})
	if failed != nil && !prepared {
		return nil, notRestored(failed)
	}
	// Also where it failed: what an ill disk left is read anew.
	err = errors.Join(house.ring.Reload(d.lasting()), house.signer.Rotate(d.lasting()))
	house.sessions.ForgetEverything()
	switch {
	case failed != nil && err == nil:
		return nil, notRestored(failed)
	case failed != nil:
		return nil, fmt.Errorf("restoring broke off with the disk; the data is all of before, or all of the backup: look at the disk, then restart Caddy: %w", failed)
	case err != nil:
		return nil, fmt.Errorf("restored, but the new keys can't be read: restart Caddy: %w", err)
	}
	d.app.log.Warn("restored a backup; everybody has to sign in again", zap.String("by", identity.Operator))
	return restoration{Restored: true}, nil
}

// notRestored says what is wrong with a backup that was refused. What it says
// of the bytes is for whoever sent them.
func notRestored(err error) error {
	if errors.Is(err, guest.ErrFull) || errors.Is(err, guest.ErrClosed) {
		return err
	}
	return caddy.APIError{HTTPStatus: http.StatusUnprocessableEntity, Err: fmt.Errorf("restoring, nothing was changed: %w", err)}
}

// disarm takes out of a backup what must not work again: the keys, and with
// them all that browsers hold, whatever waits for its visitor, and every session.
func disarm(store guest.Store) error {
	ctx := context.Background()
	if err := seal.Renew(ctx, store, time.Now); err != nil {
		return fmt.Errorf("renewing keys: %w", err)
	}
	if err := voidWaiting(ctx, store); err != nil {
		return fmt.Errorf("voiding codes and questions: %w", err)
	}
	ring, err := seal.Load(ctx, store, time.Now)
	if err != nil {
		return err
	}
	return endEverybody(ctx, session.Open(store, ring, time.Now))
}

// waits are the kinds of what waits minutes for its visitor, and works once:
// codes, links, questions. No key that a restore renews guards them.
var waits = []record.Kind{{Name: "challenge", Version: 1}, {Name: "pending", Version: 1}}

// voidFor is longer than any of them lives.
const voidFor = 2 * time.Hour

// voidWaiting empties what waits, which leaves it as one that is over. What of
// it was spent since the backup was made would else work again.
func voidWaiting(ctx context.Context, store guest.Store) error {
	for _, kind := range waits {
		var last []byte
		for more := true; more; {
			err := store.Update(ctx, func(tx guest.Tx) (err error) {
				last, more, err = voidSome(tx, kind, last)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func voidSome(tx guest.Tx, kind record.Kind, after []byte) (last []byte, more bool, err error) {
	from := append(bytes.Clone(after), 0) // the key after it
	if after == nil {
		from = nil
	}
	var keys [][]byte
	err = tx.Scan(kind.Key(""), from, longestPage, func(key, _ []byte) bool {
		keys = append(keys, bytes.Clone(key))
		return true
	})
	for _, key := range keys {
		err = errors.Join(err, kind.Put(tx, key, struct{}{}, time.Now().Add(voidFor)))
		last = key
	}
	return last, len(keys) == longestPage, err
}

// endEverybody ends all sessions, page by page.
func endEverybody(ctx context.Context, sessions *session.Sessions) error {
	var after session.Key
	for {
		page, next, err := sessions.List(ctx, after, longestPage)
		if err != nil {
			return err
		}
		keys := make([]session.Key, len(page))
		for i := range page {
			keys[i] = page[i].Key
		}
		if err := sessions.EndMany(ctx, keys); err != nil {
			return err
		}
		if next == (session.Key{}) {
			return nil
		}
		after = next
	}
}

const (
	// bodyPatience is how long the next bytes of a backup may take to come.
	// Caddy's admin endpoint would give all of it ten seconds.
	bodyPatience = time.Minute
	// readerPatience is how long a backup's reader may take none of it: others
	// who want one wait meanwhile, and so does a Caddy that is to stop.
	readerPatience = 30 * time.Second
)

func (d *desk) patientBody() io.Reader {
	return &patient{Reader: d.r.Body, connection: http.NewResponseController(d.w)}
}

// patient reads a body that takes its time, as long as it goes on.
type patient struct {
	io.Reader
	connection *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.connection.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil {
		return 0, fmt.Errorf("waiting for the backup: %w", err)
	}
	return p.Reader.Read(b)
}

// patientWriter writes to somebody who takes their time, as long as they go on.
type patientWriter struct {
	io.Writer
	connection *http.ResponseController
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.connection.SetWriteDeadline(time.Now().Add(readerPatience)); err != nil {
		return 0, fmt.Errorf("limiting the wait for the backup's reader: %w", err)
	}
	n, err := p.Writer.Write(b)
	if err == nil {
		err = p.connection.Flush()
	}
	if err == nil {
		err = p.connection.SetWriteDeadline(time.Time{}) // others follow on the connection
	}
	return n, err
}
