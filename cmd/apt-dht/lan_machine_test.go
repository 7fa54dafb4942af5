// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lanPort is where a node listens that was told nothing.
const lanPort = "9977"

// lanMachine is a machine of a LAN: a host with an apt and a node of its own.
type lanMachine struct {
	*client
	*node
	t     *testing.T
	host  *lanHost
	ip    string
	bus   string // address of its system bus; "" without
	flags []string
}

// newLANMachine makes a machine whose apt asks the node of the same machine.
// The node does not run yet.
func newLANMachine(t *testing.T, s *lanSegment, ip, gateway string, sources []string) *lanMachine {
	t.Helper()
	m := &lanMachine{t: t, host: newLANHost(t), client: newClient(t, sources), ip: ip}
	m.patient(false)
	m.host.plug(s, "eth0", ip+"/24")
	ipBatch(t, m.host.name, "route add default via "+gateway)
	m.node = &node{t: t, addr: ip + " on " + m.host.name, data: filepath.Join(t.TempDir(), "data"), log: new(output)}
	t.Cleanup(m.node.cleanup)
	return m
}

// patient gives the machine's apt the three retries that it has by default.
func (m *lanMachine) patient(yes bool) {
	m.t.Helper()
	m.configure(`Acquire::http::Proxy "http://127.0.0.1:`+lanPort+`";`, `Acquire::Retries "`+map[bool]string{true: "3", false: "0"}[yes]+`";`)
}

// serve starts the node and returns when it serves. Nothing is configured but
// where it finds what belongs to this machine.
func (m *lanMachine) serve(flags ...string) {
	m.t.Helper()
	m.flags = flags
	m.serveAgain()
}

// serveAgain starts the node as it was started before.
func (m *lanMachine) serveAgain() {
	m.t.Helper()
	before := len(listening.FindAllString(m.log.String(), -1))
	m.exec()
	eventually(m.t, "the node listens", func() bool {
		m.mustRun()
		return len(listening.FindAllString(m.log.String(), -1)) > before
	})
	m.status()
}

// exec runs the process.
func (m *lanMachine) exec() {
	m.t.Helper()
	args := append([]string{
		program(m.t), "serve", "--config", os.DevNull, "--data-dir", m.data, "--import", "", "--log-level", "debug", "--dht=false",
		"--apt-etc", filepath.Join(m.dir, "etc"), "--apt-lists", filepath.Join(m.dir, "state/lists"),
	}, m.flags...)
	bus := m.bus
	if bus == "" {
		bus = "unix:path=/nonexistent" // not that of the machine that tests
	}
	cmd := m.host.command("true", args...)
	cmd.Env = plainEnv("GORACE=atexit_sleep_ms=0 halt_on_error=0", "DBUS_SYSTEM_BUS_ADDRESS="+bus)
	cmd.Stderr = m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(m.t, cmd.Start())
	exited := make(chan struct{})
	m.cmd, m.exited = cmd, exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
}

// pause stops the node's process without its knowing, as a suspended virtual
// machine is; it goes on at the latest when the test ends.
func (m *lanMachine) pause() {
	m.t.Helper()
	check(m.t, m.cmd.Process.Signal(syscall.SIGSTOP))
	m.t.Cleanup(m.resume)
}

func (m *lanMachine) resume() { m.cmd.Process.Signal(syscall.SIGCONT) }

// begin starts apt-get.
func (m *lanMachine) begin(args ...string) *running {
	m.t.Helper()
	return m.client.start("ip", append([]string{"netns", "exec", m.host.name, "apt-get", "-qy"}, args...)...)
}

// must runs apt-get, which must neither fail nor complain.
func (m *lanMachine) must(args ...string) {
	m.t.Helper()
	finish(m.begin(args...))
}

// finish waits for an apt-get, which must neither fail nor complain.
func finish(r *running) {
	r.c.t.Helper()
	out, err := r.wait()
	r.c.wantFine(r.cmd.Args[4:], out, err)
}

func (m *lanMachine) update() {
	m.t.Helper()
	m.must("update")
}

// download gets packages and what they depend on.
func (m *lanMachine) download(names ...string) {
	m.t.Helper()
	m.must(append([]string{"install", "--download-only"}, names...)...)
}

// request sends a request to a node, in most cases its own, as another program
// of this machine does.
func (m *lanMachine) request(method, url string, header http.Header, body string) (*http.Response, string, error) {
	return m.host.request(method, url, header, body)
}

// request sends a request from the host, on a connection of its own.
func (h *lanHost) request(method, url string, header http.Header, body string) (*http.Response, string, error) {
	return h.requestWithin(patience, method, url, header, body)
}

func (h *lanHost) requestWithin(limit time.Duration, method, url string, header http.Header, body string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel() // a Transport goes on dialling when its request has ended
	dial := func(_ context.Context, network, addr string) (net.Conn, error) { return h.dial(ctx, network, addr) }
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}
	resp, err := (&http.Client{Transport: transport, Timeout: limit}).Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func (h *lanHost) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	inside := h.inside(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return nil
	})
	if inside != nil {
		return nil, inside
	}
	return conn, err
}

// get fetches a mirror's URL through the machine's own node.
func (m *lanMachine) get(mirrorURL string) (*http.Response, string) {
	m.t.Helper()
	resp, body, err := m.request("GET", "http://127.0.0.1:"+lanPort+"/"+strings.TrimPrefix(mirrorURL, "http://"), nil, "")
	check(m.t, err)
	return resp, body
}

// url is a URL of the machine's node as its neighbours see it.
func (m *lanMachine) url(path string) string { return "http://" + m.ip + ":" + lanPort + path }

// lanStatus is the part of a node's status that these tests look at.
type lanStatus struct {
	nodeStatus
	ID  string `json:"node_id"`
	LAN struct {
		Peers []lanPeer `json:"peers"`
	} `json:"lan"`
	BytesFrom struct {
		LAN    int64 `json:"lan"`
		Mirror int64 `json:"mirror"`
	} `json:"bytes_from"`
	BytesTo struct {
		LAN int64 `json:"lan"`
	} `json:"bytes_to"`
}

// lanPeer is another node as a node knows it.
type lanPeer struct {
	ID    string `json:"id"`
	Addr  string `json:"addr"`
	Alive bool   `json:"alive"`
	Liar  string `json:"liar"`
}

func (m *lanMachine) status() (s lanStatus) {
	m.t.Helper()
	_, body, err := m.request("GET", "http://127.0.0.1:"+lanPort+"/~/v1/status", nil, "")
	check(m.t, err)
	check(m.t, json.Unmarshal([]byte(body), &s))
	return s
}

// knows tells whether the node has a living member of that id.
func (m *lanMachine) knows(id string) bool {
	m.t.Helper()
	return slices.ContainsFunc(m.status().LAN.Peers, func(p lanPeer) bool { return p.ID == id && p.Alive })
}

// acquainted waits until the machines' nodes all know each other.
func acquainted(t testing.TB, machines ...*lanMachine) {
	t.Helper()
	ids := make([]string, len(machines))
	for i, m := range machines {
		ids[i] = m.status().ID
	}
	for i, m := range machines {
		for j, id := range ids {
			if i != j {
				eventually(t, fmt.Sprintf("%s knows %s", m.ip, machines[j].ip), func() bool { return m.knows(id) })
			}
		}
	}
}

// program is this test binary under the program's name, so that it has the race
// detector if the tests have it.
func program(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("apt-dht") // where testscript.Main has put it
	check(t, err)
	return path
}
