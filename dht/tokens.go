// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	// tokenAge is how often tokens change; each is good for two such times (BEP 5).
	tokenAge    = 5 * time.Minute
	tokenLength = 8
)

// tokens makes the tokens that prove that an announce comes from the address
// that asked.
type tokens struct{ secret [32]byte }

func newTokens() *tokens {
	t := new(tokens)
	rand.Read(t.secret[:])
	return t
}

func (t *tokens) give(to netip.Addr) string { return t.at(to, period(time.Now())) }

func (t *tokens) valid(token string, from netip.Addr) bool {
	now := period(time.Now())
	return hmac.Equal([]byte(token), []byte(t.at(from, now))) ||
		hmac.Equal([]byte(token), []byte(t.at(from, now-1)))
}

func period(t time.Time) int64 { return t.Unix() / int64(tokenAge/time.Second) }

func (t *tokens) at(addr netip.Addr, period int64) string {
	mac := hmac.New(sha256.New, t.secret[:])
	mac.Write(binary.BigEndian.AppendUint64(addr.AsSlice(), uint64(period)))
	return string(mac.Sum(nil)[:tokenLength])
}
