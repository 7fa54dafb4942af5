// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

const bothEntries = "TCP 9978, UDP 9978"

func asTheyAre(*bench) {}

func refusal(text string) func(transport) error {
	return func(transport) error { return errors.New(text) }
}

func TestNewRefusesPortZero(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Fatal("New(Config{}) succeeded")
	}
}

func TestMappedUntilStopped(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		b.wantExternal("8.8.4.4:9978")
		b.wantStatus("192.168.1.1", "8.8.4.4:9978", "TCP and UDP", "192.168.1.7", "NAT-PMP")
		b.wantEntries(b.routers[0], bothEntries)
		if took := b.stop(); took != 0 {
			t.Errorf("ended after %s", took)
		}
		b.wantExternal("")
		b.wantEntries(b.routers[0], "")
	})
}

func TestRenewedAtHalfTime(t *testing.T) {
	for _, tt := range []struct {
		grant, every time.Duration
	}{
		{0, 30 * time.Minute},
		{10 * time.Minute, 5 * time.Minute},
		{time.Second, 10 * time.Second}, // no router hurries us
		{48 * time.Hour, 30 * time.Minute},
	} {
		prepare := func(b *bench) { b.routers[0].grant = tt.grant }
		onBench(t, prepare, func(b *bench) {
			for i := 1; i <= 5; i++ {
				if renewals, _ := b.routers[0].counts(); renewals != 2*i {
					t.Fatalf("grant of %s: %d entries made after %s", tt.grant, renewals, time.Duration(i-1)*tt.every)
				}
				b.after(tt.every)
			}
			b.wantExternal("8.8.4.4:9978")
		})
	}
}

func TestUPnPWhereNATPMPDoesNotAnswer(t *testing.T) {
	prepare := func(b *bench) { b.routers[0].silent, b.routers[1].silent = true, false }
	onBench(t, prepare, func(b *bench) {
		b.after(10 * time.Second)
		b.wantExternal("8.8.4.4:9978")
		b.wantStatus("UPnP")
		b.stop()
		b.wantEntries(b.routers[1], "")
	})
}

func TestUPnPWhereNATPMPRefuses(t *testing.T) {
	prepare := func(b *bench) {
		b.routers[0].refuse = refusal("the router does not allow it")
		b.routers[1].silent = false
	}
	onBench(t, prepare, func(b *bench) {
		b.after(10 * time.Second)
		b.wantExternal("8.8.4.4:9978")
		b.wantEntries(b.routers[1], bothEntries)
	})
}

func TestSilentRouter(t *testing.T) {
	prepare := func(b *bench) { b.routers[0].silent = true }
	onBench(t, prepare, func(b *bench) {
		b.wantStatus("asking the router at 192.168.1.1")
		b.after(10 * time.Second)
		b.wantExternal("")
		b.wantStatus("the router at 192.168.1.1 does not answer NAT-PMP or UPnP", "forward TCP and UDP port 9978", "(192.168.1.7) by hand")
		b.routers[0].set(func() { b.routers[0].silent = false })
		b.after(firstPause)
		b.wantExternal("8.8.4.4:9978")
	})
}

func TestPausesGrow(t *testing.T) {
	asked := 0
	prepare := func(b *bench) {
		b.routers[0].silent = true
		ask := b.gateways
		b.gateways = func(r route, port uint16, lease time.Duration) []gateway {
			asked++
			return ask(r, port, lease)
		}
	}
	onBench(t, prepare, func(b *bench) {
		b.after(24 * time.Hour)
		if most := int(24*time.Hour/lastPause) + 6; asked > most || asked < most/2 {
			t.Errorf("asked %d times in a day, want at most %d", asked, most)
		}
	})
}

func TestRefusal(t *testing.T) {
	prepare := func(b *bench) {
		b.routers[0].refuse = refusal("the router does not allow it")
		b.routers[1].silent = false
		b.routers[1].refuse = func(transport) error { return &upnpError{606, "Action not authorized"} }
	}
	onBench(t, prepare, func(b *bench) {
		b.after(10 * time.Second)
		b.wantExternal("")
		b.wantStatus("the router at 192.168.1.1 opens no port", "NAT-PMP: the router does not allow it; UPnP: ", "606 Action not authorized", "by hand")
	})
}

