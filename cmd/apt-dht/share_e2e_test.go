// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	scenarios["Share"] = shareAndFind
	scenarios["SharedTwice"] = sharedTwice
	scenarios["ShareOfNothing"] = shareOfNothing
	scenarios["DHTNodePortTaken"] = dhtNodePortTaken
}

// aptDHT prepares a command of the program: this test binary under its name (see
// TestMain).
func aptDHT(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	check(t, err)
	return &exec.Cmd{
		Path: exe, Args: append([]string{"apt-dht"}, args...),
		Env:         plainEnv("GORACE=atexit_sleep_ms=0 halt_on_error=0", "APT_DHT_CONFIG="+os.DevNull),
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
}

// daemon is a command that runs until it is told to stop.
type daemon struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, log output
	exited   chan struct{} // closed once cmd has been waited for
}

func startDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: aptDHT(t, args...), exited: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.log
	check(t, d.cmd.Start())
	go func() {
		d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("%v printed:\n%s%s", args, &d.out, &d.log)
		}
	})
	return d
}

// says waits until the log has a match, and returns its first group.
func (d *daemon) says(pattern string) (group string) {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	within(d.t, 2*time.Minute, "the log has "+pattern, func() bool {
		found := re.FindStringSubmatch(d.log.String())
		if found != nil {
			group = found[1]
		}
		return found != nil
	})
	return group
}

// stopsWithin is what a service manager may have to wait.
const stopsWithin = 5 * time.Second

// stop ends the command as a service manager does; it may have been stopped.
func (d *daemon) stop() {
	d.t.Helper()
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(stopsWithin):
		d.t.Errorf("%v did not end within %v", d.cmd.Args, stopsWithin)
		d.cmd.Process.Kill()
		<-d.exited
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("%v ended with status %d", d.cmd.Args, code)
	}
	for _, bad := range []string{"panic", "DATA RACE"} {
		if strings.Contains(d.log.String(), bad) {
			d.t.Errorf("%v says %q", d.cmd.Args, bad)
		}
	}
}

// startDHTNode starts a DHT of its own, and returns the address that others name.
func startDHTNode(t *testing.T) (bootstrap string) {
	t.Helper()
	d := startDaemon(t, "dht-node", "--wan-listen", "127.0.0.1:0", "--dht-private", "--data-dir", t.TempDir())
	return d.says(`--dht-bootstrap (\S+:\d+)"`)
}

// startShare shares a directory in that DHT, and returns the port.
func startShare(t *testing.T, bootstrap, dir string, flags ...string) (share *daemon, port string) {
	t.Helper()
	args := []string{"share", "--wan-listen", "127.0.0.1:0", "--dht-private", "--dht-bootstrap", bootstrap, "--data-dir", t.TempDir(), dir}
	share = startDaemon(t, append(args, flags...)...)
	return share, share.says(`msg="listening for other nodes of the DHT" port=(\d+)`)
}

// findPlaces has the node search, and returns where somebody has the file.
func (n *node) findPlaces(what string) (addrs []string) {
	n.t.Helper()
	cmd := aptDHT(n.t.(*testing.T), "find", "--json", "--listen", n.addr, what)
	out, err := cmd.Output()
	var found struct {
		Places []struct{ Addr string }
	}
	check(n.t, json.Unmarshal(out, &found))
	for _, p := range found.Places {
		addrs = append(addrs, p.Addr)
	}
	if (err == nil) != (len(addrs) > 0) {
		n.t.Errorf("find %s: %v, though it found %v", what, err, addrs)
	}
	slices.Sort(addrs)
	return addrs
}

