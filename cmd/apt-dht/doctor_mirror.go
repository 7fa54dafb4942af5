// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"apt-dht/index/trust"
)

const (
	// clockSlack is how far clocks may be apart before apt or the node mind.
	clockSlack = 5 * time.Minute

	// maxHead bounds what is read of a Release file for its dates.
	maxReleaseHead = 4 << 10
)

// checkMirror fetches the InRelease of the first http source as apt would.
func (d *doctor) checkMirror(ctx context.Context) []finding {
	const what = "mirror"
	at, ok := d.firstRelease()
	if !ok && d.withPasswords() {
		return one(warn, what, "not tried: the http sources have passwords in their lines, and those are not tried", "")
	}
	if !ok {
		return one(warn, what, "no http source to try", "")
	}
	if !d.answered(ctx) {
		return one(warn, what, "not tried without a node", "")
	}
	resp, took, err := d.fetchThrough(ctx, at)
	if err != nil {
		return one(fail, what, fmt.Sprintf("%s through the node: %v", at, err), "does this machine reach the mirror without it? The node's log says more")
	}
	found := fmt.Sprintf("%s through the node: %s in %d ms, %s", at, resp.Status, took.Milliseconds(), answeredBy(resp))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return one(warn, what, found, "has the repository a Release file instead? Else the source is wrong")
	case resp.StatusCode != http.StatusOK:
		return one(fail, what, found, "does this machine reach the mirror without the node? The node's log says more")
	case resp.Header.Get("Warning") != "":
		return one(warn, what, found+": a stored copy, "+resp.Header.Get("Warning"), "the mirror cannot be reached: look at DNS, the route and --upstream-proxy")
	}
	return append(one(good, what, found, ""), clockBy(resp)...)
}

// answeredBy tells where an answer's bytes came from; what names no place are the
// node's own words.
func answeredBy(resp *http.Response) string {
	if source := resp.Header.Get("X-Apt-Dht-Source"); source != "" {
		return "from " + source
	}
	return "said by the node itself"
}

// firstRelease is the URL of the InRelease file of the first source that a node can
// fetch.
func (d *doctor) firstRelease() (string, bool) {
	if d.etc == nil {
		return "", false
	}
	for _, s := range d.etc.Sources() {
		if !strings.HasPrefix(s.URI, "http://") || s.Credentials {
			continue
		}
		suite := "dists/" + s.Suite + "/"
		if strings.HasSuffix(s.Suite, "/") {
			suite = strings.TrimPrefix(s.Suite, "./")
		}
		return strings.TrimSuffix(s.URI, "/") + "/" + strings.TrimPrefix(suite, "/") + "InRelease", true
	}
	return "", false
}

// withPasswords tells whether a source that a node can fetch has a login in its line.
func (d *doctor) withPasswords() bool {
	return d.etc != nil && slices.ContainsFunc(d.etc.Sources(), func(s trust.Source) bool {
		return s.Credentials && strings.HasPrefix(s.URI, "http://")
	})
}

// fetchThrough fetches a URL by the node.
func (d *doctor) fetchThrough(ctx context.Context, at string) (*http.Response, time.Duration, error) {
	host, port, err := net.SplitHostPort(d.cfg.Listen[0])
	if err != nil {
		return nil, 0, err
	}
	node := &url.URL{Scheme: "http", Host: net.JoinHostPort(cmp.Or(host, "localhost"), port)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, 0, err
	}
	client := http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyURL(node), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxCompared))
	return resp, time.Since(began), err
}

// clockBy compares this machine's clock with a mirror's.
func clockBy(resp *http.Response) []finding {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if apart := time.Since(at); err == nil && apart.Abs() > clockSlack {
		return one(warn, "mirror's clock", fmt.Sprintf("is %s apart from this machine's", apart.Abs().Round(time.Second)), "is the time right here? (timedatectl)")
	}
	return nil
}

// checkClock compares the clock with the dates of apt's lists.
func (d *doctor) checkClock(context.Context) []finding {
	const what = "clock"
	files, _ := filepath.Glob(filepath.Join(d.cfg.AptLists, "*Release")) // the pattern is well-formed
	dated, now := 0, time.Now()
	var expired []string
	for _, file := range files {
		date, until := releaseDates(file)
		if date.IsZero() {
			continue
		}
		dated++
		if date.Sub(now) > clockSlack {
			return one(fail, what, fmt.Sprintf("says %s, but %s is of %s", now.UTC().Format(time.RFC3339), filepath.Base(file), date.UTC().Format(time.RFC3339)), "set the time (timedatectl): apt refuses files of the future")
		}
		if !until.IsZero() && until.Before(now) {
			expired = append(expired, filepath.Base(file))
		}
	}
	switch {
	case dated == 0:
		return one(good, what, "nothing to compare it with in "+d.cfg.AptLists, "")
	case len(expired) > 0:
		return one(warn, what, fmt.Sprintf("by it %d of %d lists have expired, such as %s", len(expired), dated, expired[0]), "run apt-get update; if that does not help, is the time right (timedatectl), or the mirror out of date?")
	}
	return one(good, what, fmt.Sprintf("fits the dates of %d lists", dated), "")
}

// releaseDates reads Date and Valid-Until of a Release file; zero where they are
// not to be found.
func releaseDates(file string) (date, until time.Time) {
	f, err := os.Open(file)
	if err != nil {
		return date, until
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, maxReleaseHead))
	if err != nil {
		return date, until
	}
	for line := range bytes.Lines(head) {
		field, value, _ := strings.Cut(string(line), ":")
		// "Sat, 10 Feb 2024 11:07:25 UTC" (Debian repository format, Date)
		at, err := time.Parse("Mon, _2 Jan 2006 15:04:05 MST", strings.TrimSpace(value))
		switch {
		case err != nil:
		case field == "Date":
			date = at
		case field == "Valid-Until":
			until = at
		}
	}
	return date, until
}
