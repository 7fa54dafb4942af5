// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"apt-dht/index/trust"
	"apt-dht/proxy"
	"apt-dht/proxy/lan"
)

// newDoctor is one for a node that listens at :9977, with the settings that change
// makes.
func newDoctor(t *testing.T, change func(*settings)) *doctor {
	t.Helper()
	s := settings{listenSettings: listenSettings{Listen: []listenAddr{{":9977"}}}}
	s.DataDir = t.TempDir()
	s.AptEtc, s.AptLists = t.TempDir(), t.TempDir()
	if change != nil {
		change(&s)
	}
	cfg, err := s.config()
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	close(asked)
	return &doctor{cfg: cfg, settings: s, asked: asked, ask: func(context.Context, internetConfig, string) []bootstrapTry {
		t.Error("nodes of the DHT are asked")
		return nil
	}}
}

// want fails the test unless there is a finding of that grade that says all of it.
func want(t *testing.T, what string, got []finding, g grade, parts ...string) {
	t.Helper()
	for _, f := range got {
		line := f.What + ": " + f.Found + " – " + f.ToDo
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(line, part)
		}
		if f.Grade == g && !missing {
			return
		}
	}
	t.Errorf("%s: got %+v, want %s with %q", what, got, g, parts)
}

// A check that hangs is told of, and holds up nothing.
func TestCheckInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		began := time.Now()
		got := check{"disk", func(context.Context) []finding { <-hang; return nil }}.inTime(t.Context())
		want(t, "one that hangs", got, fail, "disk: could not be looked at within 12s")
		if took := time.Since(began); took != lateAfter {
			t.Errorf("it took %s", took)
		}
		got = check{"slow", func(ctx context.Context) []finding { <-ctx.Done(); return one(good, "slow", "cut off", "") }}.inTime(t.Context())
		want(t, "one that minds its time", got, good, "cut off")
	})
}

func TestCheckProxy(t *testing.T) {
	t.Setenv("http_proxy", "")
	conf := func(pairs ...string) aptConfig {
		c := aptConfig{}
		for i := 0; i < len(pairs); i += 2 {
			c[strings.ToLower(pairs[i])] = []string{pairs[i+1]}
		}
		return c
	}
	plain := newDoctor(t, nil)
	office := newDoctor(t, func(s *settings) { s.Allow = []clientRule{{lan: true}} })
	for name, tt := range map[string]struct {
		d    *doctor
		conf aptConfig
		g    grade
		part string
	}{
		"this node":         {plain, conf("Acquire::http::Proxy", "http://127.0.0.1:9977"), good, "this node"},
		"by name":           {plain, conf("Acquire::HTTP::Proxy", "http://localhost:9977/"), good, "this node"},
		"over IPv6":         {plain, conf("Acquire::http::Proxy", "http://[::1]:9977"), good, "this node"},
		"another port":      {plain, conf("Acquire::http::Proxy", "http://127.0.0.1:3142"), warn, "which is not the node at :9977"},
		"another machine":   {plain, conf("Acquire::http::Proxy", "http://192.0.2.1:9977"), warn, "which is not the node"},
		"but for one host":  {plain, conf("Acquire::http::Proxy", "http://127.0.0.1:9977", "Acquire::http::Proxy::deb.example", "DIRECT"), warn, "deb.example DIRECT"},
		"none":              {plain, conf(), fail, `put Acquire::http::Proxy "http://127.0.0.1:9977"`},
		"none, in words":    {plain, conf("Acquire::http::Proxy", "DIRECT"), fail, "does not use the node"},
		"none, in a office": {office, conf(), warn, "does not use the node"},
		"our detect":        {plain, conf("Acquire::http::Proxy-Auto-Detect", "/usr/lib/apt-dht/detect"), good, "found by"},
		"another detect":    {plain, conf("Acquire::http::ProxyAutoDetect", "/usr/bin/auto-apt-proxy"), warn, "auto-apt-proxy"},
	} {
		want(t, name, []finding{tt.d.checkProxy(tt.conf)}, tt.g, tt.part)
	}
	t.Setenv("http_proxy", "http://proxy.example:3128")
	want(t, "the environment's", []finding{plain.checkProxy(conf())}, warn, "http_proxy of the environment is http://proxy.example:3128")
}

