// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"text/tabwriter"
	"time"

	"apt-dht/proxy"
	"apt-dht/proxy/lan"
)

const (
	// statusTimeout is generous: a healthy node answers in milliseconds.
	statusTimeout = 10 * time.Second
	// maxStatus bounds the node's answer; one with a thousand transfers has 300 kB.
	maxStatus = 4 << 20
)

// Run asks the node for its status and prints it.
func (c *statusCmd) Run(ctx context.Context, io *streams) error {
	if len(c.Listen) == 0 {
		return errors.New(`listen: the list is empty: name the node's address, as ":9977"`)
	}
	addr := c.Listen[0].hostport
	body, err := fetchStatus(ctx, addr)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := io.out.Write(append(body, '\n'))
		return err
	}
	var node proxy.Status
	if err := json.Unmarshal(body, &node); err != nil {
		return fmt.Errorf("status: what listens at %s is not apt-dht: %w", addr, err)
	}
	return printStatus(io.out, &node)
}

// fetchStatus returns the status of the node that listens at addr.
func fetchStatus(ctx context.Context, addr string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	url := "http://" + net.JoinHostPort(cmp.Or(host, "localhost"), port) + "/~/v1/status"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	// The environment's proxy may well be the node itself: ask directly.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("status: no node listens at %s: start one with 'apt-dht serve', or name its address with --listen", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status: %s answers %s: is it apt-dht, and does it allow this machine?", url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("status: read %s: %w", url, err)
	}
	return body, nil
}

// printStatus writes the status for people.
func printStatus(w io.Writer, s *proxy.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, name+"\t"+format+"\n", args...)
	}
	row("version", "%s, up %s", s.Version, time.Duration(s.UptimeS)*time.Second)
	row("store", "%d files, %s of %s", s.Store.Blobs, humanBytes(s.Store.Bytes), humanBytes(s.Store.Quota))
	row("index", "%d repositories, %d files", s.Index.Origins, s.Index.Files)
	row("to apt", "%s", humanBytes(s.BytesTo.Apt))
	row("from the store", "%s", humanBytes(s.BytesFrom.Store))
	row("from the LAN", "%s", humanBytes(s.BytesFrom.LAN))
	row("from the internet", "%s", humanBytes(s.BytesFrom.WAN))
	row("from mirrors", "%s", humanBytes(s.BytesFrom.Mirror))
	row("transfers", "%d", len(s.Transfers))
	row("to the LAN", "%s", humanBytes(s.BytesTo.LAN))
	row("to the internet", "%s", humanBytes(s.BytesTo.WAN))
	row("DHT", "%d nodes, %d files offered, %d announced", s.DHT.Nodes, s.WAN.Offered, s.DHT.Announced)
	row("from outside", "%s", s.WAN.Reach)
	row("router", "%s", s.WAN.Router)
	row("nodes on the LAN", "%d", len(s.LAN.Peers))
	for _, p := range s.LAN.Peers {
		row("  "+p.ID, "%s, %s from it, %s to it%s", p.Addr, humanBytes(p.BytesFrom), humanBytes(p.BytesTo), troubleWith(&p))
	}
	return table.Flush()
}

// troubleWith says what is wrong with a node.
func troubleWith(p *lan.PeerStatus) string {
	switch {
	case p.Liar != "":
		return ", set aside: " + p.Liar
	case !p.Alive:
		return ", does not answer"
	}
	return ""
}

// humanBytes writes n with the SI unit that leaves up to three digits before
// the point.
func humanBytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.95 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}
