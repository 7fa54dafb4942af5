// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"context"
	"sync"
	"time"
)

// Work is what goes on for a node in the background: it ends with the node. The
// zero value is ready for use.
type Work struct {
	mu    sync.Mutex // guards following
	ended bool
	group sync.WaitGroup // adding to it while not ended
}

// Begin runs work on a goroutine that End waits for. False: it has ended, and
// nothing is run.
func (w *Work) Begin(work func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	w.group.Go(work)
	return true
}

// End has stop tell what is going on to end, and waits for it. Nothing begins
// after that.
func (w *Work) End(stop func()) {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	stop()
	w.group.Wait()
}

// Sleep waits for d. It returns false at once when ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
