// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// firewall is the router's: nobody outside reaches the LAN, but for what
// miniupnpd adds to its chains.
const firewall = `table inet filter {
	chain forward {
		type filter hook forward priority 0; policy drop
		ct state established,related accept
		iifname lan accept
		jump miniupnpd
	}
	chain prerouting {
		type nat hook prerouting priority -100
		jump prerouting_miniupnpd
	}
	chain postrouting {
		type nat hook postrouting priority 100
		jump postrouting_miniupnpd
		oifname wan masquerade
	}
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
}
`

const miniupnpdConfig = `ext_ifname=wan
listening_ip=lan
port=5555
enable_natpmp=%s
enable_upnp=%s
secure_mode=yes
system_uptime=no
min_lifetime=20
max_lifetime=86400
lease_file=%s
upnp_table_name=filter
upnp_nat_table_name=filter
uuid=17cefa7c-a22f-4a36-8ea2-fa7d0d712aca
allow 1024-65535 0.0.0.0/0 1024-65535
`

// home is a network behind a router that runs miniupnpd.
type home struct {
	t                     *testing.T
	router, host, outside *namespace
	config, leases        string
	daemon                *exec.Cmd
	log                   bytes.Buffer // to be read once the daemon has ended
}

// newHome has a router whose outer address is wan. Its daemon is not started.
func newHome(t *testing.T, letter, wan string) *home {
	t.Helper()
	h := &home{t: t}
	h.router, h.host, h.outside = newNamespace(t, letter+"r"), newNamespace(t, letter+"h"), newNamespace(t, letter+"o")
	h.router.plug("lan", "192.168.77.1/24", h.host, "eth0", "192.168.77.2/24")
	h.router.plug("wan", wan+"/24", h.outside, "eth0", netip.MustParseAddr(wan).Next().String()+"/24")
	h.host.ip("route add default via 192.168.77.1")
	command(t, "ip", "netns", "exec", h.router.name, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	rules := h.router.program("nft", "-f", "-")
	rules.Stdin = strings.NewReader(firewall)
	if out, err := rules.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return h
}

// start runs miniupnpd with what it speaks.
func (h *home) start(natpmp, upnp bool) {
	h.t.Helper()
	yes := map[bool]string{true: "yes", false: "no"}
	dir := h.t.TempDir()
	h.config, h.leases = filepath.Join(dir, "miniupnpd.conf"), filepath.Join(dir, "leases")
	text := fmt.Sprintf(miniupnpdConfig, yes[natpmp], yes[upnp], h.leases)
	if err := os.WriteFile(h.config, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.boot()
}

func (h *home) boot() {
	h.t.Helper()
	h.daemon = h.router.program("miniupnpd", "-d", "-f", h.config, "-P", filepath.Join(h.t.TempDir(), "pid"))
	h.daemon.Stderr = &h.log
	h.router.run(h.daemon)
	waitFor(h.t, "miniupnpd", func() bool {
		sockets, err := h.router.program("ss", "-Hlntu").Output()
		return err == nil && (bytes.Contains(sockets, []byte(":5351 ")) || bytes.Contains(sockets, []byte(":5555 ")))
	}, func() string { return "it does not listen" })
}

// reboot ends the daemon and takes all mappings away, as a power cut does.
func (h *home) reboot() {
	h.t.Helper()
	h.daemon.Process.Kill()
	h.daemon.Wait()
	if err := os.Remove(h.leases); err != nil {
		h.t.Fatal(err)
	}
	for _, chain := range []string{"miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"} {
		command(h.t, "ip", "netns", "exec", h.router.name, "nft", "flush", "chain", "inet", "filter", chain)
	}
	h.boot()
}

// entries are the leases that miniupnpd keeps, without the descriptions:
// "TCP:9978:192.168.77.2:9978" with the times of their ends.
func (h *home) entries() map[string]time.Time {
	h.t.Helper()
	text, err := os.ReadFile(h.leases)
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	entries := make(map[string]time.Time)
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(line, ":", 6)
		if len(fields) != 6 {
			return nil // half written
		}
		end, err := strconv.ParseInt(fields[4], 10, 64)
		if err != nil {
			return nil
		}
		entries[strings.Join(fields[:4], ":")] = time.Unix(end, 0)
	}
	return entries
}

func (h *home) state() string { return fmt.Sprint(h.entries()) }

// waitEntries waits until miniupnpd has these leases and no others.
func (h *home) waitEntries(want ...string) {
	h.t.Helper()
	waitFor(h.t, fmt.Sprintf("leases %q", want), func() bool {
		entries := h.entries()
		for _, w := range want {
			if _, ok := entries[w]; !ok {
				return false
			}
		}
		return len(entries) == len(want)
	}, h.state)
}

// forwards reports whether the firewall has a rule that forwards to the host.
func (h *home) forwards() bool {
	h.t.Helper()
	rules, err := h.router.program("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		h.t.Fatalf("nft: %v: %s", err, rules)
	}
	return bytes.Contains(rules, []byte("dnat ip to"))
}

// reach returns what somebody outside is told at addr.
func (h *home) reach(network, addr string) (text string, err error) {
	h.outside.inside(func() {
		var conn net.Conn
		if conn, err = net.DialTimeout(network, addr, time.Second); err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		if network == "udp" {
			io.WriteString(conn, "?")
		}
		answer := make([]byte, 100)
		var n int
		n, err = conn.Read(answer)
		text = string(answer[:n])
	})
	return text, err
}

var hostEntries = []string{"TCP:9978:192.168.77.2:9978", "UDP:9978:192.168.77.2:9978"}

var protocols = []struct {
	name         string
	natpmp, upnp bool
}{{"NAT-PMP", true, false}, {"UPnP", false, true}}

// TestMiniupnpd has the mapping made, used, renewed and removed.
func TestMiniupnpd(t *testing.T) {
	t.Parallel()
	for _, tt := range protocols {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "m"+tt.name[:1], "8.8.4.4")
			h.start(tt.natpmp, tt.upnp)
			node := h.host.node(nodeConfig{Lease: minLease})
			node.says(true, "the router at 192.168.77.1", "8.8.4.4:9978", "192.168.77.2", "by "+tt.name)
			h.waitEntries(hostEntries...)
			for _, network := range []string{"tcp", "udp"} {
				if got, err := h.reach(network, "8.8.4.4:9978"); got != greeting || err != nil {
					t.Errorf("from outside by %s: %q, %v", network, got, err)
				}
			}
			first := h.entries()[hostEntries[1]]
			waitFor(t, "a renewal", func() bool { return h.entries()[hostEntries[1]].After(first) }, h.state)
			if took := node.stop(); took > removeWithin {
				t.Errorf("stopping took %s", took)
			}
			h.waitEntries()
			if h.forwards() {
				t.Error("the firewall still forwards")
			}
		})
	}
}

