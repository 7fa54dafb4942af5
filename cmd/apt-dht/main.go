// SPDX-License-Identifier: GPL-2.0-or-later

// Command apt-dht is a proxy between apt and its mirrors that gets every file
// it can name by hash from the nearest place that has it.
//
// This package holds the commands, the configuration and the wiring: it turns
// flags, environment and file into a [serveConfig], opens the sockets, builds
// the parts and runs them in one group. It holds no knowledge of HTTP, of
// repositories or of blobs; that is the business of the packages it wires.
//
// A setting is looked for on the command line (--data-dir), in the environment
// (APT_DHT_DATA_DIR), in the configuration file (data-dir = "…", TOML) and
// last in the built-in defaults; the first place that has it wins. Each flag
// that serve takes, but --config and --help, is a key of the file.
//
// The files, by the first word of their names:
//
//	cli         the commands' grammar, and the small ones; ask_node: asks a running node
//	config      the settings: flags, file, environment, and the types of their values
//	serve       the node: builds and runs the parts; activation: its sockets from systemd
//	internet    what serve and share have in common: the DHT, the port, the router
//	share       offers a directory; dht_node: a node of the DHT alone
//	detect      apt's Proxy-Auto-Detect
//	find        who has a file
//	doctor      why it does not work, a file for each thing that it looks at
//	house_test  holds the whole module to its layout
//	e2e, lan, wan  tests with whole nodes: one, a local network, the internet
//
// The process ends with status 0, with 1 when a command failed or could
// not read its configuration, and with 2 when it was called wrongly; detect ends
// with 0 whatever happens.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	os.Exit(realMain())
}

// realMain is main with a status to return, so that deferred calls run and the
// scripts of the tests can call it.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on a second signal kills
	return status(run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr)
}

// status tells err on stderr and returns the exit status that stands for it.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "apt-dht: %v\n", err)
	// An error of the file or the environment comes as a ParseError of status 1.
	if usage := (*kong.ParseError)(nil); errors.As(err, &usage) && usage.ExitCode() != 1 {
		fmt.Fprintln(stderr, "Try 'apt-dht --help'.")
		return 2
	}
	return 1
}
