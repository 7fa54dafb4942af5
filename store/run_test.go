// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Run writes last uses, prunes and evicts as time goes by, and ends with its context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{Dir: t.TempDir(), FreeFloor: 1, Log: testLog(t.Output())})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b, d := blob(1, 1000)
		add(t, s, b, Meta{})
		old := create(t, s, Digest{1}, 10)
		write(t, old, b[:5])
		if err := old.Suspend(); err != nil {
			t.Fatal(err)
		}
		long := time.Now().Add(-2 * partialAge)
		if err := os.Chtimes(s.partialPath(Digest{1}), long, long); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()

		time.Sleep(time.Second)
		wantBlob(t, s, d)
		used := time.Now().UnixNano()
		recorded := func() int64 {
			var e entry
			e.decodeTimes(s.rows.get(blobKey(kindTimes, d)))
			return e.used
		}
		if recorded() == used {
			t.Error("a use was written at once")
		}
		time.Sleep(flushInterval)
		synctest.Wait()
		if recorded() != used {
			t.Error("a use was not written")
		}
		time.Sleep(sweepInterval)
		synctest.Wait()
		if names := files(t, s, "partial"); len(names) != 0 {
			t.Errorf("left in partial: %q", names)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}
