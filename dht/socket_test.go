// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// failing is a socket whose reads fail, each with the next of errs, and then wait
// for Close.
type failing struct {
	*wire
	errs []error
}

func (f *failing) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return 0, nil, err
	}
	return f.wire.ReadFrom(b)
}

func TestReadErrorsAreSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		sick := &failing{wire: world.listen(publicAddr(1))}
		for range 50 {
			sick.errs = append(sick.errs, syscall.ENETDOWN, syscall.ECONNREFUSED, os.ErrDeadlineExceeded, errors.New("odd"))
		}
		start(t, Config{IPv4: sick, Reachable: at(7000)})
		n := start(t, Config{IPv4: world.listen(publicAddr(2)), Reachable: at(7000), Bootstrap: []string{publicAddr(1).String()}})
		time.Sleep(10 * time.Minute)
		if got := n.Stats().GoodNodes; got != 1 {
			t.Errorf("the node with the sick socket is not back: %d good nodes", got)
		}
	})
}

func TestSocketClosedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newInternet().listen(publicAddr(1))
		n, err := New(Config{IPv4: conn, Log: quiet(), Bootstrap: []string{publicAddr(2).String()}})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { _ = conn.Close() })
		err = n.Run(context.Background())
		if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "closed by others") {
			t.Errorf("Run: %v", err)
		}
		for peer := range n.Lookup(context.Background(), keyOf(1)) {
			t.Errorf("a node that has ended found %v", peer)
		}
	})
}

func TestPacketsThatAreNotRead(t *testing.T) {
	d := newDesk(t, false)
	f := d.families[0]
	port := f.socket.open()
	ping, _ := encode(krpc.Msg{T: "t", Y: "q", Q: "ping", A: args(1)})
	for _, from := range []string{"10.0.0.1:6881", "127.0.0.1:6881", "5.1.1.1:53", "224.0.0.1:6881"} {
		if sent := d.put(ping, netip.MustParseAddrPort(from)); len(sent) != 0 {
			t.Errorf("%v is answered", from)
		}
	}
	if sent := d.put(append(ping, make([]byte, maxPacket)...), publicAddr(1)); len(sent) != 0 {
		t.Error("an oversized packet is answered")
	}
	answer, _ := encode(krpc.Msg{T: "t", Y: "r", R: &krpc.Return{ID: keyOf(1)}})
	d.put(answer, publicAddr(1))
	if len(port.in) != 0 {
		t.Error("the library gets an answer to nothing")
	}
	f.contacts.asking(publicAddr(1), "t")
	forged, _ := encode(krpc.Msg{T: "u", Y: "r", R: &krpc.Return{ID: keyOf(1)}})
	d.put(forged, publicAddr(1))
	if len(port.in) != 0 {
		t.Error("the library gets an answer to another question")
	}
	before := f.socket.budget.tokens
	for range 10 {
		d.put(answer, publicAddr(1))
	}
	if owed := before - f.socket.budget.tokens; len(port.in) != 1 || owed > 1 {
		t.Errorf("for one question the library gets %d answers, %.1f are counted", len(port.in), owed)
	}
	for range 3 * portBacklog {
		f.contacts.asking(publicAddr(1), "t")
		d.put(answer, publicAddr(1))
	}
	if len(port.in) != portBacklog {
		t.Errorf("the library gets %d answers", len(port.in))
	}
}

// Who was asked may not ask more than others.
func TestAskedNodeMayNotFlood(t *testing.T) {
	d := newDesk(t, false)
	d.families[0].contacts.asking(publicAddr(1), "t")
	answered := 0
	for range 5 * maxUnasked {
		if d.query(publicAddr(1), "ping", args(1)) != nil {
			answered++
		}
	}
	if most := 2 * maxUnasked; answered == 0 || answered > most { // a second may end meanwhile
		t.Errorf("%d answers to one that was asked, want at most %d", answered, most)
	}
	if left := d.families[0].answers.Tokens(); left < modestBurst-1 {
		t.Errorf("it leaves %.0f answers for others", left)
	}
}

func TestPacketsThatAreNotSent(t *testing.T) {
	d := newDesk(t, false)
	port := d.families[0].socket.open()
	for _, to := range []string{"10.0.0.1:6881", "127.0.0.1:6881", "5.1.1.1:53", "[2a00::1]:6881", "169.254.169.254:8080"} {
		addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
		if _, err := port.WriteTo([]byte("d1:y1:qe"), addr); !errors.Is(err, errForbidden) {
			t.Errorf("to %v: %v", to, err)
		}
	}
	if len(d.conn.sent) != 0 {
		t.Errorf("sent %v", d.conn.sent)
	}
	_ = port.Close()
	_ = port.Close()
	if _, err := port.WriteTo(nil, net.UDPAddrFromAddrPort(publicAddr(1))); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, _, err := port.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContacts()
		addr := publicAddr(1)
		if c.expected(addr) || c.silent(addr) {
			t.Error("a stranger is known")
		}
		c.asking(addr, "a")
		if !c.expected(addr) || c.silent(addr) {
			t.Error("no answer is expected of whom was asked")
		}
		time.Sleep(silentAfter + time.Second)
		c.asking(addr, "a")
		c.asking(addr, "b")
		if !c.silent(addr) {
			t.Error("who does not answer is not silent")
		}
		if c.answered(addr, "c") || !c.silent(addr) {
			t.Error("a forged answer counts")
		}
		if !c.answered(addr, "a") || c.answered(addr, "a") {
			t.Error("an answer does not count once")
		}
		if c.silent(addr) || !c.expected(addr) {
			t.Error("who answered one question of two is silent, or owes nothing")
		}
		c.answered(addr, "b")
		if c.expected(addr) {
			t.Error("who has answered owes an answer")
		}
		c.asking(addr, "d")
		time.Sleep(answerWindow)
		if c.expected(addr) || !c.silent(addr) {
			t.Error("an answer is expected for ever")
		}
		time.Sleep(silentFor)
		if c.silent(addr) {
			t.Error("the silent are never tried again")
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget()
		began := time.Now()
		for range 60 * packetRate {
			if err := b.wait(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			b.spend()
		}
		if took := time.Since(began); took < 59*time.Second || took > 66*time.Second {
			t.Errorf("60 s worth of packets took %v", took)
		}
		for range lookupCredit / 2 {
			b.spend()
		}
		if err := b.wait(t.Context(), lookupCredit); err != nil || b.pause(lookupCredit) > 0 {
			t.Errorf("lookups have no credit: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.wait(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait does not heed its context: %v", err)
		}
	})
}
