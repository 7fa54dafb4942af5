// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"testing"
	"time"
)

func init() {
	wanTimed["NobodyThere"] = wanNobodyThere
}

// wanUseless are ways in which the DHT brings nothing.
var wanUseless = map[string]func(in *internet, m *lanMachine){
	"an empty DHT": func(in *internet, m *lanMachine) {
		m.serve(in.wanFlags("--no-mdns")...)
		m.inDHT()
	},
	"a DHT that cannot be reached": func(in *internet, m *lanMachine) {
		m.serve("--no-mdns", "--dht", "--dht-bootstrap", "31.13.99.1:6881")
	},
	"UDP that is dropped": func(in *internet, m *lanMachine) {
		m.host.nft(`table inet f {
	chain out {
		type filter hook output priority 0
		meta l4proto udp drop
	}
}`)
		m.serve(in.wanFlags("--no-mdns")...)
	},
	"UDP that is refused": func(in *internet, m *lanMachine) {
		m.host.nft(`table inet f {
	chain out {
		type filter hook output priority 0
		meta l4proto udp reject
	}
}`)
		m.serve(in.wanFlags("--no-mdns")...)
	},
}

// wanNobodyThere: a DHT that brings nothing costs no time. The best of two runs
// counts, each with an empty store.
func wanNobodyThere(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	in.origin.limit("eth0", 80)
	site := in.site()
	best := map[string]time.Duration{}
	measure := func(name string, serve func(in *internet, m *lanMachine)) {
		m := site.machine()
		serve(in, m)
		m.update()
		took := timeOf(func() { m.download(namesOf(w.set("a"))...) })
		m.wantPackages(w.set("a"))
		if best[name] == 0 || took < best[name] {
			best[name] = took
		}
		m.stop()
	}
	for range 2 {
		measure("", func(_ *internet, m *lanMachine) { m.serve("--no-mdns") })
		for name, serve := range wanUseless {
			measure(name, serve)
		}
	}
	for name := range wanUseless {
		ratio := fmt.Sprintf("%.3f", float64(best[name])/float64(best[""]))
		t.Logf("%s: %v, without the DHT %v: %s", name, best[name], best[""], ratio)
		if best[name] > best[""]*105/100+300*time.Millisecond {
			t.Errorf("%s makes it %s times as long", name, ratio)
		}
	}
}
