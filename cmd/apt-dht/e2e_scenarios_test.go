// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// scenarios are the end-to-end tests: real clients, a real node, and mirrors
// that behave as told. Each has nodes, mirrors and directories of its own, so
// all may run at the same time.
var scenarios = map[string]func(t *testing.T, w *world){}

// world is what the scenarios share: packages and keys are only read.
type world struct {
	packages map[string]builtPackage
	sources  string // directory with a source package's files
	key      *signingKey
	standard *archive // every package, and what Debian's own archive has
}

// TestEndToEnd runs every scenario. `go test -run TestEndToEnd/NAME` runs one.
func TestEndToEnd(t *testing.T) {
	w := newWorld(t)
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(t, w)
		})
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{key: newSigningKey(t)}
	dir := t.TempDir()
	w.packages = buildPackages(t, dir, catalogue)
	w.sources = buildSource(t, dir)
	w.standard = w.publish(t, w.allBut("e2e-new"), suite{})
	return w
}

// runCommand runs a tool of .ci/packages and returns what it printed.
func runCommand(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if cmd.Env == nil {
		cmd.Env = plainEnv()
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s(the tools that the tests need are in .ci/packages)", cmd.Args, err, out, stderr.String())
	}
	return string(out)
}

func command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return cmd
}

// plainEnv is an environment without this machine's proxies and language.
func plainEnv(more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + os.TempDir(), "DEBIAN_FRONTEND=noninteractive",
	}, more...)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long a test waits for what takes milliseconds on an idle machine.
const patience = 30 * time.Second

// eventually waits until what is asked for is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// needRoot says how to run a test that makes mounts, namespaces or a chroot.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: `make test` runs the tests through sudo")
	}
}
