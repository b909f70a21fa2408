package oidc

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// How long an answer is taken for the present one; for how long it still
// serves while a newer one can't be had; for how long a failure is remembered,
// so that a dead issuer is not asked by every visitor; and how often somebody
// may insist on a newer answer.
const (
	freshFor  = time.Hour
	staleFor  = 24 * time.Hour
	failedFor = 5 * time.Second
	insistGap = 30 * time.Second
)

// shared is one document of an issuer's, fetched when somebody first needs it
// and by one of them for all: the fetch does not end with the visitor who
// caused it. T is a pointer, never changed after fetch returned it.
type shared[T comparable] struct {
	fetch    func(context.Context) (T, error)
	now      func() time.Time
	patience time.Duration // for one fetch

	mu       sync.Mutex
	got      T
	gotAt    time.Time
	err      error // of the last fetch
	errAt    time.Time
	insisted time.Time
	flight   *flight[T]
}

// flight is a fetch under way. got and err are set before done is closed.
type flight[T comparable] struct {
	done chan struct{}
	got  T
	err  error
}

// value returns the document, at most an hour old, or up to a day where the
// issuer can't be reached. It waits no longer than ctx and patience.
func (s *shared[T]) value(ctx context.Context) (T, error) {
	s.mu.Lock()
	now := s.now()
	if s.has() && within(now, s.gotAt, freshFor) {
		defer s.mu.Unlock()
		return s.got, nil
	}
	if s.flight == nil && s.err != nil && within(now, s.errAt, failedFor) {
		defer s.mu.Unlock()
		return s.fallBack(s.err)
	}
	f := s.takeOff()
	s.mu.Unlock()
	return f.wait(ctx)
}

// newer returns a document other than seen. It asks the issuer at most once
// in 30 s, whoever wants it: otherwise each token with an invented key ID
// would be one request. Where it may not ask, it returns seen.
func (s *shared[T]) newer(ctx context.Context, seen T) (T, error) {
	s.mu.Lock()
	now := s.now()
	if s.has() && s.got != seen {
		defer s.mu.Unlock()
		return s.got, nil
	}
	if s.flight == nil && within(now, s.insisted, insistGap) {
		defer s.mu.Unlock()
		return seen, nil
	}
	if s.flight == nil {
		s.insisted = now
	}
	f := s.takeOff()
	s.mu.Unlock()
	return f.wait(ctx)
}

func (s *shared[T]) has() bool {
	var none T
	return s.got != none
}

// within reports whether now is less than d after then. A clock set back
// makes everything old instead of eternal.
func within(now, then time.Time, d time.Duration) bool {
	age := now.Sub(then)
	return age >= 0 && age < d
}

// takeOff returns the fetch under way, or begins one. s.mu is held.
func (s *shared[T]) takeOff() *flight[T] {
	if s.flight != nil {
		return s.flight
	}
	f := &flight[T]{done: make(chan struct{})}
	s.flight = f
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.patience)
		defer cancel()
		got, err := s.fetchSafely(ctx)
		s.land(f, got, err)
	}()
	return f
}

// fetchSafely turns a panic into an error: outside of a request it would end
// the whole server.
func (s *shared[T]) fetchSafely(ctx context.Context) (got T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = untrusted("reading the issuer's document: %v", v)
		}
	}()
	return s.fetch(ctx)
}

func (s *shared[T]) land(f *flight[T], got T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight, s.err = nil, err
	if err == nil {
		s.got, s.gotAt = got, s.now()
		f.got = got
	} else {
		s.errAt = s.now()
		f.got, f.err = s.fallBack(err)
	}
	close(f.done)
}

// fallBack returns the last document where the issuer just can't be reached;
// a document that failed a check is no reason to go on with the old one. s.mu
// is held.
func (s *shared[T]) fallBack(err error) (T, error) {
	if s.has() && within(s.now(), s.gotAt, staleFor) && guest.ReasonOf(err) == guest.Unavailable {
		return s.got, nil
	}
	var none T
	return none, err
}

func (f *flight[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-f.done:
		return f.got, f.err
	case <-ctx.Done():
		var none T
		return none, unavailable("waiting for the issuer: %w", ctx.Err())
	}
}