// shareAndFind: two directories are shared in a DHT of their own; a node that
// knows nothing but that DHT finds what is in them, and what has gone no more.
func shareAndFind(t *testing.T, w *world) {
	bootstrap := startDHTNode(t)
	m := newMirror(t, w.standard)
	repository := filepath.Join(t.TempDir(), "debian") // of its own: other tests link the packages, which withholds them for a moment
	runCommand(t, command("", "cp", "-r", w.standard.path(), repository))
	all, port := startShare(t, bootstrap, repository, "--base-uri", m.url(), "--upload-limit", "1GB")
	some := t.TempDir()
	hello := w.packages["hello"]
	writeFile(t, filepath.Join(some, "hello.deb"), readFile(t, hello.deb))
	few, port2 := startShare(t, bootstrap, some)
	at, at2 := "127.0.0.1:"+port, "127.0.0.1:"+port2

	n := startNode(t, nodeConfig{flags: []string{"--dht", "--dht-private", "--dht-bootstrap", bootstrap, "--wan-listen", "127.0.0.1:0", "--mdns=false"}})
	few.says("(all files are announced)") // who looks too early looks again only after minutes
	all.says("(all files are announced)")
	both := []string{at, at2}
	slices.Sort(both)
	if got := n.findPlaces(hello.deb); !slices.Equal(got, both) {
		t.Errorf("a file that both have is found at %v, not %v", got, both)
	}
	big := w.packages["e2e-big"]
	if got := n.findPlaces(fmt.Sprintf("%x", big.digest)); !slices.Equal(got, []string{at}) {
		t.Errorf("another is found at %v, not %v", got, at)
	}
	if out, err := aptDHT(t, "find", "--listen", n.addr, hello.deb).Output(); err != nil || !strings.Contains(string(out), "2 nodes on the private DHT have it") {
		t.Errorf("find: %v\n%s", err, out)
	}
	wantGiven(t, at, big)

	check(t, os.Remove(filepath.Join(some, "hello.deb")))
	eventually(t, "what was removed is not there any more", func() bool { return slices.Equal(n.findPlaces(hello.deb), []string{at}) })
	eventually(t, "the users' lines are there", func() bool {
		return strings.Contains(all.out.String(), "deb "+m.url()+" stable main\n")
	})
	all.stop()
	if got := n.findPlaces(hello.deb); len(got) != 0 {
		t.Errorf("who has stopped is found: %v", got)
	}
	all.says(`(stopped sharing).* bytes_given=` + fmt.Sprint(big.length))
}

// wantGiven fails the test unless the node at addr gives a package to strangers.
func wantGiven(t *testing.T, addr string, p builtPackage) {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s/~/v1/wan/blob/%x", addr, p.digest))
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	if string(body) != string(readFile(t, p.deb)) {
		t.Errorf("%s gives %s, and %d bytes", addr, resp.Status, len(body))
	}
}

// wantRefused runs a command that must end with status 1, and say all of that.
func wantRefused(t *testing.T, cmd *exec.Cmd, parts ...string) {
	t.Helper()
	var log output
	cmd.Stderr = &log
	check(t, cmd.Start())
	defer time.AfterFunc(patience, func() { cmd.Process.Kill() }).Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v: %v\n%s", cmd.Args, err, &log)
	}
	for _, part := range parts {
		if !strings.Contains(log.String(), part) {
			t.Errorf("%v does not say %q:\n%s", cmd.Args, part, &log)
		}
	}
}

// sharedTwice: a directory is shared by one process only.
func sharedTwice(t *testing.T, w *world) {
	args := []string{"share", "--wan-listen", "127.0.0.1:0", "--dht-private", "--data-dir", t.TempDir(), t.TempDir()}
	startDaemon(t, args...).says("(listening)")
	wantRefused(t, aptDHT(t, args...), "is being shared already: stop the other 'apt-dht share' first")
}

// shareOfNothing: a share that gives nothing does not look like one that works.
func shareOfNothing(t *testing.T, w *world) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "pool", "a.deb"), []byte("a"))
	check(t, os.Chmod(filepath.Join(dir, "pool"), 0o750))
	d := startDaemon(t, "share", "--wan-listen", "127.0.0.1:0", "--dht-private", "--data-dir", t.TempDir(), dir)
	d.says(`WARN msg="(not given).* files=0 directories=1 first=` + dir + `/pool`)
	d.says(`WARN msg="(there is no file to give).*chmod -R o\+rX ` + dir)
}

// dhtNodePortTaken: unlike serve, a node of the DHT alone is nothing without its
// port.
func dhtNodePortTaken(t *testing.T, w *world) {
	taken := startDHTNode(t)
	wantRefused(t, aptDHT(t, "dht-node", "--wan-listen", taken, "--dht-private", "--data-dir", t.TempDir()),
		"listen udp4 "+taken+": bind: address already in use", "--wan-listen")
}
