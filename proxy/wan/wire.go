// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"apt-dht/dht"
	"apt-dht/proxy/peer"
)

const (
	// version is the protocol's.
	version = 1

	// Prefix begins the paths of the protocol.
	Prefix = "/~/v1/wan/"

	// maxBatch is how many blobs a message names at most.
	maxBatch = 512

	// maxMessage bounds a message about blobs, in bytes: 512 hashes take 34 kB.
	// maxSmall bounds all others.
	maxMessage = 64 << 10
	maxSmall   = 1 << 10
)

// head begins each message.
type head struct {
	V int `json:"v"`
}

func (h *head) check() error {
	if h.V != version {
		return fmt.Errorf("this node speaks version %d of the WAN protocol, not %d", version, h.V)
	}
	return nil
}

var spoken = head{version}

type haveQuestion struct {
	head
	Want []peer.Hash `json:"want"`
}

func (q *haveQuestion) check() error {
	return errors.Join(q.head.check(), checkCount(len(q.Want)))
}

type haveAnswer struct {
	head
	Have []peer.Hash `json:"have"`
}

func (a *haveAnswer) check() error {
	return errors.Join(a.head.check(), checkCount(len(a.Have)))
}

type reachQuestion struct {
	head
	Port  uint16 `json:"port"`
	Nonce string `json:"nonce"`
}

var noncePattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (q *reachQuestion) check() error {
	if err := q.head.check(); err != nil {
		return err
	}
	if q.Port < dht.MinPort {
		return fmt.Errorf(`"port" is below %d`, dht.MinPort)
	}
	if !noncePattern.MatchString(q.Nonce) {
		return errors.New(`"nonce" is not 32 lower-case hexadecimal digits`)
	}
	return nil
}

type reachAnswer struct {
	head
	Reached bool `json:"reached"`
}

// pong answers a ping.
type pong struct {
	head
	Version string `json:"version"`
	// Nonce is that of the question, if it is of a check that this node has
	// asked for.
	Nonce string `json:"nonce,omitempty"`
}

func checkCount(n int) error {
	if n > maxBatch {
		return fmt.Errorf("%d blobs in one message; at most %d are possible", n, maxBatch)
	}
	return nil
}

// message is what decode reads: check refuses what is out of bounds.
type message interface{ check() error }

// decode reads a message. What it does not know it passes over.
func decode(body []byte, m message) error {
	if err := json.Unmarshal(body, m); err != nil {
		return fmt.Errorf("no WAN message: %w", err)
	}
	return m.check()
}