// A source that names the node before the mirror needs no proxy.
func TestCheckProxyPrefix(t *testing.T) {
	d := newDoctor(t, nil)
	line := "deb http://localhost:9977/deb.example/debian stable main\n"
	if err := os.WriteFile(filepath.Join(d.cfg.AptEtc, "sources.list"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	d.etc, _ = trust.Load(trust.Config{EtcDir: d.cfg.AptEtc})
	want(t, "a prefix", []finding{d.checkProxy(aptConfig{})}, good, "sources name this node")
	if at, _ := d.firstRelease(); at != "http://deb.example/debian/dists/stable/InRelease" {
		t.Errorf("through the node %s is asked for", at)
	}
}

func TestFirstRelease(t *testing.T) {
	for line, want := range map[string]string{
		"deb http://a.example/debian/ stable main":          "http://a.example/debian/dists/stable/InRelease",
		"deb http://a.example stable/updates main":          "http://a.example/dists/stable/updates/InRelease",
		"deb http://a.example/flat ./":                      "http://a.example/flat/InRelease",
		"deb http://a.example/flat sub/":                    "http://a.example/flat/sub/InRelease",
		"deb https://a.example/debian stable main":          "",
		"deb http://me:secret@a.example/debian stable main": "",
		"deb file:/srv/debian stable main":                  "",
	} {
		etc := t.TempDir()
		if err := os.WriteFile(filepath.Join(etc, "sources.list"), []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		apt, err := trust.Load(trust.Config{EtcDir: etc})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := (&doctor{etc: apt}).firstRelease(); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestCheckSources(t *testing.T) {
	d := newDoctor(t, nil)
	want(t, "unreadable", d.checkSources(t.Context()), warn, "cannot be read")
	list := filepath.Join(d.cfg.AptEtc, "sources.list")
	load := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		d.etc, _ = trust.Load(trust.Config{EtcDir: d.cfg.AptEtc})
	}
	for text, grade := range map[string]grade{
		"": warn,
		"deb http://a.example/debian stable main":           good,
		"deb http://HTTPS///a.example/x y main":             good,
		"deb https://a.example/debian stable main":          warn,
		"deb http://localhost:9977/HTTPS///a.example/x y z": good,
	} {
		load(list, "# none\n"+text+"\n")
		want(t, text, d.checkSources(t.Context()), grade)
	}
	load(list, "")
	want(t, "nothing to fetch", d.checkSources(t.Context()), warn, "none in ", "apt has nothing to fetch; is --apt-etc right?")
	want(t, "nothing to try", d.checkMirror(t.Context()), warn, "no http source to try")
	load(list, "deb http://me:secret@a.example/debian stable main\n")
	want(t, "a password", d.checkMirror(t.Context()), warn, "sources have passwords in their lines")
	dir := filepath.Join(d.cfg.AptEtc, "sources.list.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	load(list, "")
	load(filepath.Join(dir, "b.sources"), "Types: deb\nURIs: http://HTTPS///b.example/\nSuites: x\nComponents: main\n\n"+
		"Types: deb\nURIs: https://c.example/\nSuites: x\nComponents: main\n")
	want(t, "stanzas", d.checkSources(t.Context()), warn, "1 of 2 repositories are https, which is only passed through: https://c.example/ –")
}

func TestCheckPipeline(t *testing.T) {
	for _, tt := range []struct {
		depth, most string
		g           grade
		part        string
	}{
		{"200", "200", good, "200 files"}, {"200", "", warn, "10 files"}, {"", "200", warn, "10 files"}, {"0", "200", warn, "0 files"}, {"many", "many", warn, "10 files"},
	} {
		conf := aptConfig{"acquire::http::pipeline-depth": {tt.depth}, "acquire::max-pipeline-depth": {tt.most}}
		want(t, tt.depth+","+tt.most, checkPipeline(conf), tt.g, tt.part)
	}
}

func TestCheckLAN(t *testing.T) {
	d := newDoctor(t, func(s *settings) { s.LANPeer = []peerAddr{{"10.0.0.7"}} })
	want(t, "no node", d.checkLAN(t.Context()), warn, "not known without a node")
	d.node = &proxy.Status{UptimeS: 3600}
	want(t, "nobody", d.checkLAN(t.Context()), warn, "no other node found", "UDP 5353", "--lan-peer")
	d.node.LAN.Mode = proxy.ModeOff
	want(t, "no part in it", d.checkLAN(t.Context()), warn, "the node has no part in it", "--mdns=false")
	d.node.LAN.Mode = proxy.ModeOn
	d.node.UptimeS = 5
	want(t, "just started", d.checkLAN(t.Context()), warn, "look again in a minute")
	at := netip.MustParseAddrPort("10.0.0.7:9977")
	d.node.LAN.Peers = []lan.PeerStatus{{Addr: at, Alive: true}}
	want(t, "one", d.checkLAN(t.Context()), good, "other nodes: 1")
	d.node.LAN.Peers = append(d.node.LAN.Peers, lan.PeerStatus{Addr: at}, lan.PeerStatus{Addr: at, Alive: true, Liar: "it lied"})
	want(t, "bad ones", d.checkLAN(t.Context()), warn, "other nodes: 3; 10.0.0.7:9977, does not answer; 10.0.0.7:9977, set aside: it lied")
}

func TestCheckListen(t *testing.T) {
	listen := func(addrs ...string) func(*settings) {
		return func(s *settings) {
			s.Listen, s.MDNS = nil, true
			for _, a := range addrs {
				s.Listen = append(s.Listen, listenAddr{a})
			}
		}
	}
	want(t, "all addresses", newDoctor(t, listen(":9977")).checkListen(t.Context()), good, "for this machine and others")
	want(t, "one of two", newDoctor(t, listen("127.0.0.1:1", "192.0.2.1:1")).checkListen(t.Context()), good, "for this machine and others")
	want(t, "loopback", newDoctor(t, listen("localhost:1", "[::1]:1")).checkListen(t.Context()), warn, "no part in the local network")
}

func TestCheckClock(t *testing.T) {
	d := newDoctor(t, nil)
	write := func(name, fields string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(d.cfg.AptLists, name), []byte("Origin: x\n"+fields), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	date := func(in time.Duration) string { return time.Now().Add(in).UTC().Format(time.RFC1123) }
	want(t, "no list", d.checkClock(t.Context()), good, "nothing to compare it with")
	write("a_InRelease", "Date: "+date(-time.Hour)+"\nValid-Until: "+date(time.Hour)+"\n")
	write("b_Release", "Date: nonsense\n")
	want(t, "a good one", d.checkClock(t.Context()), good, "fits the dates of 1 lists")
	write("c_InRelease", "Date: "+date(-48*time.Hour)+"\nValid-Until: "+date(-time.Hour)+"\n")
	want(t, "an old one", d.checkClock(t.Context()), warn, "1 of 2 lists have expired, such as c_InRelease", "apt-get update")
	write("d_InRelease", "Date: "+date(time.Hour)+"\n")
	want(t, "one of the future", d.checkClock(t.Context()), fail, "d_InRelease is of", "timedatectl")
}

func TestAnsweredBy(t *testing.T) {
	answer := &http.Response{Header: http.Header{}}
	if got := answeredBy(answer); got != "said by the node itself" {
		t.Errorf("an error of the node is %s", got)
	}
	answer.Header.Set("X-Apt-Dht-Source", "mirror")
	if got := answeredBy(answer); got != "from mirror" {
		t.Errorf("the mirror's answer is %s", got)
	}
}

func TestClockBy(t *testing.T) {
	answer := func(in time.Duration) *http.Response {
		return &http.Response{Header: http.Header{"Date": {time.Now().Add(in).UTC().Format(http.TimeFormat)}}}
	}
	if f := clockBy(answer(time.Minute)); f != nil {
		t.Errorf("got %+v", f)
	}
	want(t, "an hour", clockBy(answer(-time.Hour)), warn, "is 1h0m", "apart")
}

// On FUSE, the block that is best to read is larger than the one in which the disk counts.
func TestRoom(t *testing.T) {
	d := newDoctor(t, nil)
	disk := &unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096, Blocks: 1e9, Bavail: 1e6}
	want(t, "a disk on FUSE", []finding{d.room(t.Context(), "there", disk)}, warn, "4.1 GB free at there")
}

func TestCheckData(t *testing.T) {
	d := newDoctor(t, func(s *settings) { s.Quota.bytes = 1 << 60 })
	want(t, "the directory", d.checkData(t.Context()), good, "can be written to")
	want(t, "a quota beyond the disk", d.checkData(t.Context()), warn, "it cannot grow so far")
	d.node = &proxy.Status{Store: proxy.StoreStatus{Bytes: 1 << 60, Quota: 1 << 60}}
	want(t, "a full store", d.checkData(t.Context()), good, "the store has 1.2 EB")
	if err := os.Chmod(d.cfg.DataDir, 0o500); err != nil {
		t.Fatal(err)
	}
	want(t, "no right", d.checkData(t.Context()), fail, "may not be written to by its owner")
	d.cfg.DataDir += "/none/at all"
	want(t, "not that of the node", d.checkData(t.Context()), warn, "does not exist: the node keeps its files elsewhere", "--data-dir")
	d.node = nil
	want(t, "it cannot be made", d.checkData(t.Context()), fail, "/none/at all cannot be made", "may not be written to by its owner")
	d.cfg.DataDir = t.TempDir() + "/none/at all"
	want(t, "no directory", d.checkData(t.Context()), warn, "does not exist yet")
}
