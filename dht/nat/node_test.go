// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"go.uber.org/goleak"
)

// nodeVariable, set in the environment, makes the test binary a machine behind
// a router: to be run in a network namespace.
const nodeVariable = "NAT_TEST_NODE"

// nodeConfig is that variable's value, as JSON.
type nodeConfig struct {
	Lease, CheckEvery time.Duration // 0: as usual
}

// greeting is what the node says on its port.
const greeting = "behind the router"

// runNode keeps testPort mapped until the end of standard input, logs on
// standard output and greets those who reach it.
func runNode(text string) int {
	var cfg nodeConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	m, err := New(Config{Port: testPort, Log: slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if cfg.Lease != 0 {
		m.lease = cfg.Lease
	}
	if cfg.CheckEvery != 0 {
		m.checkEvery = cfg.CheckEvery
	}
	end, err := greet()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		io.Copy(io.Discard, os.Stdin)
	}()
	if err := errors.Join(m.Run(ctx), end(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// greet answers on testPort until end is called.
func greet() (end func() error, err error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: testPort})
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: testPort})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, greeting)
			c.Close()
		}
	}()
	go func() {
		for packet := make([]byte, 1); ; {
			_, from, err := conn.ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort([]byte(greeting), from)
		}
	}()
	return func() error { return errors.Join(listener.Close(), conn.Close()) }, nil
}