// TestRefusalOfHalf has a router that maps TCP alone: that is taken back.
func TestRefusalOfHalf(t *testing.T) {
	prepare := func(b *bench) {
		b.routers[0].refuse = func(t transport) error { return map[transport]error{udp: errors.New("only TCP")}[t] }
	}
	onBench(t, prepare, func(b *bench) {
		b.after(10 * time.Second)
		b.wantStatus("only TCP")
		b.wantEntries(b.routers[0], "")
	})
}

func TestUselessAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"100.64.3.2": "its provider's NAT",
		"10.1.2.3":   "a second router before it",
		"0.0.0.0":    "either its line is down",
	} {
		prepare := func(b *bench) { b.routers[0].address = netip.MustParseAddr(addr) }
		onBench(t, prepare, func(b *bench) {
			b.after(10 * time.Second)
			b.wantExternal("")
			b.wantStatus("the router at 192.168.1.1", want)
			b.wantEntries(b.routers[0], "")
		})
	}
}

func TestExternalAddressChanges(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		b.routers[0].set(func() { b.routers[0].address = netip.MustParseAddr("8.8.8.8") })
		b.after(checkEvery)
		b.wantExternal("8.8.8.8:9978")
		b.routers[0].set(func() { b.routers[0].address = netip.IPv4Unspecified() })
		b.after(checkEvery)
		b.wantExternal("")
		b.wantStatus("either its line is down")
	})
}

func TestPortTaken(t *testing.T) {
	var ports []uint16
	for _, taken := range []string{"TCP 9978", "UDP 9978"} {
		prepare := func(b *bench) { b.routers[0].foreign[taken] = true }
		onBench(t, prepare, func(b *bench) {
			external, ok := b.External()
			if !ok || external.Port() < firstDynamic {
				t.Fatalf("External = %s, %v, want a dynamic port", external, ok)
			}
			b.wantEntries(b.routers[0], fmt.Sprintf("TCP %d, UDP %[1]d", external.Port()))
			b.stop()
			b.wantEntries(b.routers[0], "")
			ports = append(ports, external.Port())
		})
	}
	if ports[0] != ports[1] {
		t.Errorf("after a restart port %d became %d", ports[0], ports[1])
	}
}

func TestRouterWithoutCommonPort(t *testing.T) {
	for name, choose := range map[string]func(transport) uint16{
		"one for each": func(t transport) uint16 { return map[transport]uint16{tcp: 4000, udp: 5000}[t] },
		"privileged":   func(transport) uint16 { return 80 },
	} {
		prepare := func(b *bench) { b.routers[0].chooses = choose }
		onBench(t, prepare, func(b *bench) {
			b.after(10 * time.Second)
			b.wantExternal("")
			b.wantStatus("opens no port", "is taken")
			if renewals, _ := b.routers[0].counts(); renewals != 2*portTries {
				t.Errorf("%s: %d entries were asked for, want %d", name, renewals, 2*portTries)
			}
		})
	}
}

func TestRouterRestarts(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		b.routers[0].set(func() {
			clear(b.routers[0].entries)
			b.routers[0].forgetful = true
		})
		b.after(checkEvery)
		b.wantEntries(b.routers[0], bothEntries)
		b.wantExternal("8.8.4.4:9978")
	})
}

// TestRestartIsNotForgotten has the router refuse when it has lost the mapping.
func TestRestartIsNotForgotten(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		r := b.routers[0]
		r.set(func() {
			clear(r.entries)
			r.forgetful, r.refuse = true, refusal("the router has no mapping left")
		})
		b.after(checkEvery)
		r.set(func() { r.refuse = nil })
		b.after(checkAgain)
		b.wantEntries(r, bothEntries)
	})
}

func TestSilenceIsForgivenThrice(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		r := b.routers[0]
		r.set(func() { r.silent = true })
		b.after(checkEvery + checkAgain)
		b.wantExternal("8.8.4.4:9978") // twice
		r.set(func() { r.silent = false })
		b.after(time.Minute)
		r.set(func() { r.silent = true })
		b.after(checkEvery + time.Minute)
		b.wantExternal("")
		b.wantStatus("does not answer")
		r.set(func() { r.silent = false })
		b.after(firstPause)
		b.wantExternal("8.8.4.4:9978")
	})
}

