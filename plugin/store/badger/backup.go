package badger

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
)

// backupFormat is the version of what Backup writes: a line
//
//	caddy-login-store <backupFormat> <bytes that the store took>
//
// then the records in the order of their keys, each as the length of its key
// (2 bytes, never 0), the key, the length of the record (4 bytes), the record as
// encode makes it; then a length of 0, the number of records (8 bytes), and the
// SHA-256 of all that came before. Numbers are big-endian.
const backupFormat = 1

const backupMagic = "caddy-login-store"

// maxHeader is more than any header is long.
const maxHeader = 128

var (
	errNoBackup      = errors.New("this is no backup of a store")
	errDamagedBackup = errors.New("the backup is damaged: use another one")
	errCutBackup     = errors.New("the backup is cut short: use a whole one")
)

// Backup writes the records as of one moment to w. It waits for a Backup or
// Restore under way. It looks at ctx between records: a w that blocks holds it
// up, and Close with it.
func (s *store) Backup(ctx context.Context, w io.Writer) error {
	ctx, leave, err := s.archiving(ctx)
	if err != nil {
		return err
	}
	defer leave()
	snapshot := s.db.NewTransaction(false)
	defer snapshot.Discard()
	p := newPacker(w)
	if _, err := fmt.Fprintf(p.w, "%s %d %d\n", backupMagic, backupFormat, used(s.dir)); err != nil {
		return fmt.Errorf("writing backup: %w", err)
	}
	if err := p.records(ctx, snapshot); err != nil {
		return fmt.Errorf("writing backup: %w", err)
	}
	if err := p.end(); err != nil {
		return fmt.Errorf("writing backup: %w", err)
	}
	return nil
}

// packer writes a backup.
type packer struct {
	w     *bufio.Writer
	sum   hash.Hash
	count uint64
}

func newPacker(w io.Writer) *packer {
	sum := sha256.New()
	return &packer{w: bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10), sum: sum}
}

func (p *packer) records(ctx context.Context, snapshot *badger.Txn) error {
	it := snapshot.NewIterator(badger.IteratorOptions{Prefix: []byte(theirs)})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		item := it.Item()
		err := item.Value(func(record []byte) error { return p.record(item.Key()[len(theirs):], record) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) record(key, record []byte) error {
	p.count++
	_, _ = p.w.Write(binary.BigEndian.AppendUint16(p.w.AvailableBuffer(), uint16(len(key))))
	_, _ = p.w.Write(key) // bufio: an error comes back with the next write
	_, _ = p.w.Write(binary.BigEndian.AppendUint32(p.w.AvailableBuffer(), uint32(len(record))))
	_, err := p.w.Write(record)
	return err
}

func (p *packer) end() error {
	_, _ = p.w.Write([]byte{0, 0})
	_, _ = p.w.Write(binary.BigEndian.AppendUint64(p.w.AvailableBuffer(), p.count))
	if err := p.w.Flush(); err != nil {
		return err
	}
	_, _ = p.w.Write(p.sum.Sum(nil))
	return p.w.Flush()
}

// unpacker reads a backup. What it returns is to be believed only once end has
// said that all of it is as it was written.
type unpacker struct {
	r     *bufio.Reader
	sum   hash.Hash
	count uint64
	last  []byte // the key before
}

func newUnpacker(r io.Reader) *unpacker {
	return &unpacker{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
}

// header returns how many bytes the store took.
func (u *unpacker) header() (size int64, err error) {
	line, err := u.r.Peek(maxHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	line, _, found := bytes.Cut(line, []byte("\n"))
	words := strings.Split(string(line), " ")
	if !found || len(words) < 2 || words[0] != backupMagic {
		return 0, errNoBackup
	}
	version, err := strconv.ParseUint(words[1], 10, 32)
	if err == nil && version > backupFormat {
		return 0, fmt.Errorf("backup has format %d, this version knows %d: %w", version, backupFormat, guest.ErrNewer)
	}
	if err != nil || version == 0 || len(words) != 3 {
		return 0, errDamagedBackup
	}
	if size, err = strconv.ParseInt(words[2], 10, 64); err != nil || size < 0 {
		return 0, errDamagedBackup
	}
	_, err = u.bytes(len(line) + 1)
	return size, err
}

// next returns a record, or no key at the end.
func (u *unpacker) next() (key, record []byte, err error) {
	size, err := u.bytes(2)
	if err != nil || binary.BigEndian.Uint16(size) == 0 {
		return nil, nil, err
	}
	if key, err = u.bytes(int(binary.BigEndian.Uint16(size))); err != nil {
		return nil, nil, err
	}
	if size, err = u.bytes(4); err != nil {
		return nil, nil, err
	}
	if len(key) > maxKey || binary.BigEndian.Uint32(size) > maxRecord || bytes.Compare(key, u.last) <= 0 {
		return nil, nil, errDamagedBackup
	}
	if record, err = u.bytes(int(binary.BigEndian.Uint32(size))); err != nil {
		return nil, nil, err
	}
	if _, _, err := decode(record, time.Time{}); err != nil || len(record) == 0 {
		return nil, nil, errDamagedBackup
	}
	u.count++
	u.last = key
	return key, record, nil
}

// end checks that all was read, as it was written, and that nothing follows.
func (u *unpacker) end() error {
	count, err := u.bytes(8)
	if err != nil {
		return err
	}
	want := u.sum.Sum(nil)
	sum, err := u.bytes(sha256.Size)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(count) != u.count || !bytes.Equal(sum, want) {
		return errDamagedBackup
	}
	_, err = u.r.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return errDamagedBackup
	}
}

// bytes are the next n, in memory of their own.
func (u *unpacker) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(u.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errCutBackup
	}
	if err != nil {
		return nil, err
	}
	u.sum.Write(b)
	return b, nil
}
