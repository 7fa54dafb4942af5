// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func init() {
	scenarios["Nginx"] = nginx
	scenarios["Debootstrap"] = debootstrap
	scenarios["Mmdebstrap"] = mmdebstrap
	scenarios["AptFile"] = aptFile
	scenarios["MachineArchive"] = machineArchive
}

// nginx: the same against the server that many mirrors run.
func nginx(t *testing.T, w *world) {
	addr := freeAddr(t)
	access := startNginx(t, addr, w.standard.root)
	url := "http://" + addr + "/debian"
	n := startNode(t, nodeConfig{sources: w.source(url)})
	for range 2 {
		c := newClient(t, w.source(url), n.proxied())
		c.update()
		c.download("e2e-everything", "e2e-big")
		c.wantPackages(w.allBut("e2e-new"))
	}
	times := map[string]int{}
	for line := range strings.Lines(string(readFile(t, access))) {
		if uri := strings.TrimSpace(line); !strings.HasSuffix(uri, "/InRelease") {
			times[uri]++
		}
	}
	for uri, count := range times {
		if count != 1 {
			t.Errorf("nginx was asked %d times for %s", count, uri)
		}
	}
	if len(times) < len(w.everything()) {
		t.Errorf("nginx was asked for %d files only", len(times))
	}
}

