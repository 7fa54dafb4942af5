// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"time"
)

type (
	sizeKey       struct{}
	realmKey      struct{}
	backgroundKey struct{}
	flowKey       struct{}
	patienceKey   struct{}
	upstreamKey   struct{}
)

// WithSize tells how many bytes the answer's body is expected to have, which decides what may be sent on the
// same connection behind it. A wrong figure costs time, never correctness. n ≤ 0: not known.
func WithSize(ctx context.Context, n int64) context.Context {
	return context.WithValue(ctx, sizeKey{}, n)
}

// WithRealm names the privilege class of a request. A connection made for one realm is never used for another.
// There should be few; "" is one of them.
func WithRealm(ctx context.Context, realm string) context.Context {
	return context.WithValue(ctx, realmKey{}, realm)
}

// Realm returns what [WithRealm] set.
func Realm(ctx context.Context) string {
	realm, _ := ctx.Value(realmKey{}).(string)
	return realm
}

// ToUpstream tells, of the context that [Config.Dial] gets, whether the address is an upstream proxy's.
func ToUpstream(ctx context.Context) bool {
	upstream, _ := ctx.Value(upstreamKey{}).(bool)
	return upstream
}

// WithBackground marks a request for which nobody waits. It has connections apart, at most two, which it shares
// only with its like.
func WithBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// WithFlow names who wants the file, say a connection of apt's. Where requests have to wait, flows share the
// mirror by bytes; each gets its own in the order asked. Without it a request belongs to the flow "".
func WithFlow(ctx context.Context, flow string) context.Context {
	return context.WithValue(ctx, flowKey{}, flow)
}

func flowOf(ctx context.Context) string {
	flow, _ := ctx.Value(flowKey{}).(string)
	return flow
}

// WithPatience shortens [Config.FirstByte] and [Config.Stall], and the time for a first connection, for a request that
// can be answered elsewhere too. It does not count while the request waits behind others. d ≤ 0: no change.
func WithPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

// patienceOf returns the shorter of limit and what [WithPatience] set.
func patienceOf(ctx context.Context, limit time.Duration) time.Duration {
	if d, _ := ctx.Value(patienceKey{}).(time.Duration); d > 0 {
		return min(d, limit)
	}
	return limit
}

func expectedSize(ctx context.Context) int64 {
	if n, _ := ctx.Value(sizeKey{}).(int64); n > 0 {
		return n
	}
	return assumedSize
}

// class is what keeps connections apart beside their address.
type class struct {
	realm      string
	background bool
	upstream   bool // through an upstream proxy
}

func classOf(ctx context.Context) class {
	background, _ := ctx.Value(backgroundKey{}).(bool)
	return class{realm: Realm(ctx), background: background}
}
