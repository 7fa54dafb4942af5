// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"size": humanSize,
	"span": func(s int64) string { return (time.Duration(s) * time.Second).String() },
}).Parse(pageText))

// servePage answers a browser with the status page and anything else with
// apt-cacher-ng's 406, by which auto-apt-proxy knows a proxy.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		refuseWith(w, r, http.StatusNotAcceptable, "Usage Information", fmt.Sprintf(usage, neighboursName(r.Host)))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("Cache-Control", "no-store")
	data := struct {
		Status
		Host string
	}{s.status(), neighboursName(r.Host)}
	if err := page.Execute(w, data); err != nil {
		s.log.Debug("the status page was not delivered", "err", err)
	}
}

// usage is for those who ask without a browser.
const usage = `Usage Information

This is apt-dht, a proxy for apt. To use it, put into a file below /etc/apt/apt.conf.d:

    Acquire::http::Proxy "http://%s";

Status: /~/v1/status (JSON), /metrics (Prometheus), / (with a browser).
`

// neighboursName is how other machines call the host that a browser on this
// machine may have called localhost.
func neighboursName(host string) string {
	name := stripPort(host)
	ip, err := netip.ParseAddr(name)
	if name != "localhost" && (err != nil || !ip.IsLoopback()) {
		return host
	}
	own, err := os.Hostname()
	if err != nil {
		return host
	}
	if _, port, err := net.SplitHostPort(host); err == nil {
		return net.JoinHostPort(own, port)
	}
	return own
}

// humanSize writes a number of bytes for people, in powers of 1024.
func humanSize(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", max(n, 0))
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