// TestBeginsAnew has a router that is silent for a day, and once more after it
// has given a port that is not its first choice.
func TestBeginsAnew(t *testing.T) {
	prepare := func(b *bench) { b.routers[0].silent, b.routers[0].foreign["TCP 9978"] = true, true }
	onBench(t, prepare, func(b *bench) {
		r := b.routers[0]
		b.after(24 * time.Hour)
		r.set(func() { r.silent = false })
		b.after(lastPause)
		external, ok := b.External()
		if !ok {
			t.Fatalf("not mapped: %s", b.Status())
		}
		r.set(func() { r.silent, r.foreign = true, nil })
		b.after(checkEvery + time.Minute)
		b.wantExternal("")
		r.set(func() { r.silent = false })
		b.after(4 * firstPause)
		b.wantExternal(external.String())
	})
}

func TestEndIsBounded(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		b.routers[0].set(func() { b.routers[0].hangs = true })
		if took := b.stop(); took > removeWithin {
			t.Errorf("ended after %s, want at most %s", took, removeWithin)
		}
	})
	prepare := func(b *bench) { b.routers[0].hangs = true }
	onBench(t, prepare, func(b *bench) {
		if took := b.stop(); took > removeWithin {
			t.Errorf("ended after %s while the router was asked, want at most %s", took, removeWithin)
		}
	})
}

// TestEndAmidConflict ends while the port of one transport is given back.
func TestEndAmidConflict(t *testing.T) {
	prepare := func(b *bench) {
		b.routers[0].refuse = func(t transport) error {
			b.routers[0].hangs = t == udp
			return map[transport]error{udp: errConflict}[t]
		}
	}
	onBench(t, prepare, func(b *bench) {
		if took := b.stop(); took > removeWithin {
			t.Errorf("ended after %s, want at most %s", took, removeWithin)
		}
	})
}

func TestOtherRoute(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		other := homeRoute
		other.local = netip.MustParseAddr("192.168.1.8")
		b.reroute(other, nil)
		b.after(routeEvery)
		b.wantExternal("8.8.4.4:9978")
		b.wantStatus("(192.168.1.8)")
		if renewals, removals := b.routers[0].counts(); renewals != 4 || removals != 2 {
			t.Errorf("%d entries made and %d removed, want 4 and 2", renewals, removals)
		}
		b.reroute(route{}, nil)
		b.after(routeEvery)
		b.wantExternal("")
		b.wantStatus("no default route")
		b.wantEntries(b.routers[0], "")
		b.reroute(homeRoute, nil)
		b.after(routeEvery)
		b.wantExternal("8.8.4.4:9978")
	})
}

func TestKernelDoesNotAnswer(t *testing.T) {
	onBench(t, asTheyAre, func(b *bench) {
		b.reroute(route{}, errors.New("too many open files"))
		b.after(time.Minute)
		b.wantExternal("8.8.4.4:9978") // it says nothing of the route
	})
	prepare := func(b *bench) { b.wayErr = errors.New("too many open files") }
	onBench(t, prepare, func(b *bench) {
		b.wantStatus("too many open files")
		b.reroute(homeRoute, nil)
		b.after(routeEvery)
		b.wantExternal("8.8.4.4:9978")
	})
}

func TestNothingIsAskedWhereNothingIsToMap(t *testing.T) {
	with := func(change func(*route)) route {
		r := homeRoute
		change(&r)
		return r
	}
	for _, tt := range []struct {
		way              route
		external, status string
	}{
		{route{}, "", "no default route"},
		{with(func(r *route) { r.local = outside }), "8.8.4.4:9978", "8.8.4.4 is public"},
		{with(func(r *route) { r.lan, r.name = false, "wg0" }), "", "through wg0, which looks like a VPN"},
		{with(func(r *route) { r.gateway = netip.Addr{} }), "", "to no router"},
	} {
		prepare := func(b *bench) {
			b.way = tt.way
			b.gateways = func(route, uint16, time.Duration) []gateway {
				t.Error("a router was asked")
				return nil
			}
		}
		onBench(t, prepare, func(b *bench) {
			b.after(time.Hour)
			b.wantExternal(tt.external)
			b.wantStatus(tt.status)
			b.stop()
			b.wantExternal("")
		})
	}
}

func TestExternalDoesNotAllocate(t *testing.T) {
	m, err := New(Config{Port: testPort})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { m.External() }); n != 0 {
		t.Errorf("External allocates %v times", n)
	}
}
