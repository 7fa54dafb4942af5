// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"

	"apt-dht/discovery"
	"apt-dht/proxy/peer"
)

// Digest is a SHA-256.
type Digest = discovery.Digest

const (
	// version is the protocol's.
	version = 1

	// Prefix begins the paths of the protocol.
	Prefix = "/~/v1/lan/"

	// maxBatch is how many blobs a message names at most.
	maxBatch = 512

	// maxQuestion and maxAnswer bound messages, in bytes. 512 answers that name
	// four holders each at long IPv6 addresses take some 270 kB.
	maxQuestion = 256 << 10
	maxAnswer   = 512 << 10

	// maxWeight bounds what travels in one question, in bytes as weighed: some
	// room is left for its frame.
	maxWeight = maxQuestion - 1<<10

	// maxPlaces bounds the places that one entry names.
	maxPlaces = 16

	// maxOffset is beyond the size of any file, in bytes.
	maxOffset = 1 << 50
)

type hash = peer.Hash

// place names a node for others. Its address is an IP address and a port,
// without a zone: a zone means nothing on another machine.
type place struct {
	ID   string         `json:"id"`
	Addr netip.AddrPort `json:"addr,omitzero"`
}

func placeOf(m discovery.Member) place {
	return place{ID: m.ID, Addr: netip.AddrPortFrom(m.Addr.Addr().WithZone(""), m.Addr.Port())}
}

// heardFrom is the node that speaker names. A link-local address is on the link
// that leads to the speaker.
func (p place) heardFrom(speaker discovery.Member) discovery.Member {
	addr := p.Addr.Addr().Unmap().WithZone("")
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(speaker.Addr.Addr().Zone())
	}
	return discovery.Member{ID: p.ID, Addr: netip.AddrPortFrom(addr, p.Addr.Port())}
}

// head begins each message.
type head struct {
	V int `json:"v"`
}

func (h *head) speaks() int { return h.V }

var spoken = head{version}

// hello begins each question: who speaks.
type hello struct {
	head
	ID   string `json:"id"`
	Port uint16 `json:"port"`
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

func (h *hello) check() error {
	if !idPattern.MatchString(h.ID) {
		return errors.New(`"id" is not 16 lower-case hexadecimal digits`)
	}
	if h.Port == 0 {
		return errors.New(`"port" is missing`)
	}
	return nil
}

// pong answers a ping.
type pong struct {
	hello
	Version string `json:"version"`
}

type lookupQuestion struct {
	hello
	Want []want `json:"want"`
}

type want struct {
	Hash        hash    `json:"hash"`
	Size        int64   `json:"size,omitempty"`
	Have        int64   `json:"have,omitempty"`
	Lease       bool    `json:"lease,omitempty"`
	FirstSilent bool    `json:"first_silent,omitempty"`
	Silent      []place `json:"silent,omitempty"`
}

func (q *lookupQuestion) check() error {
	if err := q.hello.check(); err != nil {
		return err
	}
	for i := range q.Want {
		w := &q.Want[i]
		w.Size, w.Have = bounded(w.Size), bounded(w.Have)
		w.Silent = w.Silent[:min(len(w.Silent), maxPlaces)]
	}
	return checkCount(len(q.Want))
}

type lookupAnswer struct {
	head
	Found []found `json:"found"`
}

type found struct {
	Hash   hash    `json:"hash"`
	State  string  `json:"state"`
	From   []place `json:"from,omitempty"`
	Number *int    `json:"number,omitempty"` // absent: none
}

// states are the words for what a home answers. Others mean none.
var states = map[string]discovery.State{
	discovery.None.String():   discovery.None,
	discovery.Held.String():   discovery.Held,
	discovery.Coming.String(): discovery.Coming,
	discovery.Lease.String():  discovery.Lease,
}

func (a *lookupAnswer) check() error {
	for i := range a.Found {
		f := &a.Found[i]
		f.From = f.From[:min(len(f.From), maxPlaces)]
		if f.Number != nil && (*f.Number < 0 || *f.Number > maxNumber) {
			f.Number = nil
		}
	}
	return checkCount(len(a.Found))
}

// maxNumber is beyond the number of any asker.
const maxNumber = 1 << 20

type announceQuestion struct {
	hello
	Have []hash `json:"have,omitempty"`
	Gone []hash `json:"gone,omitempty"`
}

func (q *announceQuestion) check() error {
	if err := q.hello.check(); err != nil {
		return err
	}
	return checkCount(len(q.Have) + len(q.Gone))
}

type leaseQuestion struct {
	hello
	Leases []report `json:"leases"`
}

type report struct {
	Hash   hash  `json:"hash"`
	Offset int64 `json:"offset"`
	Done   bool  `json:"done,omitempty"`
	GiveUp bool  `json:"give_up,omitempty"`
}

func (q *leaseQuestion) check() error {
	if err := q.hello.check(); err != nil {
		return err
	}
	for i := range q.Leases {
		q.Leases[i].Offset = bounded(q.Leases[i].Offset)
	}
	return checkCount(len(q.Leases))
}

type leaseAnswer struct {
	head
	Lost []hash `json:"lost,omitempty"`
}

func (a *leaseAnswer) check() error { return checkCount(len(a.Lost)) }

type copyQuestion struct {
	hello
	Grants []grant `json:"grants"`
}

type grant struct {
	Hash   hash  `json:"hash"`
	Asker  place `json:"asker"`
	Number int   `json:"number"`
	Lease  bool  `json:"lease,omitempty"`
	Offset int64 `json:"offset,omitempty"`
}

func (q *copyQuestion) check() error {
	if err := q.hello.check(); err != nil {
		return err
	}
	for i := range q.Grants {
		g := &q.Grants[i]
		g.Offset = bounded(g.Offset)
		if !idPattern.MatchString(g.Asker.ID) || g.Number < 0 || g.Number > maxNumber {
			return errors.New("a grant has no asker, or an impossible number")
		}
	}
	return checkCount(len(q.Grants))
}

// done answers what needs no answer.
type done struct{ head }

func (*done) check() error { return nil }

func checkCount(n int) error {
	if n > maxBatch {
		return fmt.Errorf("%d blobs in one message; at most %d are possible", n, maxBatch)
	}
	return nil
}

func bounded(n int64) int64 { return min(max(n, 0), maxOffset) }

// versionError: the other side speaks another version of the protocol.
type versionError int

func (v versionError) Error() string {
	return fmt.Sprintf("this node speaks version %d of the LAN protocol, not %d", version, int(v))
}

// message is what decode reads: check bounds what it says.
type message interface {
	speaks() int
	check() error
}

// decode reads a message. What it does not know it passes over.
func decode(body []byte, m message) error {
	err := json.Unmarshal(body, m)
	if other := versionOf(body, m, err); other != version {
		return versionError(other)
	}
	if err != nil {
		return fmt.Errorf("no LAN message: %w", err)
	}
	return m.check()
}

// versionOf is the version of a message, also of one that cannot be read
// otherwise: another version may have other fields.
func versionOf(body []byte, m message, err error) int {
	if err == nil {
		return m.speaks()
	}
	if h := (head{}); json.Unmarshal(body, &h) == nil {
		return h.V
	}
	return version
}
