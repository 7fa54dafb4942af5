// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"apt-dht/index/trust"
)

// wantedDepth is the depth of apt's pipeline that our own configuration sets, and
// usualDepth apt's own.
const (
	wantedDepth = 200
	usualDepth  = 10
)

const aptLines = `put Acquire::http::Proxy "http://%s"; into /etc/apt/apt.conf.d/30apt-dht`

// aptConfig is apt's configuration: values by key in lower case. The keys of list
// items end with "::".
type aptConfig map[string][]string

// readApt asks apt for its configuration.
func readApt(ctx context.Context) (aptConfig, error) {
	cmd := exec.CommandContext(ctx, "apt-config", "dump")
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{&out, maxRecords}, &limited{&complaint, 1 << 10}
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(err, errors.New(strings.TrimSpace(complaint.String())))
	}
	conf := aptConfig{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		key, rest, ok := strings.Cut(lines.Text(), " ")
		value, quoted := strings.CutSuffix(strings.TrimPrefix(rest, `"`), `";`)
		if key = strings.ToLower(key); ok && quoted {
			conf[key] = append(conf[key], value)
		}
	}
	return conf, nil
}

// get is the value of a key, empty if there is none.
func (c aptConfig) get(key string) string {
	if values := c[strings.ToLower(key)]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// checkApt judges whether this machine's apt uses the node, and how.
func (d *doctor) checkApt(ctx context.Context) []finding {
	const what = "apt"
	conf, err := readApt(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		return one(warn, what, "there is no apt on this machine", "")
	}
	if err != nil {
		return one(fail, what, fmt.Sprintf("apt-config dump: %v", err), "mend apt's configuration")
	}
	found := d.checkProxy(conf)
	if found.Grade == fail {
		return []finding{found}
	}
	return append([]finding{found}, checkPipeline(conf)...)
}

// checkProxy judges which proxy apt uses.
func (d *doctor) checkProxy(conf aptConfig) finding {
	const what = "apt's proxy"
	own := ownAddrs(d.settings.Listen)
	toDo := "have the node listen at a settled port"
	if len(own) > 0 {
		toDo = fmt.Sprintf(aptLines, own[0])
	}
	detect := conf.get("Acquire::http::Proxy-Auto-Detect") + conf.get("Acquire::http::ProxyAutoDetect")
	proxy := conf.get("Acquire::http::Proxy")
	if strings.EqualFold(proxy, "DIRECT") { // apt.conf(5): none
		proxy = ""
	}
	switch {
	case strings.Contains(detect, "apt-dht"):
		return finding{good, what, "is found by " + detect, ""}
	case detect != "":
		return finding{warn, what, "is found by " + detect, "ask that what it finds, or " + toDo}
	case proxy == "" && d.prefixed():
		return finding{good, what, "none, but sources name this node before the mirror", ""}
	case proxy == "":
		return d.noProxy(what, toDo)
	case isNode(proxy, own):
		return d.exceptions(conf, finding{good, what, proxy + ", this node", ""})
	default:
		return finding{warn, what, proxy + ", which is not the node at " + strings.Join(d.cfg.Listen, ", "), "if that is another apt-dht all is well; else " + toDo}
	}
}

// noProxy is for an apt that goes to the mirrors. On a machine that serves others
// that may be meant.
func (d *doctor) noProxy(what, toDo string) finding {
	if env := os.Getenv("http_proxy"); env != "" {
		return finding{warn, what, "none configured; http_proxy of the environment is " + env, toDo}
	}
	f := finding{fail, what, "none: apt on this machine does not use the node", toDo}
	if len(d.settings.Allow) > 0 {
		f.Grade = warn
	}
	return f
}

// exceptions tells of hosts for which apt goes elsewhere.
func (d *doctor) exceptions(conf aptConfig, f finding) finding {
	var hosts []string
	for key, values := range conf {
		if host, ok := strings.CutPrefix(key, "acquire::http::proxy::"); ok && host != "" {
			hosts = append(hosts, host+" "+values[len(values)-1])
		}
	}
	if len(hosts) == 0 {
		return f
	}
	slices.Sort(hosts)
	return finding{warn, f.What, f.Found + "; but for these hosts it is another: " + strings.Join(hosts, ", "), "take Acquire::http::Proxy::HOST out where that is not meant"}
}

// isNode tells whether a proxy's URL is one of the node's own addresses.
func isNode(proxy string, own []string) bool {
	u, err := url.Parse(proxy)
	if err != nil {
		return false
	}
	if slices.Contains(own, net.JoinHostPort(u.Hostname(), u.Port())) {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && (ip.IsLoopback() || isOwnAddr(ip))
	return local && slices.ContainsFunc(own, func(addr string) bool {
		_, port, _ := net.SplitHostPort(addr)
		return port == u.Port()
	})
}

// isOwnAddr tells whether an address is this machine's.
func isOwnAddr(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == ip
	})
}

