package session

import (
	"context"
	"slices"
	"sync"
)

// Stream is one long-lived response of a session: a WebSocket, server-sent
// events. It ends when its session does. The zero value is ready; it is used
// for one response.
type Stream struct {
	// End is called, once or more, when the session has ended or expired. It
	// must not block.
	End func()

	held       *AtHand
	prev, next *Stream
}

// streams are the open ones, by session.
type streams [shards]struct {
	sync.Mutex
	first map[Key]*Stream
}

func (s *streams) init() {
	for i := range s {
		s[i].first = make(map[Key]*Stream)
	}
}

// Watch ties a stream to its session until Release. End is called at once
// where the session ended since it was read, or its person became another to
// those who judge them: whoever closes their streams for that may have come
// before this one.
func (s *Sessions) Watch(ctx context.Context, held *AtHand, stream *Stream) {
	stream.held = held
	s.streams.add(stream)
	// Still at hand, it has not ended before the stream was added; and from
	// then on whoever ends it finds the stream. Else only the store knows.
	if s.cache.find(held.hash) == held {
		return
	}
	if !s.maySee(ctx, held) {
		stream.End()
	}
}

// maySee reports whether a session lives, and rules see in its person what they
// saw when it was read.
func (s *Sessions) maySee(ctx context.Context, held *AtHand) bool {
	stored, err := s.verify(ctx, held)
	if err != nil {
		return false
	}
	was, is := &held.Live().Person, &stored.Person
	return was.User.ID == is.User.ID && was.User.Email == is.User.Email &&
		slices.Equal(was.User.Groups, is.User.Groups) && slices.Equal(was.Identity.Groups, is.Identity.Groups)
}

// Release unties the stream. It may be called twice, or without Watch.
func (s *Sessions) Release(stream *Stream) {
	if stream.held != nil {
		s.streams.remove(stream)
		stream.held = nil
	}
}

// verify asks the store whether what is held still lives, and as what.
func (s *Sessions) verify(ctx context.Context, held *AtHand) (*Live, error) {
	stored, err := s.fetch(ctx, held.key)
	if err != nil {
		return nil, err
	}
	if stored.livesAt(s.now()) || stored.Ended.IsZero() && held.livesAt(s.now()) {
		return stored, nil
	}
	return nil, ErrNone
}

// Sweep ends the streams of sessions that have expired. Call it every few
// seconds.
func (s *Sessions) Sweep(ctx context.Context) {
	for _, held := range s.streams.lives() {
		if held.livesAt(s.now()) {
			continue
		}
		if _, err := s.verify(ctx, held); err != nil {
			s.streams.end(held.key)
		}
	}
}

// Streaming are the sessions that have a stream: they may be in use without a
// request.
func (s *Sessions) Streaming() []*AtHand { return s.streams.lives() }

func (s *streams) add(stream *Stream) {
	key := stream.held.key
	shard := &s[key[0]%shards]
	shard.Lock()
	defer shard.Unlock()
	if first := shard.first[key]; first != nil {
		stream.next, first.prev = first, stream
	}
	shard.first[key] = stream
}

func (s *streams) remove(stream *Stream) {
	key := stream.held.key
	shard := &s[key[0]%shards]
	shard.Lock()
	defer shard.Unlock()
	if stream.next != nil {
		stream.next.prev = stream.prev
	}
	switch {
	case stream.prev != nil:
		stream.prev.next = stream.next
	case stream.next != nil:
		shard.first[key] = stream.next
	default:
		delete(shard.first, key)
	}
	stream.prev, stream.next = nil, nil
}

// lives is one of each session that has a stream.
func (s *streams) lives() []*AtHand {
	var lives []*AtHand
	for i := range s {
		s[i].Lock()
		for _, stream := range s[i].first {
			lives = append(lives, stream.held)
		}
		s[i].Unlock()
	}
	return lives
}

// of is what the streams of a session were opened with.
func (s *streams) of(key Key) (held []*AtHand) {
	shard := &s[key[0]%shards]
	shard.Lock()
	defer shard.Unlock()
	for stream := shard.first[key]; stream != nil; stream = stream.next {
		held = append(held, stream.held)
	}
	return slices.Compact(held)
}

func (s *streams) end(key Key) {
	shard := &s[key[0]%shards]
	shard.Lock()
	defer shard.Unlock()
	for stream := shard.first[key]; stream != nil; stream = stream.next {
		stream.End()
	}
}

func (s *streams) endAll() {
	for i := range s {
		s[i].Lock()
		for _, stream := range s[i].first {
			for ; stream != nil; stream = stream.next {
				stream.End()
			}
		}
		s[i].Unlock()
	}
}
