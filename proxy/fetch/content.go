// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"apt-dht/store"
)

// Content is a file being read: from the store, from a transfer that may still
// be going on, or straight from a mirror. It is an io.ReadSeeker for one
// goroutine. The caller closes it.
type Content struct {
	Head
	// Source is where the bytes come from: FromStore, FromLAN, FromWAN, FromMirror.
	Source string
	// Digest is what the bytes hash to. Zero: not known, or only the mirror's word,
	// or not proven yet.
	Digest Digest

	f    *Fetcher
	ctx  context.Context
	want Want
	off  int64

	blob   *store.Blob
	t      *transfer
	reader *store.Reader // of t's file
	direct *Body
	at     int64 // offset of direct's next byte
	stop   context.CancelFunc

	// unproven: what this reader gets of t's file may be wrong, but for its end.
	unproven bool
	given    hash.Hash // of what it got, where a mirror has to give the rest
}

// File is the stored file, for sendfile; nil while the bytes are on their way.
func (c *Content) File() *os.File {
	if c.blob == nil {
		return nil
	}
	return c.blob.File
}

// Direct tells that a seek asks the mirror anew.
func (c *Content) Direct() bool { return c.blob == nil && c.t == nil }

// Close gives up the content. It may be called twice.
func (c *Content) Close() error {
	c.leaveTransfer()
	if c.direct != nil {
		c.direct.Close()
		c.direct = nil
	}
	if c.stop != nil {
		c.stop()
	}
	if c.blob == nil {
		return nil
	}
	err := c.blob.Close()
	c.blob = nil
	return err
}

func (c *Content) leaveTransfer() {
	if c.reader != nil {
		c.reader.Close()
		c.reader = nil
	}
	if c.t != nil {
		c.f.leave(c.t)
		c.t = nil
	}
}

// Seek implements io.Seeker. The end of a file of unknown size is nowhere.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	if c.blob != nil {
		return c.blob.Seek(offset, whence)
	}
	switch whence {
	case io.SeekCurrent:
		offset += c.off
	case io.SeekEnd:
		if c.Size < 0 {
			return 0, fmt.Errorf("%s: its size is not known yet", c.want.URL)
		}
		offset += c.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("%s: seek before the first byte", c.want.URL)
	}
	c.off = offset
	return offset, nil
}

// Read implements io.Reader: it waits for bytes, and fails where the file
// turned out wrong or cannot be had to its end.
func (c *Content) Read(p []byte) (n int, err error) {
	switch {
	case c.blob != nil:
		return c.blob.Read(p)
	case c.t != nil:
		n, err = c.readGrowing(p)
	default:
		n, err = c.readDirect(p)
	}
	c.off += int64(n)
	return n, err
}

// readGrowing follows the transfer. Where our disk or other nodes fail it, the
// mirror takes over.
func (c *Content) readGrowing(p []byte) (int, error) {
	to, err := c.wait()
	switch {
	case err == nil:
		return c.reader.ReadAt(p[:min(int64(len(p)), to-c.off)], c.off)
	case err == io.EOF || c.ctx.Err() != nil:
		return 0, err
	}
	if !errors.Is(err, errBored) {
		err = cmp.Or(c.t.why(), err)
		if !isStorage(err) && (c.unproven || !errors.Is(err, errPeersWrong)) {
			return 0, err
		}
	}
	if err := c.takeOver(); err != nil {
		return 0, err
	}
	return c.readDirect(p)
}

// errBored: nothing has come from other nodes for too long.
var errBored = errors.New("nothing comes from other nodes")

// wait waits for bytes that this reader may have, and returns up to where.
func (c *Content) wait() (int64, error) {
	for {
		if c.off >= c.limit() {
			if err := c.awaitProof(); err != nil {
				return 0, err
			}
			continue
		}
		to, err := c.waitReadable()
		if err != nil {
			return to, err
		}
		if to = min(to, c.limit()); to > c.off {
			return to, nil
		}
	}
}

