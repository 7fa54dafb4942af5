// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// The states of a node that a service manager wants to know (sd_notify(3)).
const (
	ready    = daemon.SdNotifyReady
	stopping = daemon.SdNotifyStopping
)

// listeners returns the sockets that systemd passed to this process
// (sd_listen_fds(3)) or, when it passed none, new ones at addrs. All are TCP.
// The caller closes them; after an error none is left open.
func listeners(ctx context.Context, addrs []string) ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	if len(passed) > 0 {
		return tcpOnly(passed)
	}
	var opened []net.Listener
	for _, addr := range addrs {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			closeAll(opened)
			return nil, listenError(addr, err)
		}
		opened = append(opened, l)
	}
	return opened, nil
}

// tcpOnly returns passed if all of it is TCP; a gap stands for a socket that
// does not listen for streams.
func tcpOnly(passed []net.Listener) ([]net.Listener, error) {
	for i, l := range passed {
		if _, ok := l.(*net.TCPListener); !ok {
			closeAll(passed)
			return nil, fmt.Errorf("sockets from systemd: number %d is not TCP: use only ListenStream=PORT or ADDRESS:PORT in the socket unit", i+1)
		}
	}
	return passed, nil
}

func closeAll(open []net.Listener) {
	for _, l := range open {
		if l != nil {
			l.Close()
		}
	}
}

// listenError adds to err who is in the way and what to do about it.
func listenError(addr string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: %s: free the port, or choose another with --listen", err, portOwners("/proc", "tcp", port))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine does not have that address: choose another with --listen, or %q for all", err, ":"+port)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: ports below 1024 need root: choose another with --listen", err)
	}
	return fmt.Errorf("listen on %s: %w", addr, err)
}

// notify tells the service manager, if there is one, how the node stands:
// ready, stopping or a statusLine. The node runs on when it cannot be told.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify the service manager", "error", err)
	}
}

// statusLine is the state that `systemctl status` shows as text.
func statusLine(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", " ") // a new line would begin another assignment
}
