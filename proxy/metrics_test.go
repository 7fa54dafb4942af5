// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// All numbers of one answer are of one moment, and cost one look at the node.
func TestMetricsLookOnce(t *testing.T) {
	looks := 0
	reg := prometheus.NewRegistry()
	check(t, reg.Register(newCollector(func() Status {
		looks++
		return Status{UptimeS: 7}
	})))
	families, err := reg.Gather()
	check(t, err)
	if looks != 1 || len(families) < 10 {
		t.Errorf("%d looks for %d metrics", looks, len(families))
	}
}
