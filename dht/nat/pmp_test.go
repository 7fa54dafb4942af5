// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// udpPeer answers packets until the test ends.
type udpPeer struct {
	addr netip.AddrPort
	conn *net.UDPConn

	mu sync.Mutex // guards following
	// received are all packets.
	received [][]byte
}

// newUDPPeer listens on a port of ip; answer is told the number of a packet,
// from 0, and the packet.
func newUDPPeer(t *testing.T, ip string, answer func(i int, packet []byte) [][]byte) *udpPeer {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	p := &udpPeer{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.serve(answer)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return p
}

func (p *udpPeer) serve(answer func(i int, packet []byte) [][]byte) {
	packet := make([]byte, 2048)
	for i := 0; ; i++ {
		n, from, err := p.conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.received = append(p.received, bytes.Clone(packet[:n]))
		p.mu.Unlock()
		for _, a := range answer(i, packet[:n]) {
			p.conn.WriteToUDPAddrPort(a, from)
		}
	}
}

func (p *udpPeer) packets() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.received)
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newTestPMP(server netip.AddrPort) *pmp {
	return &pmp{server: server, local: loopback, port: testPort, lease: leaseTime}
}

func TestParsePMP(t *testing.T) {
	for _, tt := range []struct {
		name   string
		packet string
		op     opcode
		want   pmpReply
		ok     bool
	}{
		{"address", "00 80 0000 00000064 08080404", opAddress, pmpReply{epoch: 100, external: outside}, true},
		{"TCP", "00 82 0000 00000001 26fa 26fb 00000e10", opTCP, pmpReply{epoch: 1, externalPort: 9979, lifetime: time.Hour}, true},
		{"UDP", "00 81 0000 00000001 26fa 26fa 00000001", opUDP, pmpReply{epoch: 1, externalPort: 9978, lifetime: time.Second}, true},
		{"refused", "00 82 0002 00000001 26fa 0000 00000000", opTCP, pmpReply{code: 2, epoch: 1}, true},
		{"refused briefly", "00 80 0003 00000001", opAddress, pmpReply{code: 3, epoch: 1}, true},
		{"PCP alone", "02 80 0001 00000000 00000000 00000000 00000000 00000000", opAddress, pmpReply{code: pmpVersion}, true},
		{"a request", "00 00 0000 00000064 08080404", opAddress, pmpReply{}, false},
		{"other request's", "00 81 0000 00000001 26fa 26fa 00000e10", opTCP, pmpReply{}, false},
		{"other port's", "00 82 0000 00000001 26fb 26fa 00000e10", opTCP, pmpReply{}, false},
		{"short address", "00 80 0000 00000064 080804", opAddress, pmpReply{}, false},
		{"long address", "00 80 0000 00000064 0808040400", opAddress, pmpReply{}, false},
		{"short mapping", "00 82 0000 00000001 26fa 26fa 00000e", opTCP, pmpReply{}, false},
		{"no epoch", "00 80 0000 000000", opAddress, pmpReply{}, false},
		{"empty", "", opAddress, pmpReply{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parsePMP(unhex(t, tt.packet), tt.op, testPort)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %v, want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParsePMP(f *testing.F) {
	f.Add(unhex(f, "00 80 0000 00000064 08080404"), byte(0))
	f.Add(unhex(f, "00 82 0000 00000001 26fa 26fb 00000e10"), byte(2))
	f.Add(unhex(f, "00 81 0003 00000001"), byte(1))
	f.Fuzz(func(t *testing.T, packet []byte, op byte) {
		request := opcode(op % 3)
		reply, ok := parsePMP(packet, request, testPort)
		if !ok {
			if reply != (pmpReply{}) {
				t.Fatalf("no answer, but %+v", reply)
			}
			return
		}
		if failed := reply.failure() != nil; failed != (reply.code != 0) {
			t.Fatalf("%+v: failure %v", reply, reply.failure())
		}
		bare := pmpReply{code: reply.code, epoch: reply.epoch}
		isAddress, isMapping := request == opAddress && reply.external.Is4(), request != opAddress && len(packet) == 16
		if whole := isAddress || isMapping; reply.code == 0 && !whole || reply.code != 0 && reply != bare {
			t.Fatalf("%x gives %+v", packet, reply)
		}
	})
}

func TestPMPNoticesRestarts(t *testing.T) {
	began := time.Now()
	for _, tt := range []struct {
		name      string
		epoch     uint32
		after     time.Duration
		restarted bool
	}{
		{"as expected", 1180, 180 * time.Second, false},
		{"slow clock", 1160, 180 * time.Second, false},
		{"fast clock", 1250, 180 * time.Second, false},
		{"same second", 998, 0, false},
		{"from nothing", 3, 180 * time.Second, true},
		{"long ago", 1100, 200 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pmp{}
			p.heard(1000, began)
			p.heard(tt.epoch, began.Add(tt.after))
			p.heard(tt.epoch, began.Add(tt.after))
			if lost, err := p.lost(t.Context(), testPort); lost != tt.restarted || err != nil {
				t.Errorf("lost = %v, %v, want %v", lost, err, tt.restarted)
			}
			if lost, _ := p.lost(t.Context(), testPort); lost {
				t.Error("lost twice for one restart")
			}
		})
	}
}

// TestPMPDialogue has a router that loses the first packet of each request and
// sends nonsense before its answers.
func TestPMPDialogue(t *testing.T) {
	server := newUDPPeer(t, "127.0.0.1", func(i int, packet []byte) [][]byte {
		if i%2 == 0 {
			return nil
		}
		nonsense := [][]byte{{}, {0}, bytes.Repeat([]byte{0xff}, 1500), unhex(t, "00 81 0000 00000001 0001 0001 00000e10")}
		if packet[1] == 0 {
			return append(nonsense, unhex(t, "00 80 0000 00000001 08080404"))
		}
		answer := binary.BigEndian.AppendUint32([]byte{0, packet[1] | 0x80, 0, 0}, 1)
		return append(nonsense, append(answer, packet[4:]...))
	})
	p := newTestPMP(server.addr)
	if addr, err := p.external(t.Context()); addr != outside || err != nil {
		t.Fatalf("external = %s, %v", addr, err)
	}
	if port, lease, err := p.add(t.Context(), tcp, 5000); port != 5000 || lease != leaseTime || err != nil {
		t.Fatalf("add = %d, %s, %v", port, lease, err)
	}
	if err := p.remove(t.Context(), udp, 5000); err != nil {
		t.Fatalf("remove: %v", err)
	}
	for i, want := range []string{"00 00", "00 02 0000 26fa 1388 00000e10", "00 01 0000 26fa 0000 00000000"} {
		if request := server.packets()[2*i]; !bytes.Equal(request, unhex(t, want)) {
			t.Errorf("request %d is %x, want %s", i, request, want)
		}
	}
}

func TestPMPGrantOfNothing(t *testing.T) {
	server := newUDPPeer(t, "127.0.0.1", func(_ int, packet []byte) [][]byte {
		return [][]byte{unhex(t, "00 82 0000 00000001 26fa 0000 00000e10")}
	})
	if port, lease, err := newTestPMP(server.addr).add(t.Context(), tcp, testPort); err == nil {
		t.Errorf("add = %d, %s, want an error", port, lease)
	}
}

func TestPMPFailures(t *testing.T) {
	for code, want := range map[byte]string{2: "does not allow", 3: "no connection to the internet", 77: "code 77"} {
		server := newUDPPeer(t, "127.0.0.1", func(_ int, packet []byte) [][]byte {
			return [][]byte{{0, packet[1] | 0x80, 0, code, 0, 0, 0, 1}}
		})
		if _, err := newTestPMP(server.addr).external(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("code %d: error %v, want %q", code, err, want)
		}
	}
}

// TestPMPRefusedByPort has a router where nothing listens: it is not asked again.
func TestPMPRefusedByPort(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := newTestPMP(server).external(ctx); !errors.Is(err, errSilent) {
		t.Errorf("error %v, want %v", err, errSilent)
	}
	if took := time.Since(began); took > pmpFirstWait {
		t.Errorf("took %s", took)
	}
}

// TestPMPFlood has a router that answers without end, but never what was asked.
func TestPMPFlood(t *testing.T) {
	flood := make([][]byte, 2000)
	for i := range flood {
		flood[i] = []byte("no answer at all")
	}
	server := newUDPPeer(t, "127.0.0.1", func(int, []byte) [][]byte { return flood })
	ctx, cancel := context.WithTimeout(t.Context(), pmpFirstWait)
	defer cancel()
	began := time.Now()
	if _, err := newTestPMP(server.addr).external(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}
