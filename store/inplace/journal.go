// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
)

const (
	journalHeader = "apt-dht inplace\x01"
	// maxJournal is what a place can name.
	maxJournal = math.MaxUint32 * align
)

var errJournalFull = errors.New("inplace: the cache has reached its bound of 64 GiB")

// A place is where a record begins in the journal, in units of align.
type place uint32

// A journal is the file of records. One goroutine appends; any may read.
type journal struct {
	f   *os.File
	end int64
	buf []byte // of append
}

// openJournal opens the file, or makes it, and calls found for each record in it. A file of another
// kind is emptied. skipped are the bytes that are no record: the trace of a crash, or damage.
func openJournal(path string, found func(record, place)) (j *journal, skipped int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("inplace: cache: %w", err)
	}
	j = &journal{f: f}
	if skipped, err = j.load(found); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("inplace: cache %s: %w", path, err)
	}
	return j, skipped, nil
}

func (j *journal) load(found func(record, place)) (skipped int64, err error) {
	info, err := j.f.Stat()
	if err != nil {
		return 0, err
	}
	header := make([]byte, len(journalHeader))
	if _, err := j.f.ReadAt(header, 0); err != nil && err != io.EOF {
		return 0, err
	}
	if string(header) != journalHeader {
		return info.Size(), j.reset()
	}
	records, err := j.scan(info.Size(), found)
	if err != nil {
		return 0, err
	}
	skipped = info.Size() - int64(len(header)) - records
	return skipped, j.f.Truncate(j.end)
}

func (j *journal) reset() error {
	if err := j.f.Truncate(0); err != nil {
		return err
	}
	_, err := j.f.WriteAt([]byte(journalHeader), 0)
	j.end = int64(len(journalHeader))
	return err
}

// scan calls found for each record, and sets end behind the last. It returns how many bytes the
// records have. After damage it goes on with the next bytes that are a record.
func (j *journal) scan(size int64, found func(record, place)) (bytes int64, err error) {
	off := int64(len(journalHeader))
	j.end = off
	size = min(size, maxJournal)
	r := bufio.NewReaderSize(io.NewSectionReader(j.f, off, size-off), 256<<10)
	for off < size {
		b, err := r.Peek(headLen + maxPath)
		if err != nil && err != io.EOF {
			return 0, err
		}
		step := int64(align)
		if rec, err := decode(b); err == nil && off+rec.length() <= size {
			found(rec, place(off/align))
			step = rec.length()
			bytes += step
			j.end = off + step
		}
		if _, err := r.Discard(int(step)); err != nil && err != io.EOF {
			return 0, err
		}
		off += step
	}
	return bytes, nil
}

// append writes a record. When that fails, the journal is as before.
func (j *journal) append(r *record, states []byte) (place, error) {
	if j.end+r.length() > maxJournal {
		return 0, errJournalFull
	}
	j.buf = r.encode(j.buf[:0], states)
	if _, err := j.f.WriteAt(j.buf, j.end); err != nil {
		return 0, fmt.Errorf("inplace: cache: %w", err)
	}
	at := place(j.end / align)
	j.end += int64(len(j.buf))
	if cap(j.buf) > 1<<20 {
		j.buf = nil // of a very large file
	}
	return at, nil
}

// read returns the record at p.
func (j *journal) read(p place) (record, error) {
	var small [headLen + 168]byte // enough for nearly every path
	b := small[:]
	n, err := j.f.ReadAt(b, int64(p)*align)
	if err != nil && err != io.EOF {
		return record{}, fmt.Errorf("inplace: cache: %w", err)
	}
	if n >= headLen && recordNeeds(b) > n {
		b = make([]byte, recordNeeds(b))
		if n, err = j.f.ReadAt(b, int64(p)*align); err != nil && err != io.EOF {
			return record{}, fmt.Errorf("inplace: cache: %w", err)
		}
	}
	return decode(b[:n])
}

// states returns the states of the record at p, one after the other.
func (j *journal) states(p place, r *record) ([]byte, error) {
	b := make([]byte, statesLen(r.stamp.size))
	if _, err := j.f.ReadAt(b, int64(p)*align+int64(headLen+len(r.path))); err != nil && len(b) > 0 {
		return nil, fmt.Errorf("inplace: cache: %w", err)
	}
	if crc32.Checksum(b, crcTable) != r.sum {
		return nil, errDamaged
	}
	return b, nil
}

// copyTo writes the records at these places to a new file at path, which takes the journal's place
// once it is on disk. It returns the new journal and the new places; damaged records have place 0.
func (j *journal) copyTo(path string, places []place) (*journal, []place, error) {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("inplace: cache: %w", err)
	}
	next := &journal{f: f}
	places, err = next.take(j, places)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		f.Close()
		os.Remove(temp)
		return nil, nil, fmt.Errorf("inplace: cache: %w", err)
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return next, places, nil
}

// take fills a new journal with records of another.
func (j *journal) take(from *journal, places []place) ([]place, error) {
	if err := j.reset(); err != nil {
		return nil, err
	}
	if _, err := j.f.Seek(j.end, io.SeekStart); err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(j.f, 256<<10)
	out := make([]place, len(places))
	for i, p := range places {
		if p == 0 {
			continue
		}
		r, err := from.read(p)
		if err != nil {
			continue
		}
		states, err := from.states(p, &r)
		if err != nil {
			continue
		}
		out[i] = place(j.end / align)
		j.buf = r.encode(j.buf[:0], states)
		if _, err := w.Write(j.buf); err != nil {
			return nil, err
		}
		j.end += r.length()
	}
	return out, w.Flush()
}