// awaitEpoch waits until the router has run for some seconds, below which
// NAT-PMP cannot tell that it restarted.
func (h *home) awaitEpoch() {
	h.t.Helper()
	p := newPMP(route{gateway: netip.MustParseAddr("192.168.77.1"), local: netip.MustParseAddr("192.168.77.2")}, testPort, leaseTime)
	waitFor(h.t, "an older epoch", func() bool {
		h.host.inside(func() { p.external(h.t.Context()) })
		return p.epoch >= 4
	}, func() string { return fmt.Sprint(p.epoch) })
}

func TestMiniupnpdRestarts(t *testing.T) {
	t.Parallel()
	for _, tt := range protocols {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "b"+tt.name[:1], "8.8.4.4")
			h.start(tt.natpmp, tt.upnp)
			node := h.host.node(nodeConfig{CheckEvery: time.Second})
			node.says(true, "8.8.4.4:9978")
			h.waitEntries(hostEntries...)
			if tt.natpmp {
				h.awaitEpoch()
			}
			h.reboot()
			h.waitEntries(hostEntries...)
			node.says(true, "8.8.4.4:9978")
		})
	}
}

// TestMiniupnpdPortTaken has another machine of the LAN with the same port.
func TestMiniupnpdPortTaken(t *testing.T) {
	t.Parallel()
	for _, tt := range protocols {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "t"+tt.name[:1], "8.8.4.4")
			h.start(tt.natpmp, true)
			h.host.ip("addr add 192.168.77.3/24 dev eth0")
			h.host.ip("route change 192.168.77.0/24 dev eth0 src 192.168.77.3")
			taken := []string{"TCP:9978:192.168.77.3:9978", "UDP:9978:192.168.77.3:9978"}
			for _, transport := range []string{"tcp", "udp"} {
				command(t, "ip", "netns", "exec", h.host.name,
					"upnpc", "-u", "http://192.168.77.1:5555/rootDesc.xml", "-a", "192.168.77.3", "9978", "9978", transport)
			}
			h.host.ip("route change 192.168.77.0/24 dev eth0 src 192.168.77.2")
			h.waitEntries(taken...)
			node := h.host.node(nodeConfig{})
			node.says(true, "the router at 192.168.77.1 forwards", "by "+tt.name)
			waitFor(t, "four leases", func() bool { return len(h.entries()) == 4 }, h.state)
			external := regexp.MustCompile(`8\.8\.4\.4:\d+`).FindString(fmt.Sprint(node.history()))
			if got, err := h.reach("tcp", external); external == "8.8.4.4:9978" || got != greeting || err != nil {
				t.Errorf("from outside at %s: %q, %v", external, got, err)
			}
			node.stop()
			h.waitEntries(taken...)
		})
	}
}

// TestMiniupnpdOtherAddress has the machine get another address in its LAN.
func TestMiniupnpdOtherAddress(t *testing.T) {
	t.Parallel()
	h := newHome(t, "a", "8.8.4.4")
	h.start(true, true)
	node := h.host.node(nodeConfig{})
	node.says(true, "(192.168.77.2)")
	h.host.ip("addr del 192.168.77.2/24 dev eth0")
	h.host.ip("addr add 192.168.77.5/24 dev eth0")
	h.host.ip("route add default via 192.168.77.1")
	node.says(true, "(192.168.77.5)")
	node.stop()
	h.waitEntries(hostEntries...) // until their leases end: they are not ours any more
}

func TestMiniupnpdBehindProvidersNAT(t *testing.T) {
	t.Parallel()
	h := newHome(t, "c", "100.64.3.2")
	h.start(true, true)
	node := h.host.node(nodeConfig{})
	// It hides the address.
	node.says(false, "the router at 192.168.77.1 says that it has no public address", "or it is behind its provider's NAT")
	h.waitEntries()
}

func TestRouterWithNeither(t *testing.T) {
	t.Parallel()
	h := newHome(t, "n", "8.8.4.4")
	node := h.host.node(nodeConfig{})
	node.says(false, "the router at 192.168.77.1 does not answer NAT-PMP or UPnP: forward TCP and UDP port 9978 to this machine (192.168.77.2) by hand")
}
