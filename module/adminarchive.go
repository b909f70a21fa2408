package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
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
	archive, ok := house.store.(guest.Archive)
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
	out := &counted{Writer: d.w}
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
	if err := archive.Restore(d.r.Context(), d.patientBody(), disarm); err != nil {
		return nil, notRestored(err)
	}
	err = house.ring.Reload(d.lasting())
	house.sessions.ForgetEverything()
	if err != nil {
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
// them all that browsers hold, and every session.
func disarm(store guest.Store) error {
	ctx := context.Background()
	if err := seal.Renew(ctx, store, time.Now); err != nil {
		return fmt.Errorf("renewing keys: %w", err)
	}
	ring, err := seal.Load(ctx, store, time.Now)
	if err != nil {
		return err
	}
	return endEverybody(ctx, session.Open(store, ring, time.Now))
}

// endEverybody ends all sessions. Those of a page end at once: a store makes one
// write of what comes together.
func endEverybody(ctx context.Context, sessions *session.Sessions) error {
	var after session.Key
	for {
		page, next, err := sessions.List(ctx, after, longestPage)
		if err != nil {
			return err
		}
		if err := endThese(ctx, sessions, page); err != nil {
			return err
		}
		if next == (session.Key{}) {
			return nil
		}
		after = next
	}
}

// endingAtOnce is how many sessions end beside each other.
const endingAtOnce = 64

func endThese(ctx context.Context, sessions *session.Sessions, page []session.Session) error {
	var wait sync.WaitGroup
	slots, errs := make(chan struct{}, endingAtOnce), make([]error, len(page))
	for i := range page {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			errs[i] = sessions.End(ctx, page[i].Key)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// bodyPatience is how long the next bytes of a backup may take. Caddy's admin
// endpoint would give all of it ten seconds.
const bodyPatience = time.Minute

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
