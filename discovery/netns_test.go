// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// network is a switch with hosts, each a network namespace. Making it takes
// root.
type network struct {
	t    *testing.T
	name string
	next int
}

func newNetwork(t *testing.T, letter string) *network {
	t.Helper()
	n := &network{t: t, name: fmt.Sprintf("dsc%s%d", letter, os.Getpid())}
	n.namespace(n.name)
	n.ip(n.name, "link add sw type bridge mcast_snooping 0")
	n.ip(n.name, "link set sw up")
	return n
}

func (n *network) namespace(name string) {
	n.t.Helper()
	command(n.t, "ip", "netns", "add", name)
	n.t.Cleanup(func() { command(n.t, "ip", "netns", "del", name) })
	n.sysctl(name, "net/ipv6/conf/default/accept_dad", "0")
	n.sysctl(name, "net/ipv6/conf/all/accept_dad", "0")
	n.ip(name, "link set lo up")
}

func (n *network) sysctl(namespace, key, value string) {
	n.t.Helper()
	command(n.t, "ip", "netns", "exec", namespace, "sh", "-c", "echo "+value+" >/proc/sys/"+key)
}

// ip runs ip(8) with args in a namespace.
func (n *network) ip(namespace, args string) {
	n.t.Helper()
	command(n.t, "ip", append([]string{"-n", namespace}, strings.Fields(args)...)...)
}

// host is a machine on the network.
type host struct {
	*network
	name string
	bus  string // address of its system bus; "" without
}

// host adds a machine with the given address on eth0.
func (n *network) host(prefix string) *host {
	n.t.Helper()
	n.next++
	h := &host{network: n, name: fmt.Sprintf("%sh%d", n.name, n.next)}
	n.namespace(h.name)
	h.plug("eth0", prefix)
	return h
}

// plug connects the host's interface nic to the switch.
func (h *host) plug(nic, prefix string) {
	h.t.Helper()
	port := fmt.Sprintf("p%d%s", h.next, nic)
	h.ip(h.network.name, fmt.Sprintf("link add %s type veth peer name %s netns %s", port, nic, h.name))
	h.ip(h.network.name, fmt.Sprintf("link set %s master sw up", port))
	h.ip(h.name, fmt.Sprintf("addr add %s dev %s", prefix, nic))
	h.ip(h.name, fmt.Sprintf("link set %s up", nic))
}

// program prepares to run a program on the host. What is mounted by setup, a
// shell command, only the program sees.
func (h *host) program(setup string, env []string, args ...string) *exec.Cmd {
	h.t.Helper()
	shell := append([]string{"netns", "exec", h.name, "sh", "-c", setup + `; exec "$@"`, "sh"}, args...)
	cmd := exec.Command("ip", shell...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "DBUS_SYSTEM_BUS_ADDRESS="+h.busAddress())
	cmd.WaitDelay = time.Second
	return cmd
}

// busAddress is the host's system bus, never the one of the machine that tests.
func (h *host) busAddress() string {
	if h.bus == "" {
		return "unix:path=/nonexistent"
	}
	return h.bus
}

