// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	savedHeader = "apt-dht nodes 1"
	// maxSaved bounds the nodes read: more than two full tables.
	maxSaved = 4096
	// maxSavedLine bounds the bytes of a line: a key, two IPv6 addresses, a time.
	maxSavedLine = 192
)

// saved is what is kept of a node from one run to the next.
type saved struct {
	selves map[string]savedSelf // by family
	nodes  []contact
	peers  []savedPeer
}

// savedSelf is what a node is in one family.
type savedSelf struct {
	id    Key
	at    netip.AddrPort // where it is announced; zero: nowhere
	since time.Time      // when it came to be there; zero: ever
}

// savedPeer is what another node has announced to this one.
type savedPeer struct {
	key Key
	storedPeer
}

// load reads the saved nodes. A file that is missing or damaged costs only the
// time to find others: an error is for the log.
func (n *Node) load() error {
	if n.path == "" {
		return nil
	}
	file, err := os.Open(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	kept, err := readSaved(file)
	for _, f := range n.families {
		f.restore(&kept, time.Now())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	return nil
}

// restore takes over what is the family's.
func (f *family) restore(kept *saved, now time.Time) {
	if self, ok := kept.selves[f.name]; ok {
		f.id = self.id
		f.table.rebase(self.id)
		if !self.since.After(now) {
			f.standing.restore(self.at, self.since)
		}
	}
	for _, c := range kept.nodes {
		if f.socket.talksTo(c.addr) {
			f.table.add(c, time.Time{})
		}
	}
	for _, p := range kept.peers {
		if p.addr.Addr().Is4() == f.is4() && !p.seen.After(now) && now.Sub(p.seen) < peerTTL {
			f.peers.put(p.key, p.storedPeer)
		}
	}
}

// readSaved reads as far as it understands.
func readSaved(r io.Reader) (saved, error) {
	kept := saved{selves: make(map[string]savedSelf)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSavedLine)
	if !lines.Scan() || lines.Text() != savedHeader {
		return kept, errors.New("not a file of DHT nodes")
	}
	for lines.Scan() {
		if err := kept.take(strings.Split(lines.Text(), " ")); err != nil {
			return kept, err
		}
	}
	return kept, lines.Err()
}

func (s *saved) take(words []string) error {
	switch kind := words[0]; {
	case (kind == "udp4" || kind == "udp6") && (len(words) == 2 || len(words) == 4):
		return s.takeSelf(words)
	case kind == "peer" && len(words) == 5:
		return s.takePeer(words)
	case len(words) == 2:
		return s.takeNode(words)
	default:
		return fmt.Errorf("not a line of a file of DHT nodes: %q", strings.Join(words, " "))
	}
}

// takeSelf reads a family, the node's id and, if there is one, the address where it
// is announced and the time since when.
func (s *saved) takeSelf(words []string) error {
	id, err := parseKey(words[1])
	if err != nil {
		return err
	}
	self := savedSelf{id: id}
	if len(words) == 4 {
		if self.at, err = netip.ParseAddrPort(words[2]); err != nil {
			return err
		}
		if self.since, err = parseUnix(words[3]); err != nil {
			return err
		}
	}
	s.selves[words[0]] = self
	return nil
}

// takeNode reads an id and an address.
func (s *saved) takeNode(words []string) error {
	id, err := parseKey(words[0])
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(words[1])
	if err != nil {
		return err
	}
	if len(s.nodes) >= maxSaved {
		return errors.New("too many DHT nodes")
	}
	s.nodes = append(s.nodes, contact{id, addr})
	return nil
}

// takePeer reads a key, a peer's address, that of who announced it, and when.
func (s *saved) takePeer(words []string) (err error) {
	var p savedPeer
	if p.key, err = parseKey(words[1]); err != nil {
		return err
	}
	if p.addr, err = netip.ParseAddrPort(words[2]); err != nil {
		return err
	}
	if p.owner, err = netip.ParseAddrPort(words[3]); err != nil {
		return err
	}
	if p.seen, err = parseUnix(words[4]); err != nil {
		return err
	}
	if len(s.peers) >= 2*maxPeers {
		return errors.New("too many peers")
	}
	s.peers = append(s.peers, p)
	return nil
}

func parseUnix(text string) (time.Time, error) {
	seconds, err := strconv.ParseUint(text, 10, 64)
	if err == nil && seconds > maxUnix {
		err = errors.New("a time beyond all clocks")
	}
	return timeOf(seconds), err
}

func parseKey(text string) (Key, error) {
	var k Key
	if hex.DecodedLen(len(text)) != len(k) {
		return k, fmt.Errorf("not the id of a DHT node: %q", text)
	}
	if _, err := hex.Decode(k[:], []byte(text)); err != nil {
		return k, err
	}
	if k == (Key{}) {
		return k, errors.New("the id of a DHT node is zero")
	}
	return k, nil
}

// saveOrWarn saves; an error is for the log.
func (n *Node) saveOrWarn() {
	if err := n.save(); err != nil {
		n.log.Warn("the known DHT nodes are not saved", slog.String("path", n.path), slog.Any("error", err))
	}
}

// save writes the nodes that are good now, or where none is all that are known, and
// what others have announced; if there is neither, what was saved stays.
func (n *Node) save() error {
	if n.path == "" {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, savedHeader)
	known := 0
	for _, f := range n.families {
		fmt.Fprintln(&b, f.selfLine())
		for _, p := range f.peers.all() {
			fmt.Fprintf(&b, "peer %x %s %s %d\n", p.key, p.addr, p.owner, p.seen.Unix())
			known++
		}
		nodes := f.table.nodes((*tableNode).good)
		known += len(nodes)
		if len(nodes) == 0 {
			nodes = f.table.nodes(anyNode)
		}
		for _, c := range nodes {
			fmt.Fprintf(&b, "%x %s\n", c.id, c.addr)
		}
	}
	if known == 0 {
		return nil
	}
	return replaceFile(n.path, b.Bytes())
}

func (f *family) selfLine() string {
	line := fmt.Sprintf("%s %x", f.name, f.ownID())
	at, since := f.standing.last()
	if at.Port() == 0 {
		return line
	}
	if !at.IsValid() {
		at = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
	}
	return fmt.Sprintf("%s %s %d", line, at, unixOf(since))
}

// replaceFile writes a file so that a reader sees the old or the new one.
func replaceFile(path string, b []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
