// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// dial fails the test unless something accepts at l's port on host.
func dial(t *testing.T, l net.Listener, host string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Error(err)
		return
	}
	conn.Close()
}

func TestListenersOpen(t *testing.T) {
	opened, err := listeners(t.Context(), []string{":0", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(opened)
	dial(t, opened[0], "127.0.0.1")
	dial(t, opened[0], "::1")
	dial(t, opened[1], "127.0.0.1")
}

func TestListenersTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()

	_, err = listeners(t.Context(), []string{free.Addr().String(), taken.Addr().String()})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{taken.Addr().String(), "this node itself", "--listen"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the first address is left open: %v", err)
	}
	again.Close()
}

func TestListenersNotOurAddress(t *testing.T) {
	_, err := listeners(t.Context(), []string{"192.0.2.1:9977"}) // TEST-NET-1, RFC 5737
	if err == nil || !strings.Contains(err.Error(), "does not have that address") {
		t.Errorf("got %v", err)
	}
}

// activate starts this test binary anew with the sockets passed as systemd
// passes them and returns what `listen` printed.
func activate(t *testing.T, files ...*os.File) string {
	t.Helper()
	// LISTEN_PID must be the child's own, which only the child can know.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "APT_DHT_TEST_LISTEN=1", "GORACE=atexit_sleep_ms=0", "LISTEN_FDS="+string(rune('0'+len(files))))
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestListenersActivated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := activate(t, file); got != l.Addr().String()+"\n" {
		t.Errorf("got %q, want the socket that was passed, %s", got, l.Addr())
	}
}

func TestListenersActivatedWrongly(t *testing.T) {
	packet, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packet.Close()
	file, err := packet.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := activate(t, file); !strings.Contains(got, "number 1 is not TCP") {
		t.Errorf("got %q", got)
	}
}

// TestPortOwners reads a /proc made for it.
func TestPortOwners(t *testing.T) {
	proc := t.TempDir()
	table := func(name, rows string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(proc, "net", name), []byte("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"+rows), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	process := func(pid, comm, socket string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(proc, pid, "fd"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("socket:["+socket+"]", filepath.Join(proc, pid, "fd", "7")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o700); err != nil {
		t.Fatal(err)
	}
	// Port 9977 is 26F9; 01 is an established connection.
	table("tcp", `   0: 0100007F:26F9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:26F9 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:26FA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1
   short
`)
	table("tcp6", `   0: 00000000000000000000000000000000:26F9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1
`)
	process("9000001", "apt-cacher-ng", "111")
	process("9000002", "client", "222")
	process("9000003", "nginx", "333")
	for port, want := range map[string]string{
		"9977": "taken by apt-cacher-ng (pid 9000001) and nginx (pid 9000003)",
		"9978": "taken by another process",
		"1":    "taken by another process",
		"http": "taken by another process",
	} {
		if got := portOwners(proc, "tcp", port); got != want {
			t.Errorf("port %s: got %q, want %q", port, got, want)
		}
	}
	if got := portOwners(filepath.Join(proc, "none"), "tcp", "9977"); got != "taken by another process" {
		t.Errorf("without /proc: got %q", got)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))

	t.Setenv("NOTIFY_SOCKET", path)
	for _, state := range []string{ready, stopping, statusLine("two\nlines")} {
		notify(log, state)
		buf := make([]byte, 100)
		n, err := manager.Read(buf)
		want := strings.ReplaceAll(state, "\n", " ")
		if err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	notify(log, ready)
	if logged.Len() != 0 {
		t.Errorf("logged %s", &logged)
	}
	t.Setenv("NOTIFY_SOCKET", path+".gone")
	notify(log, ready)
	if !strings.Contains(logged.String(), "cannot notify") {
		t.Error("a manager that cannot be told is not logged")
	}
}
