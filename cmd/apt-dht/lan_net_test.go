// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lanSegment is a switch in a network namespace of its own. Nothing that its
// hosts send leaves it.
type lanSegment struct {
	t    *testing.T
	name string
}

// lanHost is a network namespace with cables to segments.
type lanHost struct {
	t     *testing.T
	name  string
	ports map[string]*lanSegment // by the name of the NIC
}

// lanNames makes the names of namespaces: they tell which process made them.
var lanNames atomic.Int32

func newLANName() string { return fmt.Sprintf("aptlan%d-%d", os.Getpid(), lanNames.Add(1)) }

var lanName = regexp.MustCompile(`(?m)^aptlan(\d+)-\d+\b`)

// sweepLANs removes what test runs that were killed have left behind. Their
// processes have gone with them.
func sweepLANs(t *testing.T) {
	t.Helper()
	list := runCommand(t, command("", "ip", "netns", "list"))
	for _, found := range lanName.FindAllStringSubmatch(list, -1) {
		if _, err := os.Stat("/proc/" + found[1]); errors.Is(err, os.ErrNotExist) {
			runCommand(t, command("", "ip", "netns", "del", found[0]))
		}
	}
}

func newLANSegment(t *testing.T) *lanSegment {
	t.Helper()
	s := &lanSegment{t, newLANName()}
	addNamespace(t, s.name)
	ipBatch(t, s.name, "link add sw type bridge mcast_snooping 0", "link set sw up")
	return s
}

func newLANHost(t *testing.T) *lanHost {
	t.Helper()
	h := &lanHost{t: t, name: newLANName(), ports: map[string]*lanSegment{}}
	addNamespace(t, h.name)
	// Addresses are of use at once: nobody else has them.
	for _, which := range []string{"all", "default"} {
		h.sysctl("net/ipv6/conf/"+which+"/accept_dad", "0")
	}
	ipBatch(t, h.name, "link set lo up")
	return h
}

func addNamespace(t *testing.T, name string) {
	t.Helper()
	runCommand(t, command("", "ip", "netns", "add", name))
	t.Cleanup(func() { runCommand(t, command("", "ip", "netns", "del", name)) })
}

// ipBatch runs commands of ip(8) in a namespace.
func ipBatch(t *testing.T, namespace string, lines ...string) {
	t.Helper()
	cmd := command("", "ip", "-n", namespace, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	runCommand(t, cmd)
}

// plug connects a NIC of the host, which it makes, to the segment.
func (h *lanHost) plug(s *lanSegment, nic, prefix string) {
	h.t.Helper()
	port := h.port(nic)
	ipBatch(h.t, s.name, fmt.Sprintf("link add %s type veth peer name %s netns %s", port, nic, h.name), "link set "+port+" master sw up")
	ipBatch(h.t, h.name, "addr add "+prefix+" dev "+nic, "link set "+nic+" up")
	h.ports[nic] = s
}

// port is the name of the other end of a NIC's cable.
func (h *lanHost) port(nic string) string {
	_, number, _ := strings.Cut(h.name, "-")
	return "p" + number + nic
}

// cable pulls out a NIC's cable, or puts it in again.
func (h *lanHost) cable(nic string, in bool) {
	h.t.Helper()
	state := map[bool]string{true: "up", false: "down"}[in]
	ipBatch(h.t, h.ports[nic].name, "link set "+h.port(nic)+" "+state)
}

// limit bounds what the host sends through a NIC, in Mbit/s.
func (h *lanHost) limit(nic string, mbit int) {
	h.t.Helper()
	runCommand(h.t, command("", "tc", "-n", h.name, "qdisc", "replace", "dev", nic, "root", "tbf",
		"rate", fmt.Sprint(mbit)+"mbit", "burst", "128kb", "latency", "200ms"))
}

func (h *lanHost) sysctl(key, value string) {
	h.t.Helper()
	check(h.t, h.inside(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
	}))
}

// inside runs f on a thread that is in the host's namespace: the sockets that f
// makes are the host's. The thread returns, because processes that it has
// started would be killed with it (PR_SET_PDEATHSIG).
func (h *lanHost) inside(f func() error) error {
	runtime.LockOSThread()
	ours, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if err := unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread must not be used for anything else
		}
		ours.Close()
		runtime.UnlockOSThread()
	}()
	if err := enterNamespace("/run/netns/" + h.name); err != nil {
		return err
	}
	return f()
}

// listen opens a TCP socket on the host.
func (h *lanHost) listen(addr string) net.Listener {
	h.t.Helper()
	var l net.Listener
	check(h.t, h.inside(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	return l
}

// run starts a process on the host, which ends with the test.
func (h *lanHost) run(setup string, env []string, args ...string) (*exec.Cmd, *output) {
	h.t.Helper()
	cmd, out := h.command(setup, args...), new(output)
	cmd.Env, cmd.Stdout, cmd.Stderr = plainEnv(env...), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(h.t, startProcess(h.t, cmd))
	return cmd, out
}

// command prepares a process on the host. What setup, a shell command, mounts
// only that process sees.
func (h *lanHost) command(setup string, args ...string) *exec.Cmd {
	shell := []string{"netns", "exec", h.name, "sh", "-c", setup + `; exec "$@"`, "sh"}
	return exec.Command("ip", append(shell, args...)...)
}
