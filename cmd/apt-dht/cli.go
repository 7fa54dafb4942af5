// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/alecthomas/kong"
)

// version is set by the linker; a plain `go build` leaves it empty.
var version string

// commands is the command line's grammar.
type commands struct {
	Serve   serveCmd   `cmd:"" help:"Run the node."`
	Status  statusCmd  `cmd:"" help:"Show what a running node is doing, and what it saved."`
	Detect  detectCmd  `cmd:"" help:"Tell apt which proxy to use for a URL: this machine's node, one of the LAN, or none."`
	Share   shareCmd   `cmd:"" help:"Offer the packages of a directory to nodes on the internet, in place."`
	Find    findCmd    `cmd:"" help:"Tell who has a file."`
	Doctor  doctorCmd  `cmd:"" help:"Find out why something does not work."`
	DHTNode dhtNodeCmd `cmd:"" name:"dht-node" help:"Run a node of the DHT alone, for others to begin with."`
	Verify  verifyCmd  `cmd:"" help:"Read every stored file again and drop those whose bytes went bad."`
	GC      gcCmd      `cmd:"" name:"gc" help:"Make the store fit its quota now."`
	Version versionCmd `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version."`
}

type serveCmd struct {
	configFlag
	settings
}

type statusCmd struct {
	configFlag
	listenSettings
	JSON bool `help:"Print the node's answer as it is." env:"-"`
}

type verifyCmd struct {
	configFlag
	storeSettings
	logSettings
}

type gcCmd struct {
	configFlag
	storeSettings
	logSettings
}

type versionCmd struct{}

// streams are where a command writes: results to out, the log to err.
type streams struct {
	out, err io.Writer
}

// run carries out one command line, the program's name left out. It returns a
// *kong.ParseError when the line or the configuration is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "detect" {
		return runDetect(ctx, args, stdout, stderr)
	}
	parsed, err := parse(new(commands), args, stdout, stderr)
	if err != nil || parsed == nil {
		return err
	}
	for _, said := range strangeVariables(os.Environ()) {
		fmt.Fprintf(stderr, "apt-dht: %s\n", said)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(&streams{out: stdout, err: stderr})
}

// parse fills grammar from the command line, the environment and the
// configuration file. It returns nil and no error when help was asked for and
// printed.
func parse(grammar *commands, args []string, stdout, stderr io.Writer) (*kong.Context, error) {
	var helped bool
	parser, err := kong.New(grammar,
		kong.Name("apt-dht"),
		kong.Description("A proxy for apt that gets each file from the nearest place that has it."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.DefaultEnvars(envPrefix),
		kong.Vars{"data_dir": defaultDataDir(), "config": defaultConfig, "version": "apt-dht " + versionString()},
	)
	if err != nil {
		return nil, fmt.Errorf("build the command line's grammar: %w", err)
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil, nil
	}
	return parsed, err
}

// Run runs the node until ctx ends.
func (c *serveCmd) Run(ctx context.Context, io *streams) error {
	cfg, err := c.settings.config()
	if err != nil {
		return err
	}
	if err := refuseForeign(cfg.DataDir); err != nil {
		return err
	}
	return serve(ctx, cfg, c.logger(io.err))
}

// Run reads every blob of the store again.
func (c *verifyCmd) Run(ctx context.Context, io *streams) error {
	cfg, err := c.storeSettings.config()
	if err != nil {
		return err
	}
	if err := useStore(cfg.DataDir); err != nil {
		return err
	}
	return verifyStore(ctx, cfg, c.logger(io.err), io.out)
}

// Run evicts what does not fit.
func (c *gcCmd) Run(ctx context.Context, io *streams) error {
	cfg, err := c.storeSettings.config()
	if err != nil {
		return err
	}
	if err := useStore(cfg.DataDir); err != nil {
		return err
	}
	return gcStore(ctx, cfg, c.logger(io.err), io.out)
}

// Run prints the version, the Go release and the platform on one line.
func (versionCmd) Run(io *streams) error {
	_, err := fmt.Fprintf(io.out, "apt-dht %s %s %s/%s\n", versionString(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// versionString is the version that was linked in, else what the Go tool knows.
func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// logger returns the log that the settings ask for, written to w.
func (s logSettings) logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: s.LogLevel.level}
	if s.LogFormat.json {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
