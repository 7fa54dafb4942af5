// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func init() {
	lanScenarios["Detect"] = lanDetect
	lanScenarios["DetectTells"] = lanDetectTells
	lanScenarios["StockConsumers"] = lanStockConsumers
}

// publicAddr is where the site's mirror is on the internet (RFC 5737): what is
// at private addresses is not for other machines' proxies.
const publicAddr = "198.51.100.10"

// publicMirror starts a mirror there, with TLS unless conf is nil.
func (s *lanSite) publicMirror(port string, conf *tls.Config) *mirror {
	s.t.Helper()
	ipBatch(s.t, s.origin.name, "addr replace "+publicAddr+"/32 dev lo")
	ipBatch(s.t, s.gateway.name, "route replace "+publicAddr+"/32 via "+originAddr)
	m := &mirror{t: s.t, archive: s.w.standard, tls: conf}
	s.t.Cleanup(m.cleanup)
	m.serve(s.origin.listen(publicAddr + ":" + port))
	return m
}

// detecting has the machine's apt ask apt-dht for the proxy, as the file of
// packaging does, and returns the program that it runs.
func (m *lanMachine) detecting(conf ...string) (program string) {
	m.t.Helper()
	exe, err := os.Executable()
	check(m.t, err)
	dir := m.t.TempDir()
	check(m.t, os.Symlink(exe, filepath.Join(dir, "apt-dht")))
	check(m.t, os.Mkdir(filepath.Join(dir, "run"), 0o700))
	bus := m.bus
	if bus == "" {
		bus = "unix:path=/nonexistent"
	}
	program = filepath.Join(dir, "detect")
	script := strings.ReplaceAll(string(readFile(m.t, "../../packaging/detect")), "/usr/bin/apt-dht",
		fmt.Sprintf("env XDG_RUNTIME_DIR=%[1]s/run DBUS_SYSTEM_BUS_ADDRESS=%s APT_DHT_CONFIG=/dev/null GORACE=atexit_sleep_ms=0 %[1]s/apt-dht", dir, bus))
	writeFile(m.t, program, []byte(script))
	check(m.t, os.Chmod(program, 0o755))
	file := string(readFile(m.t, "../../packaging/apt.conf.d/30apt-dht-detect"))
	m.configure(append(conf, strings.ReplaceAll(file, "/usr/lib/apt-dht/detect", program))...)
	return program
}

// forgetProxies removes what the program keeps for the next time.
func forgetProxies(t *testing.T, program string) {
	t.Helper()
	check(t, os.RemoveAll(filepath.Join(filepath.Dir(program), "run/apt-dht-detect")))
}

