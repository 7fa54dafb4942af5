// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"time"
)

// maxVerifyLag is what is made up for when files could not be verified in time.
const maxVerifyLag = time.Minute

// A verifier goes round all files, one after the other, from somewhere.
type verifier struct {
	next   time.Time // zero: not begun
	cursor id
}

// verifyDue verifies the files whose turn it is.
func (s *Set) verifyDue(ctx context.Context) {
	v := &s.verify
	if s.cfg.Verify < 0 || s.table.present == 0 {
		return
	}
	if v.next.IsZero() {
		v.cursor = id(rand.N(uint32(s.table.used)))
		v.next = time.Now().Add(rand.N(s.cfg.Verify/time.Duration(s.table.present) + 1))
	}
	for ctx.Err() == nil && s.table.present > 0 && !time.Now().Before(v.next) {
		v.cursor = s.table.after(v.cursor)
		size := s.verifyFile(ctx, v.cursor)
		share := float64(size) / float64(max(s.stats.Bytes, size))
		v.next = v.next.Add(time.Duration(share * float64(s.cfg.Verify)))
		if late := time.Now().Add(-maxVerifyLag); v.next.Before(late) {
			v.next = late
		}
	}
}

// after returns the entry that is present and follows i, round the end. There must be one.
func (t *table) after(i id) id {
	for {
		if i++; i > t.used {
			i = 1
		}
		if t.stateOf(i).present() {
			return i
		}
	}
}

// verifyFile hashes a file once more, and returns its size. One whose bytes are not what they were,
// though its stamp says so, is known by what it is now.
func (s *Set) verifyFile(ctx context.Context, i id) (size int64) {
	r, err := s.journal.read(s.table.at(i).place)
	if err != nil {
		s.box.repair()
		return 1
	}
	root, err := os.OpenRoot(s.cfg.Dir)
	if err != nil {
		return r.stamp.size
	}
	defer root.Close()
	of := s.scans.of
	f, before, err := openFile(root, r.path)
	if err != nil || before.stamp != r.stamp {
		if err == nil {
			f.Close()
		}
		s.box.note(r.path)
		return r.stamp.size
	}
	defer f.Close()
	digest, states, err := s.sum(ctx, f, r.stamp.size)
	after, statErr := fstat(f)
	switch {
	case ctx.Err() != nil, s.scans.of != of:
	case err != nil || statErr != nil:
		s.complain(r.path, errors.Join(err, statErr))
		s.forget(r.path)
	case after.stamp != r.stamp:
		s.box.note(r.path)
	case digest != r.digest:
		s.cfg.Log.Error("inplace: a file has gone bad on disk",
			"dir", s.cfg.Dir, "path", r.path, "digest", hex.EncodeToString(r.digest[:]))
		r.digest = digest
		if err := s.record(&r, states); err != nil {
			s.trouble(err)
			s.forget(r.path)
		}
	}
	return r.stamp.size
}