// prefixed tells whether a source names this machine before its mirror.
func (d *doctor) prefixed() bool {
	own := ownAddrs(d.settings.Listen)
	return d.etc != nil && slices.ContainsFunc(d.etc.Sources(), func(s trust.Source) bool {
		return slices.ContainsFunc(strings.Fields(asWritten(s)), func(field string) bool { return isNode(field, own) })
	})
}

// asWritten is the line or stanza of a source, of which trust tells what is meant:
// prefixes of this machine's and apt-cacher-ng's HTTPS/// are left out there.
func asWritten(s trust.Source) string {
	body, err := os.ReadFile(s.File)
	if err != nil {
		return ""
	}
	lines := strings.Split(string(body), "\n")
	lines = lines[min(max(s.Line-1, 0), len(lines)):]
	end := 1
	if strings.HasSuffix(s.File, ".sources") {
		end = slices.IndexFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "" })
	}
	if end < 0 || end > len(lines) {
		end = len(lines)
	}
	return strings.Join(lines[:end], "\n")
}

// checkPipeline judges the two settings that open apt's window.
func checkPipeline(conf aptConfig) []finding {
	const what = "apt's pipeline"
	depth, err1 := strconv.Atoi(conf.get("Acquire::http::Pipeline-Depth"))
	most, err2 := strconv.Atoi(conf.get("Acquire::Max-Pipeline-Depth"))
	if err1 != nil {
		depth = usualDepth
	}
	if err2 != nil {
		most = usualDepth
	}
	if n := min(depth, most); n < wantedDepth {
		return one(warn, what, fmt.Sprintf("%d files at a time", n),
			fmt.Sprintf(`faster with Acquire::http::Pipeline-Depth "%d"; Acquire::Max-Pipeline-Depth "%d";`, wantedDepth, wantedDepth))
	}
	return one(good, what, fmt.Sprintf("%d files at a time", min(depth, most)), "")
}

// checkSources looks for repositories that the node does not get to see.
func (d *doctor) checkSources(context.Context) []finding {
	const what = "sources"
	if d.etc == nil {
		return one(warn, what, "apt's sources in "+d.cfg.AptEtc+" cannot be read", "look there, or say where they are with --apt-etc")
	}
	var seen, tunnelled []string
	for _, s := range d.etc.Sources() {
		if slices.Contains(seen, s.URI) {
			continue
		}
		seen = append(seen, s.URI)
		if strings.HasPrefix(s.URI, "https://") && strings.Contains(asWritten(s), "https://") {
			tunnelled = append(tunnelled, s.URI)
		}
	}
	switch {
	case len(seen) == 0:
		return one(warn, what, "none in "+d.cfg.AptEtc, "apt has nothing to fetch; is --apt-etc right?")
	case len(tunnelled) > 0:
		return one(warn, what, fmt.Sprintf("%d of %d repositories are https, which is only passed through: %s", len(tunnelled), len(seen), strings.Join(tunnelled, " ")),
			"to have them cached write them as "+strings.Replace(tunnelled[0], "https://", "http://HTTPS///", 1))
	}
	return one(good, what, fmt.Sprintf("%d repositories, none of them https", len(seen)), "")
}
