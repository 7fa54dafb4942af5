// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.uber.org/goleak"
)

// nodeVariable, set in the environment, makes the test binary a node that is
// to be run on a host of its own: in a network namespace.
const nodeVariable = "DISCOVERY_TEST_NODE"

// nodeConfig is that variable's value, as JSON.
type nodeConfig struct {
	ID         string
	Port       uint16
	Office     bool
	Interfaces []string
	Static     []string
	NoMDNS     bool
}

// runNode runs until SIGTERM or the end of standard input, says on standard
// output what it sees, and obeys "failed ID" lines.
func runNode(text string) int {
	var cfg nodeConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	lan, err := New(Config{
		ID: cfg.ID, Port: cfg.Port, MDNS: !cfg.NoMDNS, OfficeProxy: func(netip.Addr) bool { return cfg.Office },
		Interfaces: cfg.Interfaces, Static: cfg.Static, Probe: ping,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", cfg.Port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, cfg.ID)
	})}
	go server.Serve(listener)
	go obey(lan, stop)
	go tell(ctx, lan)
	context.AfterFunc(ctx, func() { server.Close() })
	if err := errors.Join(lan.Run(ctx), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// obey reads what the test says.
func obey(lan *LAN, stop func()) {
	defer stop()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "failed "); ok {
			lan.Failed(id)
		}
	}
}

// tell prints the ids of the members, with the time, whenever they change.
func tell(ctx context.Context, lan *LAN) {
	for ctx.Err() == nil {
		changed := lan.Changed()
		var told strings.Builder
		fmt.Fprint(&told, time.Now().UnixNano())
		for _, m := range lan.Members() {
			fmt.Fprintf(&told, " %s=%s", m.ID, m.Addr)
		}
		fmt.Println(told.String())
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

var pinger = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ping is the nodes' probe.
func ping(ctx context.Context, addr netip.AddrPort) (string, error) {
	url := "http://" + strings.ReplaceAll(addr.String(), "%", "%25") + "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := pinger.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 100))
	return string(body), err
}
