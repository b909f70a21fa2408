package logintest

import "time"

// shelf keeps what an issuer must remember for a while, and no more of it than
// fits: the oldest falls off. Keys are never used twice. Not safe for
// concurrent use.
type shelf[V any] struct {
	size  int
	life  time.Duration
	items map[string]shelved[V]
	order []string
}

type shelved[V any] struct {
	value V
	until time.Time
}

func newShelf[V any](size int, life time.Duration) *shelf[V] {
	return &shelf[V]{size: size, life: life, items: map[string]shelved[V]{}}
}

func (s *shelf[V]) put(key string, value V, now time.Time) {
	for len(s.order) > 0 && (len(s.order) >= s.size || !s.alive(s.order[0], now)) {
		delete(s.items, s.order[0])
		s.order = s.order[1:]
	}
	s.items[key] = shelved[V]{value, now.Add(s.life)}
	s.order = append(s.order, key)
}

func (s *shelf[V]) get(key string, now time.Time) (V, bool) {
	if !s.alive(key, now) {
		var none V
		return none, false
	}
	return s.items[key].value, true
}

func (s *shelf[V]) drop(key string) { delete(s.items, key) }

func (s *shelf[V]) alive(key string, now time.Time) bool {
	item, ok := s.items[key]
	return ok && now.Before(item.until)
}
