// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// client is a machine's apt, with directories of its own.
type client struct {
	t   testing.TB
	dir string
}

// newClient makes a machine with nothing installed. Unless conf says
// otherwise its apt does not try anything twice: what fails shows.
func newClient(t testing.TB, sources []string, conf ...string) *client {
	t.Helper()
	c := &client{t, t.TempDir()}
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "etc/trusted.gpg.d", "log"} {
		check(t, os.MkdirAll(filepath.Join(c.dir, dir), 0o755))
	}
	writeFile(t, filepath.Join(c.dir, "status"), nil)
	writeFile(t, filepath.Join(c.dir, "etc/sources.list"), []byte(strings.Join(sources, "\n")+"\n"))
	c.configure(conf...)
	return c
}

// configure writes the machine's apt.conf anew.
func (c *client) configure(conf ...string) {
	c.t.Helper()
	writeFile(c.t, filepath.Join(c.dir, "apt.conf"), fmt.Appendf(nil, `Dir::State "%[1]s/state"; Dir::State::status "%[1]s/status"; Dir::Cache "%[1]s/cache"; Dir::Etc "%[1]s/etc"; Dir::Log "%[1]s/log";
APT::Sandbox::User "root"; APT::Architecture "amd64"; APT::Architectures { "amd64"; };
Acquire::Languages "none"; Acquire::Retries "0"; Acquire::Check-Valid-Until "true";
%[2]s
`, c.dir, strings.Join(conf, "\n")))
}

// source is the lines of sources.list for the made repository at a URL.
func (w *world) source(url string) []string {
	return []string{
		fmt.Sprintf("deb [signed-by=%s] %s stable main", w.key.armored, url),
		fmt.Sprintf("deb-src [signed-by=%s] %s stable main", w.key.armored, url),
	}
}

// command prepares an apt tool.
func (c *client) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	cmd.Env = plainEnv("APT_CONFIG=" + filepath.Join(c.dir, "apt.conf"))
	// apt's methods are in its group, to be ended with it, also by a time-out.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// running is an apt that has been started.
type running struct {
	c    *client
	cmd  *exec.Cmd
	out  output
	done chan error
}

func (c *client) start(name string, args ...string) *running {
	c.t.Helper()
	r := &running{c: c, cmd: c.command(name, args...), done: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	check(c.t, r.cmd.Start())
	go func() { r.done <- r.cmd.Wait() }()
	c.t.Cleanup(r.kill)
	return r
}

// kill ends the whole process group at once.
func (r *running) kill() {
	if err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL); err == nil {
		r.wait()
	}
}

// aptPatience is more than apt's own time-outs and retries add up to.
const aptPatience = 2 * time.Minute

// wait returns what the tool printed and how it ended.
func (r *running) wait() (string, error) {
	r.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), aptPatience)
	defer cancel()
	select {
	case err := <-r.done:
		r.done <- err // for the next who asks
		return r.out.String(), err
	case <-ctx.Done():
		r.c.t.Errorf("%v did not end within %v:\n%s", r.cmd.Args, aptPatience, &r.out)
		syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		return r.out.String(), ctx.Err()
	}
}

// apt runs apt-get.
func (c *client) apt(args ...string) (string, error) {
	c.t.Helper()
	return c.start("apt-get", append([]string{"-qy"}, args...)...).wait()
}

// complaint is a line in which apt warns, fails or gives up on something, but
// for an InRelease that a repository need not have.
var complaint = regexp.MustCompile(`(?m)^((W|E|Err:\d+)[: ].*|Ign:.*([^e]|[^s]e)$)`)

// must runs apt-get, which must neither fail nor complain.
func (c *client) must(args ...string) {
	c.t.Helper()
	out, err := c.apt(args...)
	c.wantFine(args, out, err)
}

func (c *client) wantFine(args any, out string, err error) {
	c.t.Helper()
	if found := complaint.FindString(out); err != nil || found != "" {
		c.t.Fatalf("apt-get %v: %v\n%s", args, err, out)
	}
}

// mustFail runs apt-get, which must fail and say why.
func (c *client) mustFail(why string, args ...string) {
	c.t.Helper()
	out, err := c.apt(args...)
	// "apt-get update" ends well when an old list is left to use.
	if found := complaint.FindString(out); err == nil && found == "" {
		c.t.Fatalf("apt-get %v does not fail:\n%s", args, out)
	}
	if !strings.Contains(out, why) {
		c.t.Fatalf("apt-get %v does not say %q:\n%s", args, why, out)
	}
}

func (c *client) update() {
	c.t.Helper()
	c.must("update")
}

// download gets packages and what they depend on.
func (c *client) download(names ...string) {
	c.t.Helper()
	c.must(append([]string{"install", "--download-only"}, names...)...)
}

// everything is what "e2e-everything" depends on, itself included.
func (w *world) everything() []builtPackage { return w.allBut("e2e-new", "e2e-big") }

// wantPackages fails the test unless the client has exactly those files, byte for byte.
func (c *client) wantPackages(want []builtPackage) {
	c.t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.dir, "cache/archives/*.deb"))
	check(c.t, err)
	got := map[[32]byte]string{}
	for _, path := range paths {
		digest, _ := digestOf(c.t, path)
		got[digest] = path
	}
	for _, p := range want {
		if _, ok := got[p.digest]; !ok {
			c.t.Errorf("%s is missing, or has wrong bytes", p.file)
		}
		delete(got, p.digest)
	}
	for _, path := range got {
		c.t.Errorf("%s is not one of the packages", filepath.Base(path))
	}
}

// partial is the file that apt keeps of an unfinished download.
func (c *client) partial(p builtPackage) string {
	return filepath.Join(c.dir, "cache/archives/partial", filepath.Base(p.file))
}

// clean removes what was downloaded.
func (c *client) clean() {
	c.t.Helper()
	c.must("clean")
}

// lists are the verified lists that apt has, by name, without its lock.
func (c *client) lists() map[string]string {
	c.t.Helper()
	lists := map[string]string{}
	entries, err := os.ReadDir(filepath.Join(c.dir, "state/lists"))
	check(c.t, err)
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != "lock" {
			lists[e.Name()] = string(readFile(c.t, filepath.Join(c.dir, "state/lists", e.Name())))
		}
	}
	return lists
}

// list is the one list whose name ends so, uncompressed.
func (c *client) list(suffix string) string {
	c.t.Helper()
	for name, body := range c.lists() {
		if strings.HasSuffix(name, suffix) {
			return body
		}
	}
	c.t.Fatalf("apt has no list %s", suffix)
	return ""
}

// prefixed is the URL of a mirror's file through the node, in the form that
// needs no proxy setting.
func (n *node) prefixed(mirrorURL string) string {
	u, err := url.Parse(mirrorURL)
	check(n.t, err)
	return n.url() + "/" + u.Host + u.Path
}