// run starts cmd and ends it with the test.
func (h *host) run(cmd *exec.Cmd) {
	h.t.Helper()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>%s</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
`

// startBus gives the host a system bus.
func (h *host) startBus() {
	h.t.Helper()
	dir, err := os.MkdirTemp("", "dsc") // t.TempDir can be too long for a socket
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(dir) })
	h.bus = "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, h.bus), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.run(h.program("true", nil, "dbus-daemon", "--nofork", "--nosyslog", "--config-file="+config))
	waitFor(h.t, "the bus's socket", func() bool {
		_, err := os.Stat(filepath.Join(dir, "bus"))
		return err == nil
	})
}

// startAvahi runs an avahi-daemon on the host, on a bus that it has. publish
// are lines of that section of its configuration.
func (h *host) startAvahi(publish string) *exec.Cmd {
	h.t.Helper()
	config := filepath.Join(h.t.TempDir(), "avahi.conf")
	text := "[server]\nhost-name=" + h.name + "\nratelimit-interval-usec=1000000\nratelimit-burst=1000\n[publish]\npublish-workstation=no\npublish-hinfo=no\n" + publish + "\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	daemon := h.program("mount -t tmpfs tmpfs /run", nil,
		"avahi-daemon", "--file", config, "--no-drop-root", "--no-chroot", "--no-rlimits")
	h.run(daemon)
	waitFor(h.t, "avahi-daemon", func() bool {
		return h.program("true", nil, "avahi-browse", "-pt", "_none._tcp").Run() == nil
	})
	return daemon
}

// browse returns what a client on the host that uses Avahi sees.
func (h *host) browse(service string) string {
	text, err := h.program("true", nil, "timeout", "5", "avahi-browse", "-kprtf", service).CombinedOutput()
	if err != nil {
		h.t.Logf("avahi-browse: %v: %s", err, text)
	}
	return string(text)
}

// testNode is a node on a host.
type testNode struct {
	*host
	id      string
	cmd     *exec.Cmd
	input   io.WriteCloser
	started time.Time
	log     bytes.Buffer // to be read once cmd has ended

	mu sync.Mutex // guards following
	// history is what the node told, the latest last.
	history []ring
}

// ring is a node's members at one time, by id.
type ring struct {
	at      time.Time
	members map[string]string
}

// node starts a node on the host.
func (h *host) node(cfg nodeConfig) *testNode {
	h.t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	n := &testNode{host: h, id: cfg.ID}
	n.cmd = h.program("true", []string{nodeVariable + "=" + string(text)}, self)
	n.cmd.Stderr = &n.log
	output, err := n.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if n.input, err = n.cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("log of node %s:\n%s", n.id, n.log.String())
		}
	})
	h.run(n.cmd)
	go n.listen(output)
	waitFor(h.t, "the node's first word", func() bool { return len(n.rings()) > 0 })
	n.started = n.rings()[0].at
	return n
}

func (n *testNode) listen(output io.Reader) {
	for lines := bufio.NewScanner(output); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		nanos, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return
		}
		r := ring{at: time.Unix(0, nanos), members: make(map[string]string)}
		for _, f := range fields[1:] {
			id, addr, _ := strings.Cut(f, "=")
			r.members[id] = addr
		}
		n.mu.Lock()
		n.history = append(n.history, r)
		n.mu.Unlock()
	}
}

func (n *testNode) rings() []ring {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.history
}

// members are the node's, by id, as it last told.
func (n *testNode) members() map[string]string {
	rings := n.rings()
	return rings[len(rings)-1].members
}

func (n *testNode) knows(id string) bool { return n.members()[id] != "" }

// since returns when the node's present opinion of id began.
func (n *testNode) since(id string) time.Time {
	rings := n.rings()
	at := rings[len(rings)-1].at
	for i := len(rings) - 1; i >= 0 && (rings[i].members[id] != "") == n.knows(id); i-- {
		at = rings[i].at
	}
	return at
}

// stop ends the node cleanly and returns when that began.
func (n *testNode) stop() time.Time {
	n.t.Helper()
	at := time.Now()
	n.input.Close()
	return at
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// waitFor polls for what other processes do.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// inside runs f with the sockets that it makes belonging to the host.
func (h *host) inside(f func()) {
	h.t.Helper()
	var err error
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		var ns *os.File
		if ns, err = os.Open(filepath.Join("/run/netns", h.name)); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			f()
		}
	})
	done.Wait()
	if err != nil {
		h.t.Fatal(err)
	}
}

// dial joins the IPv4 mDNS group on an interface of the host.
func (h *host) dial(name string) *socket {
	h.t.Helper()
	var s *socket
	var err error
	h.inside(func() {
		var ifi *net.Interface
		if ifi, err = net.InterfaceByName(name); err == nil {
			s, err = listenGroup(nic{Interface: *ifi}, true)
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { s.Close() })
	return s
}

// ask queries for nodes from an ordinary port, as a resolver does, and returns
// all answers.
func (h *host) ask(name string) (answers []*dns.Msg) {
	h.t.Helper()
	var conn *net.UDPConn
	var err error
	h.inside(func() {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{})
	})
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	var ifi *net.Interface
	h.inside(func() { ifi, err = net.InterfaceByName(name) })
	if err == nil {
		err = ipv4.NewPacketConn(conn).SetMulticastInterface(ifi)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	packet, err := question().Pack()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := conn.WriteToUDPAddrPort(packet, netip.AddrPortFrom(group4, mdnsPort)); err != nil {
		h.t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	buf := make([]byte, maxPacket)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return answers
		}
		msg := new(dns.Msg)
		if err := msg.Unpack(buf[:n]); err != nil {
			h.t.Fatal(err)
		}
		answers = append(answers, msg)
	}
}
