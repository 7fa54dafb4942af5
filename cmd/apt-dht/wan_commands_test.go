// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	wanScenarios["DirectoryIsShared"] = wanDirectoryIsShared
	wanScenarios["FindAndDoctor"] = wanFindAndDoctor
	wanScenarios["OtherClients"] = wanOtherClients
}

// aptDHT runs a command of the program's on the host until the test ends.
func (h *lanHost) aptDHT(args ...string) (*exec.Cmd, *output) {
	h.t.Helper()
	return h.aptDHTIn(filepath.Join(h.t.TempDir(), "data"), args...)
}

// aptDHTIn does so with a data directory that was there before.
func (h *lanHost) aptDHTIn(data string, args ...string) (*exec.Cmd, *output) {
	h.t.Helper()
	args = append([]string{program(h.t), args[0], "--config", os.DevNull, "--data-dir", data, "--log-level", "debug"}, args[1:]...)
	cmd, out := h.run("true", []string{"GORACE=atexit_sleep_ms=0 halt_on_error=0"}, args...)
	h.t.Cleanup(func() {
		if log := out.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") || h.t.Failed() {
			h.t.Logf("log of apt-dht %s:\n%s", args[1], log)
		}
	})
	return cmd, out
}

// bootstrap starts a DHT node of the program's and returns its address, and what
// starts it again.
func (in *internet) bootstrap() (addr string, restart func()) {
	in.t.Helper()
	h, ip := in.site().host("53")
	data := in.t.TempDir()
	start := func() *exec.Cmd {
		cmd, out := h.aptDHTIn(data, append([]string{"dht-node"}, in.plan.flags...)...)
		eventually(in.t, "the DHT node says how to join", func() bool { return strings.Contains(out.String(), "--dht-bootstrap") })
		return cmd
	}
	cmd := start()
	return ip + ":" + wanPort, func() {
		check(in.t, cmd.Process.Signal(syscall.SIGTERM))
		check(in.t, cmd.Wait())
		cmd = start()
	}
}

