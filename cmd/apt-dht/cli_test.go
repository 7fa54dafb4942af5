// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("APT_DHT_TEST_LISTEN") != "" {
		printListeners()
		return
	}
	testscript.Main(leakChecked{m}, map[string]func(){
		"apt-dht": func() { os.Exit(realMain()) },
		"whoami-after": func() {
			if err := becomeOwner(os.Args[1]); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println(os.Getuid(), os.Getgid())
		},
	})
}

// leakChecked fails a run that passed but left goroutines behind.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// printListeners is the process that TestListenersActivated starts: it prints
// the addresses of its sockets, or why there are none.
func printListeners() {
	open, err := listeners(context.Background(), []string{"127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range open {
		fmt.Println(l.Addr())
	}
}

// TestScripts runs the commands as users do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Not this machine's configuration, nor its user's directories.
			config := filepath.Join(env.WorkDir, ".apt-dht.toml")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command waits a second at its end
			env.Setenv("APT_DHT_CONFIG", config)
			env.Setenv("APT_DHT_DATA_DIR", filepath.Join(env.WorkDir, "data"))
			return os.WriteFile(config, nil, 0o600)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"holdport": holdPort,
			"answer":   answer,
			"chown":    chown,
			"pretend":  pretend,
			"detects":  detects,
		},
	})
}

// holdPort, as `holdport VAR`, listens until the script ends and puts the
// address into VAR.
func holdPort(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// answer, as `answer VAR STATUS FILE`, starts an HTTP server that answers
// GET /~/v1/status so, and all else with 404, and puts its address into VAR.
func answer(ts *testscript.TestScript, neg bool, args []string) {
	body := ts.ReadFile(args[2])
	mux := http.NewServeMux()
	mux.HandleFunc("GET /~/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		if args[1] != "200" {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprint(w, body)
	})
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.Listener.Addr().String())
}

// chown, as `chown FILE`, gives the file to user 65534 and group 65533.
func chown(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.Chown(ts.MkAbs(args[0]), 65534, 65533))
}

func TestStatusOf(t *testing.T) {
	_, usage := parse(new(commands), []string{"nonsense"}, os.Stdout, os.Stderr)
	for _, tt := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"fine", nil, 0, ""},
		{"failed", os.ErrNotExist, 1, "apt-dht: file does not exist\n"},
		{"called wrongly", usage, 2, "--help"},
	} {
		var stderr bytes.Buffer
		if code := status(tt.err, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%s: got %d, %q", tt.name, code, &stderr)
		}
	}
}

func TestHumanBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB",
		21_474_836_480: "21.5 GB", 1<<63 - 1: "9.2 EB",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