// limit is up to where the bytes are for this reader.
func (c *Content) limit() int64 {
	if c.unproven {
		return allTrusted
	}
	return c.t.trusted.Load()
}

func (c *Content) waitReadable() (int64, error) {
	if !c.unproven {
		return c.reader.Wait(c.ctx, c.off)
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, lanPatience, errBored)
	defer cancel()
	return c.reader.Wait(ctx, c.off)
}

// awaitProof waits until what other nodes have added is proven.
func (c *Content) awaitProof() error {
	patience := time.NewTimer(lanPatience)
	defer patience.Stop()
	select {
	case <-c.t.done:
		return c.t.broke
	case <-patience.C:
		return errBored
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// takeOver leaves the transfer, for a mirror. What was given unproven must prove
// right together with the mirror's bytes: their end is held back until then.
func (c *Content) takeOver() error {
	if c.unproven {
		c.given = sha256.New()
		if _, err := io.Copy(c.given, io.NewSectionReader(c.reader.File, 0, c.off)); err != nil {
			return fmt.Errorf("%s: reading again what was given: %w", c.want.URL, err)
		}
	}
	c.leaveTransfer()
	return nil
}

// readDirect reads from the mirror, asking it anew after a seek.
func (c *Content) readDirect(p []byte) (int, error) {
	if c.Size >= 0 && c.off >= c.Size {
		return 0, io.EOF
	}
	if c.direct != nil && c.at != c.off {
		if c.unproven {
			return 0, fmt.Errorf("%s: seek in an answer that is not proven", c.want.URL)
		}
		c.direct.Close()
		c.direct = nil
	}
	if c.direct == nil {
		body, err := c.f.askDirect(c.ctx, &c.want, c.off)
		if err != nil {
			return 0, err
		}
		if c.given != nil {
			body.ReadCloser = newProvenBody(body.ReadCloser, &c.want, c.given)
			c.given = nil // it is for these bytes alone
		}
		c.direct, c.at = body, c.off
	}
	n, err := c.direct.Read(p)
	c.at += int64(n)
	return n, err
}

// openUnstored opens the file for one reader, past the store. Read from its
// beginning it must prove right all the same.
func (f *Fetcher) openUnstored(ctx context.Context, want Want) (*Content, error) {
	c, err := f.openDirect(ctx, want)
	if err == nil && want.known() && c.at == 0 && want.Exact {
		c.direct.ReadCloser = newProvenBody(c.direct.ReadCloser, &want, sha256.New())
	}
	return c, err
}

// openDirect opens the mirror's own answer for one reader, past the store.
func (f *Fetcher) openDirect(ctx context.Context, want Want) (*Content, error) {
	// Whatever the mirror has is the answer now, as it would be without us.
	want.Size = -1
	body, err := f.askDirect(ctx, &want, want.Start)
	if err != nil {
		return nil, err
	}
	c := &Content{Head: body.Head, Source: FromMirror, f: f, ctx: ctx, want: want, direct: body, at: want.Start}
	return c, nil
}

// untainted are want's URLs without those that have sent wrong bytes of it, or
// all where none is left.
func (f *Fetcher) untainted(want *Want) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if urls := f.untaintedLocked(want); len(urls) > 0 {
		return urls
	}
	return want.urls()
}

func (f *Fetcher) untaintedLocked(want *Want) []string {
	now := time.Now()
	return slices.DeleteFunc(want.urls(), func(url string) bool { return f.taints.wrong(want.Digest, url, now) })
}

// askDirect asks the mirrors in turn, each once: the client retries by itself.
func (f *Fetcher) askDirect(ctx context.Context, want *Want, offset int64) (*Body, error) {
	var first error
	for _, url := range f.untainted(want) {
		src := &mirrorSource{up: f.cfg.Upstream, url: url}
		body, err := src.Ask(ctx, want, offset)()
		if err == nil {
			body.ReadCloser = &countedBody{body.ReadCloser, &f.fromMirror}
			return body, nil
		}
		if first == nil || !errors.As(first, new(*StatusError)) {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}
