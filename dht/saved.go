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
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	savedHeader = "apt-dht nodes 1"
	// maxSaved bounds the lines read: more than two full tables.
	maxSaved = 4096
	// maxSavedLine bounds the bytes of a line: an id and an IPv6 address.
	maxSavedLine = 128
)

// saved is what is kept of a node from one run to the next.
type saved struct {
	ids   map[string]Key // by family
	nodes []contact
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
		if id, ok := kept.ids[f.name]; ok {
			f.id = id
			f.table.rebase(id)
		}
		for _, c := range kept.nodes {
			if f.socket.talksTo(c.addr) {
				f.table.add(c, time.Time{})
			}
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	return nil
}

// readSaved reads as far as it understands.
func readSaved(r io.Reader) (saved, error) {
	kept := saved{ids: make(map[string]Key)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSavedLine)
	if !lines.Scan() || lines.Text() != savedHeader {
		return kept, errors.New("not a file of DHT nodes")
	}
	for count := 0; lines.Scan(); count++ {
		if count >= maxSaved {
			return kept, errors.New("too many DHT nodes")
		}
		if err := kept.take(lines.Text()); err != nil {
			return kept, err
		}
	}
	return kept, lines.Err()
}

func (s *saved) take(line string) error {
	first, second, _ := strings.Cut(line, " ")
	if first == "udp4" || first == "udp6" {
		id, err := parseKey(second)
		if err == nil {
			s.ids[first] = id
		}
		return err
	}
	id, err := parseKey(first)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(second)
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, contact{id, addr})
	return nil
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

// save writes the nodes that are good now; if there are none, what was saved
// stays.
func (n *Node) save() error {
	if n.path == "" {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, savedHeader)
	known := 0
	for _, f := range n.families {
		fmt.Fprintf(&b, "%s %x\n", f.name, f.ownID())
		for _, c := range f.table.nodes((*tableNode).good) {
			fmt.Fprintf(&b, "%x %s\n", c.id, c.addr)
			known++
		}
	}
	if known == 0 {
		return nil
	}
	return replaceFile(n.path, b.Bytes())
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