// startNginx serves a directory and returns the log of what was asked for.
func startNginx(t *testing.T, addr, root string) (access string) {
	t.Helper()
	dir := t.TempDir()
	access = filepath.Join(dir, "access")
	conf := filepath.Join(dir, "nginx.conf")
	writeFile(t, conf, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error;
events {}
http {
	log_format uri '$request_uri'; access_log %[2]s uri; sendfile on; tcp_nopush on; default_type application/octet-stream;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server { listen %[3]s; root %[4]s; }
}`, dir, access, addr, root))
	cmd := exec.Command("nginx", "-p", dir, "-c", conf)
	var out output
	cmd.Env, cmd.Stdout, cmd.Stderr = plainEnv(), &out, &out
	// It changes to no other user: it may read the test's directories.
	check(t, startProcess(t, cmd))
	eventually(t, "nginx listens", func() bool {
		info, err := os.Stat(filepath.Join(dir, "pid"))
		return err == nil && info.Size() > 0
	})
	return access
}

// startProcess starts a process that is killed when the test ends.
func startProcess(t *testing.T, cmd *exec.Cmd) error {
	err := cmd.Start()
	if err == nil {
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
	}
	return err
}

// tool runs another client of archives, which must end well, and returns what it printed.
func (c *client) tool(name string, args ...string) string {
	c.t.Helper()
	out, err := c.start(name, args...).wait()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}

// tinySuite is a debootstrap script for a system of two packages.
const tinySuite = `mirror_style release
download_style apt
finddebs_style from-indices
variants -
work_out_debs() { required="hello e2e-plus++ e2e-big"; }
first_stage_install() { :; }
second_stage_install() { :; }
`

// debootstrap fetches with wget, one file after the other.
func debootstrap(t *testing.T, w *world) {
	needRoot(t)
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	for _, machine := range []string{"cold", "warm"} {
		c := newClient(t, nil)
		script, target := filepath.Join(c.dir, "tiny"), filepath.Join(c.dir, "target")
		writeFile(t, script, []byte(tinySuite))
		c.tool("env", "http_proxy="+n.url(), "debootstrap", "--download-only", "--arch=amd64", "--keyring="+w.key.keyring,
			"stable", target, m.url(), script)
		wantSameFiles(t, filepath.Join(target, "var/cache/apt/archives"), w.only("hello", "e2e-plus++", "e2e-big"))
		if machine == "warm" {
			m.wantOnlyRoots()
		}
		m.wantOnce()
		m.forget()
	}
}

// wantSameFiles fails the test unless the packages in dir are these, byte for byte.
func wantSameFiles(t *testing.T, dir string, want []builtPackage) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	check(t, err)
	if len(paths) != len(want) {
		t.Errorf("%s holds %d packages, want %d", dir, len(paths), len(want))
	}
	for _, path := range paths {
		digest, _ := digestOf(t, path)
		if !slices.ContainsFunc(want, func(p builtPackage) bool { return p.digest == digest }) {
			t.Errorf("%s has wrong bytes", filepath.Base(path))
		}
	}
}

// mmdebstrap lets apt fetch, and unpacks what it brought.
func mmdebstrap(t *testing.T, w *world) {
	needRoot(t)
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, nil)
	target := filepath.Join(c.dir, "target")
	c.tool("env", "-u", "APT_CONFIG", "mmdebstrap", "--mode=root", "--variant=extract", "--architectures=amd64", "--include=hello,e2e-plus++,e2e-big",
		"--aptopt="+strings.TrimSuffix(n.proxied(), ";"), "--skip=check/empty", "stable", target, w.source(m.url())[0])
	for _, name := range []string{"hello", "e2e-plus++", "e2e-big"} {
		want := randomBytes(w.packages[name].size, name)
		if !bytes.Equal(readFile(t, filepath.Join(target, "usr/share/e2e", name)), want) {
			t.Errorf("%s has wrong bytes", name)
		}
	}
	m.wantOnce()
}

// aptFile has apt fetch the Contents indexes, which name no files by hash.
func aptFile(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	for _, machine := range []string{"cold", "warm"} {
		c := newClient(t, w.source(m.url()), n.proxied(), string(readFile(t, "/etc/apt/apt.conf.d/50apt-file.conf")))
		c.tool("apt-file", "update")
		if out := c.tool("apt-file", "search", "/usr/share/e2e/hello"); out != "hello: /usr/share/e2e/hello\n" {
			t.Errorf("apt-file found %q", out)
		}
		if machine == "warm" {
			m.wantOnlyRoots()
		}
		m.wantOnce()
		m.forget()
	}
}

// archiveRoot is an InRelease file of Debian's or Ubuntu's in what `apt-get
// update --print-uris` prints.
var archiveRoot = regexp.MustCompile(`'(http://[^']*/(debian|ubuntu))/dists/([^']+)/InRelease'`)

// machineSource is the first of this machine's own sources that is Debian's or
// Ubuntu's archive, if it answers.
func machineSource(t *testing.T) (line string, ok bool) {
	t.Helper()
	lists := t.TempDir() // empty: all are printed
	out, err := exec.Command("apt-get", "-o", "Dir::State::lists="+lists, "update", "--print-uris").Output()
	found := archiveRoot.FindSubmatch(out)
	if err != nil || found == nil {
		return "", false
	}
	url, distribution, suite := string(found[1]), string(found[2]), string(found[3])
	probe := exec.Command("curl", "-fsS", "--max-time", "10", "-o", os.DevNull, url+"/dists/"+suite+"/InRelease")
	if err := probe.Run(); err != nil {
		return "", false
	}
	return fmt.Sprintf("deb [signed-by=/usr/share/keyrings/%s-archive-keyring.gpg] %s %s main", distribution, url, suite), true
}

// machineArchive: the archive that this machine itself uses.
func machineArchive(t *testing.T, w *world) {
	packages := []string{"dash", "sed", "tzdata"}
	source, ok := machineSource(t)
	var env []string
	if ok {
		for _, name := range []string{"http_proxy", "no_proxy"} {
			env = append(env, name+"="+os.Getenv(name))
		}
	} else {
		t.Log("no archive of this machine's sources can be reached; the made repository stands in")
		source, packages = w.source(newMirror(t, w.standard).url())[0], []string{"hello", "e2e-epoch", "e2e-big"}
	}
	n := startNode(t, nodeConfig{sources: []string{source}, env: env})
	for range 2 {
		// An archive frozen in time may be all that there is.
		c := newClient(t, []string{source}, n.proxied(), `Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false"; Acquire::Retries "3";`)
		c.update()
		c.must(append([]string{"download"}, packages...)...) // apt checks them
	}
	s := n.status()
	t.Logf("%s: %+v", source, s)
	if s.Store.Blobs < len(packages)+2 {
		t.Errorf("%d files are stored, want at least a root file, an index and %d packages", s.Store.Blobs, len(packages))
	}
}
