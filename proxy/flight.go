// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"sync"
)

// flights lets concurrent askers of one key share one call. The call's context
// ends when the last of them has gone, not when the first does.
type flights[T any] struct {
	mu   sync.Mutex // guards following
	runs map[string]*flight[T]
	wg   sync.WaitGroup
}

type flight[T any] struct {
	done    chan struct{}
	result  T
	err     error
	cancel  context.CancelFunc
	waiters int // guarded by flights.mu
}

// get returns call's result, or that of the call for key already under way.
func (fs *flights[T]) get(ctx context.Context, key string, call func(context.Context) (T, error)) (T, error) {
	fs.mu.Lock()
	run := fs.runs[key]
	if run == nil {
		run = fs.startLocked(ctx, key, call)
	}
	run.waiters++
	fs.mu.Unlock()
	select {
	case <-run.done:
		fs.leave(key, run)
		return run.result, run.err
	case <-ctx.Done():
		fs.leave(key, run)
		var none T
		return none, context.Cause(ctx)
	}
}

func (fs *flights[T]) startLocked(ctx context.Context, key string, call func(context.Context) (T, error)) *flight[T] {
	if fs.runs == nil {
		fs.runs = map[string]*flight[T]{}
	}
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &flight[T]{done: make(chan struct{}), cancel: cancel}
	fs.runs[key] = run
	fs.wg.Go(func() {
		run.result, run.err = call(shared)
		fs.forget(key, run)
		close(run.done)
	})
	return run
}

// leave takes back one wait; the last to leave ends the call.
func (fs *flights[T]) leave(key string, run *flight[T]) {
	fs.mu.Lock()
	run.waiters--
	last := run.waiters == 0
	fs.mu.Unlock()
	if last {
		fs.forget(key, run)
		run.cancel()
	}
}

// forget makes the next asker start anew.
func (fs *flights[T]) forget(key string, run *flight[T]) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.runs[key] == run {
		delete(fs.runs, key)
	}
}

// wait returns when no call is under way.
func (fs *flights[T]) wait() { fs.wg.Wait() }
