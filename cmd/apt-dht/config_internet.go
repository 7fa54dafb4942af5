// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"apt-dht/dht"
)

// dhtSettings are what a command that takes part in the DHT can be told.
type dhtSettings struct {
	WANListen    wanAddr   `toml:"wan-listen" placeholder:"ADDR" help:"Where nodes on the internet reach this one, [HOST]:PORT: UDP for the DHT, TCP for files. Default: :9978."`
	DHTBootstrap []dhtAddr `toml:"dht-bootstrap" placeholder:"HOST:PORT" help:"Node of the DHT to begin with, instead of well-known ones. Repeatable."`
	DHTPrivate   bool      `toml:"dht-private" placeholder:"true" help:"The DHT is one's own: private addresses are allowed in it, and the router is not asked for a port."`
}

// internetSettings are what a command that gives files to nodes on the internet
// can be told besides.
type internetSettings struct {
	dhtSettings
	UploadLimit bytesPerSec `toml:"upload-limit" placeholder:"SIZE" help:"Most bytes per second given to nodes on the internet, as 2MB. Default: 500kB."`
}

// sharingSettings are what serve is told besides.
type sharingSettings struct {
	DHT        bool         `toml:"dht" default:"true" negatable:"" placeholder:"false" help:"Fetch files of public repositories also from nodes on the internet, and give to them; it shows them which files this node has (${default})."`
	DHTExclude repositories `toml:"dht-exclude" placeholder:"HOST[/PATH]" help:"Repositories whose files are neither looked for on the internet nor given to it. Repeatable."`
}

// internetConfig is a node's part in the DHT.
type internetConfig struct {
	// Listen is the address for TCP and UDP, [HOST]:PORT. Empty: the default one,
	// if it is free.
	Listen string
	// Bootstrap are the DHT nodes to begin with. Nil: the well-known ones.
	Bootstrap []string
	// Private allows private addresses, of nodes and of repositories.
	Private bool
	// UploadLimit is in bytes per second. 0: the default.
	UploadLimit int64
}

// isPublic tells whether what is fetched from an address is everybody's.
func (c internetConfig) isPublic(ip netip.Addr) bool {
	if c.Private {
		return ip.IsValid() && !ip.IsMulticast() && !ip.IsUnspecified() && !ip.IsLinkLocalUnicast()
	}
	return dht.IsPublic(ip)
}

func (s internetSettings) config() (internetConfig, error) {
	cfg, err := s.dhtSettings.config()
	cfg.UploadLimit = s.UploadLimit.bytes
	return cfg, err
}

func (s dhtSettings) config() (internetConfig, error) {
	cfg := internetConfig{Listen: s.WANListen.hostport, Private: s.DHTPrivate}
	for _, b := range s.DHTBootstrap {
		cfg.Bootstrap = append(cfg.Bootstrap, b.hostport)
	}
	if _, port, err := net.SplitHostPort(cfg.Listen); err == nil && port != "0" {
		if n, _ := strconv.Atoi(port); n < dht.MinPort {
			return cfg, fmt.Errorf("wan-listen: other nodes connect to no port below %d: choose another than %s", dht.MinPort, port)
		}
	}
	return cfg, nil
}

// placeSettings are where a command without a store keeps what it knows.
type placeSettings struct {
	DataDir string `toml:"data-dir" type:"path" default:"${data_dir}" placeholder:"DIR" help:"Where it keeps what it knows from one start to the next (${default})."`
}

func (s placeSettings) config() (string, error) {
	if s.DataDir == "" {
		return "", errors.New("data-dir: this user has no home directory to keep files in: name a directory with --data-dir")
	}
	return s.DataDir, nil
}

// wanAddr is a listenAddr for the internet.
type wanAddr struct{ listenAddr }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *wanAddr) UnmarshalText(text []byte) error {
	return a.read(string(text), defaultWAN)
}

// dhtAddr is HOST:PORT of a node of the DHT.
type dhtAddr struct{ hostport string }

// UnmarshalText checks the shape; names are looked up while the node runs.
func (a *dhtAddr) UnmarshalText(text []byte) error {
	if err := dht.CheckBootstrap(string(text)); err != nil {
		return fmt.Errorf("%q is not the address of a DHT node: give HOST:PORT with a port from %d up, as dht.example:9978", text, dht.MinPort)
	}
	a.hostport = string(text)
	return nil
}

// bytesPerSec is a rate.
type bytesPerSec struct{ byteSize }

// minUpload is what one file is given with at the least, in bytes per second:
// whoever gets less looks elsewhere.
const minUpload = 50_000

// UnmarshalText reads a size, with "/s" or without, of at least minUpload.
func (r *bytesPerSec) UnmarshalText(text []byte) error {
	size := bytes.TrimSuffix(bytes.TrimSpace(text), []byte("/s"))
	err := r.byteSize.UnmarshalText(size)
	switch {
	case err == nil && r.bytes < minUpload, err != nil && isZero(size):
		return fmt.Errorf("%q is too slow for anybody: give 50kB or more, or turn the internet off with --dht=false", text)
	case err != nil:
		return fmt.Errorf("%q is not a size per second: give a number with kB, MB or GB, as 500kB or 2MB; 10GB is as good as no limit", text)
	}
	return nil
}

// isZero tells 0, 0kB and 0.0 from what is no size.
func isZero(size []byte) bool {
	digits := bytes.TrimRight(size, "kKmMgGtTiIbB ")
	number, err := strconv.ParseFloat(string(digits), 64)
	return err == nil && number == 0
}
