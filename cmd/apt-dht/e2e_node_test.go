// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodeConfig says how to start a node.
type nodeConfig struct {
	sources []string // lines of the sources.list of the node's machine
	listen  string   // "": a loopback address of its own
	dataDir string   // "": a new one
	flags   []string
	env     []string
	strict  bool // private origins must be named by sources; else all loopback ones may be fetched from
}

// node is a running apt-dht.
type node struct {
	t      testing.TB
	addr   string // IP:PORT
	data   string
	etc    string // its machine's /etc/apt
	lists  string // its machine's /var/lib/apt/lists
	args   []string
	env    []string
	cmd    *exec.Cmd
	exited chan struct{} // closed once cmd has been waited for
	log    *output
}

// output is what a process printed so far.
type output struct {
	mu  sync.Mutex // guards following
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// startNode starts a node and returns when it serves. The node is stopped, and
// checked to stop well, when the test ends.
func startNode(t testing.TB, conf nodeConfig) *node {
	t.Helper()
	n := newNode(t, conf)
	n.start()
	return n
}

// newNode prepares a node that does not run yet.
func newNode(t testing.TB, conf nodeConfig) *node {
	t.Helper()
	etc := filepath.Join(t.TempDir(), "etc")
	writeFile(t, filepath.Join(etc, "sources.list"), []byte(strings.Join(conf.sources, "\n")+"\n"))
	if conf.dataDir == "" {
		conf.dataDir = filepath.Join(t.TempDir(), "data")
	}
	if conf.listen == "" {
		conf.listen = loopback() + ":0"
	}
	n := &node{t: t, addr: conf.listen, data: conf.dataDir, etc: etc, lists: t.TempDir(), log: new(output)}
	n.args = append([]string{
		"--config", os.DevNull, "--data-dir", n.data, "--apt-etc", etc, "--apt-lists", n.lists,
		"--import", "", "--log-level", "debug", "--dht=false",
	}, conf.flags...)
	if !conf.strict {
		n.args = append(n.args, "--allow-origin", "127.0.0.0/8")
	}
	// halt_on_error=0: all races of a run are told, and the status is then 66.
	n.env = plainEnv(append([]string{"GORACE=atexit_sleep_ms=0 halt_on_error=0"}, conf.env...)...)
	t.Cleanup(n.cleanup)
	return n
}

var listening = regexp.MustCompile(`msg=listening addr=(\S+)`)

// start runs the node, at the address it had if it ran before.
func (n *node) start() {
	n.t.Helper()
	before := len(listening.FindAllString(n.log.String(), -1))
	n.run()
	eventually(n.t, "the node listens", func() bool {
		n.mustRun()
		found := listening.FindAllStringSubmatch(n.log.String(), -1)
		if len(found) == before {
			return false
		}
		n.addr = found[before][1]
		return true
	})
	n.status()
}

// run starts the process: this test binary under the program's name, so that
// it has the race detector if the tests have it (see TestMain).
func (n *node) run() {
	n.t.Helper()
	exe, err := os.Executable()
	check(n.t, err)
	n.cmd = &exec.Cmd{
		Path:   exe,
		Args:   append([]string{"apt-dht", "serve", "--listen", n.addr}, n.args...),
		Env:    n.env,
		Stderr: n.log,
		// A test binary that is killed takes its nodes with it.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	check(n.t, n.cmd.Start())
	n.exited = make(chan struct{})
	go func() {
		n.cmd.Wait()
		close(n.exited)
	}()
}

// mustRun fails the test if the node has ended.
func (n *node) mustRun() {
	n.t.Helper()
	select {
	case <-n.exited:
		n.t.Fatalf("the node has ended: %v", n.cmd.ProcessState)
	default:
	}
}

// stopWithin is more than the node takes for answers that are under way.
const stopWithin = 15 * time.Second

// stop ends the node as a service manager does.
func (n *node) stop() {
	n.t.Helper()
	n.mustRun()
	check(n.t, n.cmd.Process.Signal(syscall.SIGTERM))
	n.await(stopWithin)
	if code := n.cmd.ProcessState.ExitCode(); code != 0 {
		n.t.Errorf("the node ended with status %d on SIGTERM", code)
	}
}

// kill ends the node as a power failure does.
func (n *node) kill() {
	n.t.Helper()
	n.mustRun()
	check(n.t, n.cmd.Process.Kill())
	n.await(patience)
}

// await waits for the process's end.
func (n *node) await(limit time.Duration) {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(limit):
		n.t.Errorf("the node did not end within %v", limit)
		n.cmd.Process.Signal(syscall.SIGQUIT) // it prints its goroutines
		<-n.exited
	}
}

func (n *node) cleanup() {
	if n.cmd == nil {
		return
	}
	select {
	case <-n.exited:
	default:
		n.stop()
	}
	log := n.log.String()
	for _, bad := range []string{"panic", "DATA RACE", "fatal error", "SIGBUS"} {
		if strings.Contains(log, bad) {
			n.t.Errorf("the node's log says %q", bad)
		}
	}
	if n.t.Failed() {
		n.t.Logf("log of node %s:\n%s", n.addr, log)
	}
}

// url is the node's own URL: a proxy for apt, or the first part of a prefix.
func (n *node) url() string { return "http://" + n.addr }

// proxied is the line of apt.conf that makes this node the proxy.
func (n *node) proxied() string {
	return `Acquire::http::Proxy "` + n.url() + `";`
}

// nodeStatus is the part of the status page that tests look at.
type nodeStatus struct {
	Store struct {
		Blobs int   `json:"blobs"`
		Bytes int64 `json:"bytes"`
	} `json:"store"`
	Index struct {
		Origins int `json:"origins"`
		Files   int `json:"files"`
	} `json:"index"`
	Transfers []json.RawMessage `json:"transfers"`
}

// status asks the node how it is.
func (n *node) status() (s nodeStatus) {
	n.t.Helper()
	_, body := n.get(n.url() + "/~/v1/status")
	check(n.t, json.Unmarshal([]byte(body), &s))
	return s
}

// get fetches a URL as it is written, not through the node.
func (n *node) get(url string) (*http.Response, string) {
	n.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(url)
	check(n.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(n.t, err)
	return resp, string(body)
}

// wantNotStored fails the test if some file of the data directory holds part.
func (n *node) wantNotStored(part string) {
	n.t.Helper()
	check(n.t, filepath.WalkDir(n.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it has just been removed
		}
		if body, err := os.ReadFile(path); err == nil && bytes.Contains(body, []byte(part)) {
			n.t.Errorf("%s holds what must not be stored", path)
		}
		return nil
	}))
}