// detect runs that program as apt does, for the first time.
func (m *lanMachine) detect(program, url string) string {
	m.t.Helper()
	forgetProxies(m.t, program)
	start := time.Now()
	out, err := m.host.command("true", program, url).Output()
	m.t.Logf("detect %s: %q after %v", url, out, time.Since(start).Round(time.Millisecond))
	if err != nil || strings.Count(string(out), "\n") != 1 {
		m.t.Errorf("detect %s: %q, %v", url, out, err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// wantThrough fetches everything with the machine's apt until it does so
// through the proxy, or without: where many tests run at a time, a proxy may
// be too slow to be noticed.
func (m *lanMachine) wantThrough(w *world, program string, mirror *mirror, proxied bool) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("apt uses a proxy: %v", proxied), func() bool {
		forgetProxies(m.t, program)
		mirror.forget()
		m.update()
		m.clean()
		m.download("e2e-everything")
		m.wantPackages(w.everything())
		return !slices.ContainsFunc(mirror.asked(""), func(r *request) bool { return (r.via != "") != proxied })
	})
}

func (m *lanMachine) clean() {
	m.t.Helper()
	m.must("clean")
}

// lanDetect: a machine without a node of its own finds the office's proxy, for
// http and for https, and goes to the mirror itself when the proxy is gone.
func lanDetect(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	mirror := s.publicMirror("80", nil)
	conf, ca := selfSigned(t, publicAddr)
	secure := s.publicMirror("443", conf)
	office := s.machine()
	office.serve("--allow", "lan")

	plain := newLANMachine(t, s.segment, siteNet+"101", siteGateway, w.source("http://"+publicAddr+"/debian"))
	byHTTP := plain.detecting()
	plain.wantThrough(w, byHTTP, mirror, true)
	tunnelled := newLANMachine(t, s.segment, siteNet+"102", siteGateway, w.source("https://"+publicAddr+"/debian"))
	tunnelled.startAvahi()
	byHTTPS := tunnelled.detecting(`Acquire::https::CAInfo "` + ca + `";`)
	eventually(t, "the proxy is found for https", func() bool {
		return tunnelled.detect(byHTTPS, "https://"+publicAddr+"/debian") == office.url("")
	})
	tunnelled.update()
	if len(secure.asked("InRelease")) == 0 {
		t.Error("the secure mirror was not asked")
	}

	office.stop()
	plain.wantThrough(w, byHTTP, mirror, false)
	tunnelled.update()
	office.serveAgain()
	plain.wantThrough(w, byHTTP, mirror, true)
}

// lanDetectTells: what it says with a node on the machine, for repositories
// that are not for others, and where the proxy is not for this machine.
func lanDetectTells(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	s.publicMirror("80", nil)
	m, office := s.machine(), s.machine()
	program := m.detecting()
	const url = "http://" + publicAddr + "/debian/dists/stable/InRelease"
	want := func(url, answer string) {
		t.Helper()
		eventually(t, fmt.Sprintf("for %s it says %s", url, answer), func() bool { return m.detect(program, url) == answer })
	}
	want(url, "DIRECT")
	office.serve("--allow", office.ip) // announced, but not for this machine
	want(url, "DIRECT")
	office.stop()
	office.serve("--allow", "lan")
	want(url, office.url(""))
	for _, other := range []string{"http://localhost/x", "http://" + originAddr + "/x", "ftp://" + publicAddr + "/x", "nonsense"} {
		want(other, "DIRECT")
	}
	m.serve()
	want(url, "http://127.0.0.1:"+lanPort)
	want("https://"+publicAddr+":8443/x", "DIRECT") // no node tunnels there
	m.pause()
	want(url, office.url(""))
	m.resume()
	want(url, "http://127.0.0.1:"+lanPort)
}

// lanStockConsumers: the programs that Debian has for finding a proxy find ours.
func lanStockConsumers(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	office := s.machine()
	office.serve("--allow", "lan", "--listen", ":"+lanPort, "--listen", ":3142")
	// auto-apt-proxy 14 looks for port 3142 of the gateway.
	client := newLANMachine(t, s.segment, siteNet+"101", office.ip, nil)
	client.startAvahi()

	eventually(t, "auto-apt-proxy of version 17 and later finds the proxy in avahi-browse's first line", func() bool {
		first := client.browse("--terminate", "--no-db-lookup", "--resolve", "--parsable", "_apt_proxy._tcp")
		return len(first) > 0 && first[0] == office.ip+" "+lanPort
	})
	if all := client.browse("-kprtf", "_apt_proxy._tcp"); !slices.Contains(all, office.ip+" "+lanPort) {
		t.Errorf("squid-deb-proxy-client finds %q", all)
	}
	if _, body, err := client.request("GET", office.url("/"), nil, ""); err != nil || !strings.Contains(body, "apt-dht") {
		t.Errorf("where it finds the proxy: %q, %v", body, err)
	}

	dir := t.TempDir()
	cmd := command(dir, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "auto-apt-proxy")
	cmd.Env = os.Environ() // this machine's own way to its mirror
	runCommand(t, cmd)
	packages, err := filepath.Glob(filepath.Join(dir, "auto-apt-proxy_*.deb"))
	check(t, err)
	runCommand(t, command(dir, "dpkg", "-x", packages[0], "x"))
	cmd = client.host.command("mount --bind /dev/null /etc/resolv.conf", filepath.Join(dir, "x/usr/bin/auto-apt-proxy"))
	cmd.Env = plainEnv("AUTO_APT_PROXY_NO_CACHE=1", "TMPDIR="+dir, "DBUS_SYSTEM_BUS_ADDRESS="+client.bus)
	found := strings.TrimSpace(runCommand(t, cmd))
	if found != "http://"+office.ip+":3142" && found != office.url("") {
		t.Errorf("auto-apt-proxy finds %q", found)
	}

	office.stop()
	eventually(t, "avahi-browse lists the proxy no more", func() bool {
		return len(client.browse("-kprtf", "_apt_proxy._tcp")) == 0
	})
}

// resolved matches avahi-browse's line of a service that it resolved.
var resolved = regexp.MustCompile(`(?m)^=;(?:[^;]*;){5}([^;]*);([^;]*);(\d+);`)

// browse runs avahi-browse and returns the addresses and ports that it
// resolved, but for the machine's own: its avahi-daemon announces what the
// testing machine's does.
func (m *lanMachine) browse(args ...string) (found []string) {
	m.t.Helper()
	cmd := m.host.command("true", append([]string{"timeout", "5", "avahi-browse"}, args...)...)
	cmd.Env = plainEnv("DBUS_SYSTEM_BUS_ADDRESS=" + m.bus)
	for _, line := range resolved.FindAllStringSubmatch(runCommand(m.t, cmd), -1) {
		if line[1] != m.host.name+".local" {
			found = append(found, line[2]+" "+line[3])
		}
	}
	return found
}
