// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// settings are what serve can be told, as text: each field is a flag and a key
// of the configuration file. [settings.config] turns them into a serveConfig.
type settings struct {
	listenSettings
	lanSettings
	sharingSettings
	internetSettings
	storeSettings
	logSettings

	Allow         []clientRule  `toml:"allow" placeholder:"CIDR|lan" help:"Networks whose machines may use the proxy, besides this one; \"lan\" is every private network this machine is on. Repeatable."`
	AllowOrigin   []originRule  `toml:"allow-origin" placeholder:"HOST|CIDR" help:"Repositories at private addresses that may be fetched from, besides those in this machine's sources. Repeatable."`
	UpstreamProxy upstreamProxy `toml:"upstream-proxy" placeholder:"URL" help:"HTTP proxy through which mirrors are reached, or \"direct\" for none. Default: http_proxy, https_proxy and no_proxy of the environment."`
	AptLists      string        `toml:"apt-lists" type:"path" default:"/var/lib/apt/lists" placeholder:"DIR" help:"apt's lists, read for the hashes they hold (${default})."`
	AptEtc        string        `toml:"apt-etc" type:"path" default:"/etc/apt" placeholder:"DIR" help:"apt's configuration, read for sources and keyrings (${default})."`
	Import        string        `toml:"import" type:"path" default:"/var/cache/apt/archives" placeholder:"DIR" help:"Directory of packages to take into the store at start; empty for none (${default})."`
}

type listenSettings struct {
	Listen []listenAddr `toml:"listen" default:":9977" placeholder:"ADDR" help:"Where the node listens, [HOST]:PORT (${default}). Repeatable."`
}

type lanSettings struct {
	MDNS          bool       `toml:"mdns" default:"true" negatable:"" placeholder:"false" help:"Find other nodes on the local network, and be found, by multicast DNS (${default})."`
	MDNSInterface []string   `toml:"mdns-interface" placeholder:"NIC" help:"Network interfaces for multicast DNS, whatever their kind. Default: all with private addresses but tunnels. Repeatable."`
	LANPeer       []peerAddr `toml:"lan-peer" placeholder:"HOST[:PORT]" help:"Node that multicast DNS does not reach, as in another subnet; it must name this one too. Repeatable."`
}

type storeSettings struct {
	DataDir string   `toml:"data-dir" type:"path" default:"${data_dir}" placeholder:"DIR" help:"Where the node keeps its files (${default})."`
	Quota   byteSize `toml:"quota" placeholder:"SIZE" help:"Most disk space the stored files may take, as 20GiB or 500MB. Default: the smaller of 20GiB and a tenth of the disk."`
}

type logSettings struct {
	LogLevel  logLevel  `toml:"log-level" default:"info" placeholder:"LEVEL" help:"Least severe messages to log: debug, info, warn or error (${default})."`
	LogFormat logFormat `toml:"log-format" default:"text" placeholder:"FORMAT" help:"How to log: text or json (${default})."`
}

// serveConfig is the whole configuration of a node, validated.
type serveConfig struct {
	storeConfig

	// Listen holds the addresses to listen on, [HOST]:PORT, at least one. No
	// host means every address of this machine, IPv4 and IPv6.
	Listen []string
	// LAN says how other nodes are found.
	LAN lanConfig
	// DHT turns the internet on; Internet says how it is taken part in.
	DHT      bool
	Internet internetConfig
	// Exclude are repositories, as the index names them, that have no part in it.
	Exclude []string
	// Clients decides who may use the proxy. This machine always may.
	Clients *clientList
	// OriginHosts are host names, in lower case, that may be fetched from even
	// when they have private addresses.
	OriginHosts []string
	// OriginNets are networks that may be fetched from though they are private.
	OriginNets []netip.Prefix
	// Proxy returns the proxy through which a mirror's URL is to be fetched, or
	// nil for none. It is never nil itself and is safe for concurrent use.
	Proxy func(mirror *url.URL) (*url.URL, error)
	// AptLists is apt's directory of lists. Absolute.
	AptLists string
	// AptEtc is apt's configuration directory. Absolute.
	AptEtc string
	// Import is a directory of packages to take into the store at start.
	// Empty: none.
	Import string
}

// lanConfig is how other nodes of the local network are found.
type lanConfig struct {
	// MDNS turns on multicast DNS.
	MDNS bool
	// Interfaces names the network interfaces for it. Empty: all suitable ones.
	Interfaces []string
	// Peers are HOST or HOST:PORT of nodes that it does not reach.
	Peers []string
	// OfficeProxy: other machines may use the proxy, so they shall find it.
	OfficeProxy bool
}

// storeConfig is what every command that opens the store needs.
type storeConfig struct {
	// DataDir is where the node keeps its files. Absolute; it may not exist yet.
	DataDir string
	// Quota is the most bytes that stored files may take. 0: the store's default.
	Quota int64
}

// config validates what the single settings could not check alone.
func (s settings) config() (serveConfig, error) {
	stored, err := s.storeSettings.config()
	if err != nil {
		return serveConfig{}, err
	}
	if len(s.Listen) == 0 {
		return serveConfig{}, errors.New(`listen: the list is empty: name at least one address, as ":9977"`)
	}
	internet, err := s.internetSettings.config()
	if err != nil {
		return serveConfig{}, err
	}
	cfg := serveConfig{
		storeConfig: stored,
		LAN:         s.lanSettings.config(),
		DHT:         s.DHT,
		Internet:    internet,
		Clients:     newClientList(s.Allow, lanPrefixes),
		Proxy:       s.UpstreamProxy.proxyFunc(*httpproxy.FromEnvironment()),
		AptLists:    s.AptLists,
		AptEtc:      s.AptEtc,
		Import:      s.Import,
	}
	cfg.LAN.OfficeProxy = len(s.Allow) > 0
	for _, l := range s.Listen {
		cfg.Listen = append(cfg.Listen, l.hostport)
	}
	for _, r := range s.DHTExclude {
		cfg.Exclude = append(cfg.Exclude, r.name)
	}
	for _, o := range s.AllowOrigin {
		if o.host != "" {
			cfg.OriginHosts = append(cfg.OriginHosts, o.host)
		} else {
			cfg.OriginNets = append(cfg.OriginNets, o.prefix)
		}
	}
	return cfg, nil
}

func (s lanSettings) config() lanConfig {
	cfg := lanConfig{MDNS: s.MDNS, Interfaces: s.MDNSInterface}
	for _, p := range s.LANPeer {
		cfg.Peers = append(cfg.Peers, p.hostport)
	}
	return cfg
}

// minQuota holds the indexes of one Debian release, and not much else.
const minQuota = 64 << 20

func (s storeSettings) config() (storeConfig, error) {
	if s.DataDir == "" {
		return storeConfig{}, errors.New("data-dir: this user has no home directory to keep files in: name a directory with --data-dir")
	}
	if s.Quota.bytes != 0 && s.Quota.bytes < minQuota {
		return storeConfig{}, fmt.Errorf("quota: %d bytes would not hold a distribution's indexes: give 64MiB or more", s.Quota.bytes)
	}
	return storeConfig{DataDir: s.DataDir, Quota: s.Quota.bytes}, nil
}

// defaultDataDir is where a node keeps its files unless told otherwise: the
// directory that systemd made for the service, /var/lib for root, the user's
// cache for others (XDG base directory specification). Empty if there is none.
func defaultDataDir() string {
	// StateDirectory= may name several directories; the first is ours (systemd.exec(5)).
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/apt-dht"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "apt-dht")
}
