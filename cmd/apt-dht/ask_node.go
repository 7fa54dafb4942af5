// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxNodeAnswer bounds a node's answer in bytes; a status with a thousand
// transfers has 300 kB.
const maxNodeAnswer = 4 << 20

// askNode asks the node at addr, [HOST]:PORT, for one of its own pages.
func askNode(ctx context.Context, addr, path string, query url.Values) ([]byte, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	at := url.URL{Scheme: "http", Host: net.JoinHostPort(cmp.Or(host, "localhost"), port), Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	// The environment's proxy may well be the node itself: ask directly.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no node listens at %s: start one with 'apt-dht serve', or name its address with --listen: %w", addr, syscall.ECONNREFUSED)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: is it an apt-dht of this version, and does it allow this machine?", addr, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNodeAnswer))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return body, nil
}
