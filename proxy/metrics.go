// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves the numbers of status in Prometheus's format, read when asked.
func (s *Server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(s.status))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// collector reads all metrics from one status.
type collector struct {
	status  func() Status
	metrics []metric
}

// metric is one number with fixed labels. prometheus's own function metrics
// cannot share a name between several label values.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(Status) int64
}

func newCollector(status func() Status) *collector {
	c := &collector{status: status}
	value := func(kind prometheus.ValueType, name, help string, labels prometheus.Labels, read func(Status) int64) {
		c.metrics = append(c.metrics, metric{prometheus.NewDesc("apt_dht_"+name, help, nil, labels), kind, read})
	}
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	value(counter, "bytes_from_total", "Body bytes by where they came from.", prometheus.Labels{"source": "store"}, func(st Status) int64 { return st.BytesFrom.Store })
	value(counter, "bytes_from_total", "Body bytes by where they came from.", prometheus.Labels{"source": "mirror"}, func(st Status) int64 { return st.BytesFrom.Mirror })
	value(counter, "bytes_to_total", "Body bytes by where they went.", prometheus.Labels{"client": "apt"}, func(st Status) int64 { return st.BytesTo.Apt })
	value(counter, "bytes_from_total", "Body bytes by where they came from.", prometheus.Labels{"source": "lan"}, func(st Status) int64 { return st.BytesFrom.LAN })
	value(counter, "bytes_to_total", "Body bytes by where they went.", prometheus.Labels{"client": "lan"}, func(st Status) int64 { return st.BytesTo.LAN })
	value(counter, "bytes_from_total", "Body bytes by where they came from.", prometheus.Labels{"source": "wan"}, func(st Status) int64 { return st.BytesFrom.WAN })
	value(counter, "bytes_to_total", "Body bytes by where they went.", prometheus.Labels{"client": "wan"}, func(st Status) int64 { return st.BytesTo.WAN })
	value(gauge, "dht_nodes", "Nodes of the DHT that are known.", nil, func(st Status) int64 { return int64(st.DHT.Nodes) })
	value(gauge, "dht_announced", "Files that are announced in the DHT.", nil, func(st Status) int64 { return int64(st.DHT.Announced) })
	value(counter, "dht_packets_total", "Packets of the DHT.", prometheus.Labels{"direction": "in"}, func(st Status) int64 { return int64(st.DHT.PacketsIn) })
	value(counter, "dht_packets_total", "Packets of the DHT.", prometheus.Labels{"direction": "out"}, func(st Status) int64 { return int64(st.DHT.PacketsOut) })
	value(gauge, "wan_reachable", "Whether nodes on the internet can fetch from this one, as far as is known.", nil, func(st Status) int64 { return oneIf(st.WAN.Reachable) })
	value(gauge, "wan_offered", "Files that may be given to nodes on the internet.", nil, func(st Status) int64 { return int64(st.WAN.Offered) })
	value(gauge, "lan_peers", "Other nodes of the local network.", nil, func(st Status) int64 { return int64(len(st.LAN.Peers)) })
	value(gauge, "store_blobs", "Files in the store.", nil, func(st Status) int64 { return int64(st.Store.Blobs) })
	value(gauge, "store_bytes", "Bytes in the store.", nil, func(st Status) int64 { return st.Store.Bytes })
	value(gauge, "store_quota_bytes", "Bytes that the store may hold.", nil, func(st Status) int64 { return st.Store.Quota })
	value(gauge, "index_origins", "Repositories that are known.", nil, func(st Status) int64 { return int64(st.Index.Origins) })
	value(gauge, "index_files", "Files whose hash is known.", nil, func(st Status) int64 { return int64(st.Index.Files) })
	value(gauge, "transfers", "Transfers under way.", nil, func(st Status) int64 { return int64(len(st.Transfers)) })
	value(gauge, "uptime_seconds", "Seconds since the node started.", nil, func(st Status) int64 { return st.UptimeS })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.status()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.read(st)))
	}
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
