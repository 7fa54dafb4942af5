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
	req.Host = "localhost" // a node searches for nobody that may be a web page
	// The environment's proxy may well be the node itself: ask directly.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no node listens at %s: start one with 'apt-dht serve', or name its address with --listen: %w", addr, syscall.ECONNREFUSED)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("what listens at %s does not answer: is it an apt-dht, and not overloaded? %w", addr, context.DeadlineExceeded)
	case err != nil:
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusTooManyRequests: // the status says it all
		return nil, fmt.Errorf("%s answers %s", addr, resp.Status)
	default:
		return nil, fmt.Errorf("%s answers %s: is it an apt-dht of this version, and does it allow this machine?", addr, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNodeAnswer))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return body, nil
}