// wanDirectoryIsShared: who has a repository shares it, and its users need the
// mirror for nothing but the signed indexes.
func wanDirectoryIsShared(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	h, ip := in.site().host("1")
	// A copy: other tests make links to the packages' files, which counts as a change.
	dir := filepath.Join(t.TempDir(), "debian")
	runCommand(t, command("", "cp", "-r", w.standard.path(), dir))
	cmd, out := h.aptDHT("share", "--dht-bootstrap", in.entry, "--upload-limit", "100MB", dir, "--base-uri", in.mirror.url())
	addr := ip + ":" + wanPort
	all := w.allBut()
	in.swarm.wantHolder(addr, all)

	m := in.node()
	m.update()
	m.inDHT()
	in.mirror.down()
	wan, _ := m.fetched(func() { m.download(namesOf(all)...) })
	m.wantPackages(all)
	if wan < sizeOf(all) {
		t.Errorf("%d bytes of %d came from the directory", wan, sizeOf(all))
	}
	stranger, _ := in.site().host("1")
	for _, path := range []string{"/", "/dists/stable/InRelease", "/~/v1/status", wanBlobs + hexHash("SHA256", readFile(t, filepath.Join(w.key.home, "key.asc")))} {
		if got := exchange(t, stranger, addr, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
			t.Errorf("%s: %.100q", path, got)
		}
	}
	began := time.Now()
	check(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err != nil {
		t.Errorf("share ends with %v:\n%s", err, out)
	}
	wantWithin(t, "share has ended", began, 5*time.Second)
}

// ours runs a command of the program's on a machine and returns what it printed
// and its exit status.
func (m *lanMachine) ours(name string, args ...string) (string, int) {
	m.t.Helper()
	cmd := m.host.command("true", append([]string{program(m.t), name, "--config", os.DevNull}, args...)...)
	cmd.Env = plainEnv("GORACE=atexit_sleep_ms=0", "APT_CONFIG="+filepath.Join(m.dir, "apt.conf"), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent")
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// wanFindAndDoctor: the commands tell who has a file, and what is wrong.
func wanFindAndDoctor(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	some := w.only("net-b-05")
	seed := in.seed(some)
	m := in.node()
	m.update()
	m.inDHT()
	for _, what := range []string{hex.EncodeToString(some[0].digest[:]), filepath.Base(some[0].file), poolURL(in.mirror, some[0]), some[0].deb} {
		began := time.Now()
		out, code := m.ours("find", what)
		if code != 0 || !strings.Contains(out, seed.wanAddr()) {
			t.Errorf("find %s: status %d\n%s", what, code, out)
		}
		wantWithin(t, "find has ended", began, 12*time.Second)
	}
	for _, what := range []string{strings.Repeat("ab", 32), "nothing_1.0_all.deb"} {
		if out, code := m.ours("find", what); code != 1 {
			t.Errorf("find %s: status %d\n%s", what, code, out)
		}
	}
	if len(in.mirror.asked(".deb")) > 0 {
		t.Error("find has fetched something")
	}

	flags := append(in.wanFlags(), "--data-dir", m.data, "--apt-etc", filepath.Join(m.dir, "etc"), "--apt-lists", filepath.Join(m.dir, "state/lists"))
	if out, code := m.ours("doctor", flags...); code != 0 || strings.Contains(out, "FAIL") {
		t.Errorf("doctor of a healthy node: status %d\n%s", code, out)
	}
	m.stop()
	if out, code := m.ours("doctor", flags...); code != 1 || !strings.Contains(out, "FAIL") {
		t.Errorf("doctor without a node: status %d\n%s", code, out)
	}
	if out, code := m.ours("find", strings.Repeat("ab", 32)); code == 0 || !strings.Contains(out, "apt-dht serve") {
		t.Errorf("find without a node: status %d\n%s", code, out)
	}
}

// libtorrentScript asks a DHT for the peers of a key with libtorrent (BSD), and
// prints them.
const libtorrentScript = `
import sys, time, libtorrent as lt
listen, node, key = sys.argv[1:]
session = lt.session({'listen_interfaces': listen, 'dht_bootstrap_nodes': node, 'enable_dht': True, 'enable_lsd': False,
    'enable_upnp': False, 'enable_natpmp': False, 'alert_mask': lt.alert.category_t.all_categories})
end = time.time() + 25
while time.time() < end:
    session.dht_get_peers(lt.sha1_hash(bytes.fromhex(key)))
    time.sleep(0.5)
    for alert in session.pop_alerts():
        if isinstance(alert, lt.dht_get_peers_reply_alert) and alert.peers():
            print(alert.peers())
            sys.exit(0)
sys.exit(1)
`

// wanOtherClients: clients of other make see in a DHT of this program's nodes
// what is announced there; and that one of them announces itself for a file does
// not harm those who want it.
func wanOtherClients(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	in.wanHelpers(3)
	entry, _ := in.bootstrap()
	some := w.only("net-b-05", "net-b-08")
	node := func() *lanMachine {
		m := in.site().machine()
		m.serve("--no-mdns", "--dht", "--dht-bootstrap", entry, "--upload-limit", "100MB")
		return m
	}
	seed, other := node(), node()
	seed.update()
	seed.download(namesOf(some)...)
	within(t, announcePatience, "the packages are announced", func() bool { return seed.wanStatus().DHT.Announced >= len(some) })

	h, ip := in.site().host("1")
	script := filepath.Join(t.TempDir(), "find.py")
	writeFile(t, script, []byte(libtorrentScript))
	key := hex.EncodeToString(some[0].digest[:20])
	out, err := h.command("true", "/usr/bin/python3", script, ip+":6881", entry, key).CombinedOutput()
	if want := netip.MustParseAddrPort(seed.wanAddr()); err != nil || !strings.Contains(string(out), fmt.Sprintf("'%s', %d", want.Addr(), want.Port())) {
		t.Errorf("libtorrent: %v: %s", err, out)
	}

	visitor, _ := in.site().host("1")
	visitor.watch(seed.wanAddr())
	visitor.run("true", []string{"HOME=" + t.TempDir()}, "aria2c", "--no-conf", "--enable-dht=true", "--enable-dht6=false", "--dht-listen-port=21000",
		"--listen-port=21000", "--dht-entry-point="+entry, "--dht-file-path="+filepath.Join(t.TempDir(), "dht.dat"), "--dir="+t.TempDir(), "--bt-enable-lpd=false",
		"--seed-time=0", "--file-allocation=none", "magnet:?xt=urn:btih:"+key)
	eventually(t, "aria2 connects to what is announced", func() bool { return visitor.counted()["tcp "+seed.wanAddr()] > 0 })
	other.update()
	other.inDHTOf(3)
	in.mirror.down()
	other.download(namesOf(some)...)
	other.wantPackages(some)
}
