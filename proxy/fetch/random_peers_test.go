// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A drawnPeer is what a stranger is like.
type drawnPeer struct {
	name  string // of what is wrong with it
	spoil spoil
	liar  bool // it can be convicted
	rate  int64
	link  *pipe
	most  int // bodies at a time
	after time.Duration
}

// faults are what may be wrong with a stranger, beside what is with badHolders.
var faults = []func(r *rand.Rand, p *drawnPeer){stalls, breaks, isBusy, isSlowToAnswer, changesItsRate, isBadHolder, isBadHolder, isBadHolder}

// drawPeer is one that is bad with a probability.
func drawPeer(r *rand.Rand, bad float64) *drawnPeer {
	p := &drawnPeer{
		name:  "honest",
		rate:  pick[int64](r, 20_000, 100_000, 500_000, 1_000_000, 3_000_000, 10_000_000),
		most:  pick(r, 4, 4, 3, 2, 1),
		after: drawMS(r, 0, 0, 100, 2000),
	}
	p.link = newPipe(p.rate)
	if r.Float64() >= bad {
		return p
	}
	pick(r, faults...)(r, p)
	if p.spoil != nil && r.IntN(2) == 0 {
		p.name = "sometimes " + p.name
		p.spoil = sometimes(pick(r, r.Uint64(), r.Uint64()&r.Uint64(), r.Uint64()|r.Uint64()), p.spoil)
	}
	return p
}

// sometimes spoils those answers of 64 whose bits are set, over and over.
func sometimes(which uint64, bad spoil) spoil {
	var answers atomic.Int64
	return func(ctx context.Context, d Digest, from, to int64, body *PeerBody) (*PeerBody, error) {
		if which>>(answers.Add(1)%64)&1 == 0 {
			return body, nil
		}
		return bad(ctx, d, from, to, body)
	}
}

func isBadHolder(r *rand.Rand, p *drawnPeer) {
	bad := pick(r, badHolders...)
	p.name, p.spoil, p.liar = bad.name, bad.spoil, bad.liar
}

func stalls(r *rand.Rand, p *drawnPeer) {
	share := pick(r, r.Int64N(101), 100)
	p.name = fmt.Sprintf("stalls at %d %%", share)
	p.spoil = cut(share, func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

func breaks(r *rand.Rand, p *drawnPeer) {
	share := r.Int64N(101)
	p.name = fmt.Sprintf("breaks at %d %%", share)
	p.spoil = cut(share, func(context.Context) error { return errReset })
}

// cut ends answers after so many percent of them, at the last byte at the latest.
func cut(share int64, end func(context.Context) error) spoil {
	return func(ctx context.Context, _ Digest, from, to int64, body *PeerBody) (*PeerBody, error) {
		last := from + min((to-from)*share/100, to-from-1)
		body.ReadCloser = &altered{ReadCloser: body.ReadCloser, at: from, change: func(at int64, p []byte) (int, error) {
			if at >= last {
				return 0, end(ctx)
			}
			return int(min(int64(len(p)), last-at)), nil
		}}
		return body, nil
	}
}

func isBusy(_ *rand.Rand, p *drawnPeer) { p.name, p.most = "busy", 0 }

func isSlowToAnswer(r *rand.Rand, p *drawnPeer) {
	delay := drawTime(r, 1900*time.Millisecond)
	p.name = fmt.Sprintf("answers after %v", delay)
	p.spoil = func(ctx context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		if !sleep(ctx, delay) {
			body.Close()
			return nil, context.Cause(ctx)
		}
		return body, nil
	}
}

// changesItsRate is for one whose rate is another one each period, over and over.
func changesItsRate(r *rand.Rand, p *drawnPeer) {
	rates := []int64{30_000, 300_000, 3_000_000, pick[int64](r, 30_000, 3_000_000)}
	r.Shuffle(len(rates), func(i, j int) { rates[i], rates[j] = rates[j], rates[i] })
	period := 300*time.Millisecond + drawTime(r, 1500*time.Millisecond)
	p.name = fmt.Sprintf("has rates %d, each for %v", rates, period)
	p.spoil = spoilBody(func(_ int64, b []byte) (int, error) {
		p.link.set(rates[int(time.Now().UnixNano()/int64(period))%len(rates)])
		return len(b), nil
	})
}
