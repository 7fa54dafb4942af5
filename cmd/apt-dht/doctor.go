// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"apt-dht/index/trust"
	"apt-dht/proxy"
)

const (
	// checkTimeout bounds each check; they are made at the same time. One that does
	// not even end then, for a disk that hangs, is left alone after lateAfter.
	checkTimeout = 10 * time.Second
	lateAfter    = 12 * time.Second
)

type doctorCmd struct {
	forgivingConfig
	settings
	JSON bool `help:"Print the findings as JSON." env:"-"`
}

// Help is printed by kong after the flags' summary.
func (doctorCmd) Help() string {
	return `It looks at the configuration, the node, apt and the networks, and says of each what it found and what
to do. Give it the flags that the node has, if it has any. It changes nothing; as root it sees more.
The status is 0 unless a line says FAIL.`
}

// grade is how bad a finding is.
type grade string

const (
	good grade = "ok"
	warn grade = "warn" // it works, but not as well as it could; or that is as wanted
	fail grade = "FAIL"
)

// finding is what a check has come to.
type finding struct {
	Grade grade  `json:"grade"`
	What  string `json:"what"`
	Found string `json:"found"`
	ToDo  string `json:"to_do,omitempty"`
}

// doctor knows what checks need.
type doctor struct {
	cfg      serveConfig
	settings settings
	unusable error // why the defaults hold instead of the configuration
	etc      *trust.Trust
	// node is what the node told of itself once asked is closed. Nil: there is none.
	node  *proxy.Status
	asked chan struct{}
	// ask asks the nodes of the DHT to begin with.
	ask func(ctx context.Context, cfg internetConfig, own string) []bootstrapTry
}

// Run prints what all checks find.
func (c *doctorCmd) Run(ctx context.Context, io *streams) error {
	d := &doctor{settings: c.settings, unusable: c.unusable, asked: make(chan struct{}), ask: tryBootstrap}
	var err error
	if d.cfg, err = c.settings.config(); err != nil && d.unusable == nil {
		d.unusable = err
	}
	findings := d.examine(ctx)
	if c.JSON {
		err = writeJSON(io.out, findings)
	} else {
		err = printFindings(io.out, findings)
	}
	failed := 0
	for _, f := range findings {
		if f.Grade == fail {
			failed++
		}
	}
	if err == nil && failed > 0 {
		return fmt.Errorf("doctor: checks that failed: %d of %d", failed, len(findings))
	}
	return err
}

// examine makes all checks at the same time, and returns their findings in the
// order in which a reader wants them.
func (d *doctor) examine(ctx context.Context) []finding {
	if len(d.cfg.Listen) == 0 { // the settings contradict each other
		d.cfg.Listen = []string{":9977"}
		d.cfg.DataDir, d.cfg.AptEtc, d.cfg.AptLists = d.settings.DataDir, d.settings.AptEtc, d.settings.AptLists
		d.cfg.Clients = newClientList(d.settings.Allow, lanPrefixes)
	}
	d.etc, _ = trust.Load(trust.Config{EtcDir: d.cfg.AptEtc}) // nil: said by checkSources
	checks := []check{
		{"configuration", d.checkConfig}, {"node", d.checkNode}, {"listening", d.checkListen}, {"apt", d.checkApt},
		{"sources", d.checkSources}, {"mirror", d.checkMirror}, {"clock", d.checkClock}, {"data directory", d.checkData},
		{"local network", d.checkLAN}, {"DHT", d.checkDHT}, {"flags", d.checkFlags},
	}
	results := make([][]finding, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { results[i] = c.inTime(ctx) })
	}
	wg.Wait()
	var all []finding
	for _, r := range results {
		all = append(all, r...)
	}
	return all
}

// check looks at one thing.
type check struct {
	what string
	run  func(context.Context) []finding
}

// inTime makes the check, or says that it takes too long.
func (c check) inTime(ctx context.Context) []finding {
	done := make(chan []finding, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		done <- c.run(ctx)
	}()
	select {
	case f := <-done:
		return f
	case <-time.After(lateAfter):
		return one(fail, c.what, fmt.Sprintf("could not be looked at within %s", lateAfter), "does a disk or a network file system hang (dmesg)?")
	}
}

// answered waits for the node's answer to checkNode. False: there is none.
func (d *doctor) answered(ctx context.Context) bool {
	select {
	case <-d.asked:
		return d.node != nil
	case <-ctx.Done():
		return false
	}
}

// one is the finding of a check that has one.
func one(g grade, what, found, toDo string) []finding {
	return []finding{{g, what, found, toDo}}
}

// checkConfig judges file, environment and flags.
func (d *doctor) checkConfig(context.Context) []finding {
	const what = "configuration"
	if d.unusable != nil {
		return one(fail, what, strings.TrimPrefix(d.unusable.Error(), "configuration: "), "mend that; serve does not start like this, and what follows is said of the defaults")
	}
	return one(good, what, "readable and valid", "")
}

func writeJSON(w io.Writer, findings []finding) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Findings []finding `json:"findings"`
	}{findings})
}

// printFindings writes a line for each.
func printFindings(w io.Writer, findings []finding) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		line := f.Found
		if f.ToDo != "" {
			line += " – " + f.ToDo
		}
		fmt.Fprintf(table, "%s\t%s:\t%s\n", f.Grade, f.What, strings.ReplaceAll(line, "\n", "; "))
	}
	return table.Flush()
}
