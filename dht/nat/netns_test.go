// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 2 * checkAgain

// namespace is a machine: a network namespace. Making it takes root.
type namespace struct {
	t    *testing.T
	name string
}

func newNamespace(t *testing.T, letters string) *namespace {
	t.Helper()
	n := &namespace{t, fmt.Sprintf("nat%s%d", letters, os.Getpid())}
	command(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { command(t, "ip", "netns", "del", n.name) })
	n.ip("link set lo up")
	return n
}

// ip runs ip(8) with args in the namespace.
func (n *namespace) ip(args string) {
	n.t.Helper()
	command(n.t, "ip", append([]string{"-n", n.name}, strings.Fields(args)...)...)
}

// plug connects n's interface nic, which gets an address, with other's.
func (n *namespace) plug(nic, prefix string, other *namespace, otherNIC, otherPrefix string) {
	n.t.Helper()
	n.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", nic, otherNIC, other.name))
	n.ip(fmt.Sprintf("addr add %s dev %s", prefix, nic))
	n.ip(fmt.Sprintf("link set %s up", nic))
	other.ip(fmt.Sprintf("addr add %s dev %s", otherPrefix, otherNIC))
	other.ip(fmt.Sprintf("link set %s up", otherNIC))
}

// program prepares to run a program in the namespace.
func (n *namespace) program(args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.name}, args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

// run starts cmd and ends it with the test.
func (n *namespace) run(cmd *exec.Cmd) {
	n.t.Helper()
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// inside runs f with the sockets that it makes belonging to the namespace.
func (n *namespace) inside(f func()) {
	n.t.Helper()
	var err error
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		var file *os.File
		if file, err = os.Open(filepath.Join("/run/netns", n.name)); err != nil {
			return
		}
		defer file.Close()
		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			f()
		}
	})
	done.Wait()
	if err != nil {
		n.t.Fatal(err)
	}
}

// testNode is a machine's node.
type testNode struct {
	t     *testing.T
	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{} // closed after its last line

	mu sync.Mutex // guards following
	// lines are what the node logged.
	lines []logLine
}

type logLine struct {
	Msg    string
	Mapped bool
	Status string
}

// node starts a node on the machine.
func (n *namespace) node(cfg nodeConfig) *testNode {
	n.t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	node := &testNode{t: n.t, cmd: n.program(self), ended: make(chan struct{})}
	node.cmd.Env = append(os.Environ(), nodeVariable+"="+string(text))
	node.cmd.Stderr = os.Stderr
	output, err := node.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if node.input, err = node.cmd.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	n.run(node.cmd)
	go node.listen(output)
	return node
}

func (n *testNode) listen(output io.Reader) {
	defer close(n.ended)
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var line logLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return
		}
		n.mu.Lock()
		n.lines = append(n.lines, line)
		n.mu.Unlock()
	}
}

// history is what the node has said of its mapping.
func (n *testNode) history() []logLine {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.lines)
}

// says waits until the node's latest status has all parts.
func (n *testNode) says(mapped bool, parts ...string) {
	n.t.Helper()
	waitFor(n.t, fmt.Sprintf("status with %q", parts), func() bool {
		history := n.history()
		if len(history) == 0 {
			return false
		}
		last := history[len(history)-1]
		lacks := func(part string) bool { return !strings.Contains(last.Status, part) }
		return last.Mapped == mapped && !slices.ContainsFunc(parts, lacks)
	}, func() string { return fmt.Sprint(n.history()) })
}

// stop ends the node cleanly and returns how long that took.
func (n *testNode) stop() time.Duration {
	n.t.Helper()
	began := time.Now()
	n.input.Close()
	<-n.ended
	if err := n.cmd.Wait(); err != nil {
		n.t.Errorf("the node ended with %v", err)
	}
	return time.Since(began)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// waitFor polls for what other processes do; state tells how far they came.
func waitFor(t *testing.T, what string, done func() bool, state func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %s", what, patience, state())
		}
	}
}
