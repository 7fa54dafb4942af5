// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"testing"
	"time"
)

// loss is how a machine is lost in the middle of a body, and comes back.
type loss struct {
	lose, heal func(*lanMachine)
	// noticed bounds how long others take to see it and to go on from elsewhere.
	noticed time.Duration
}

var losses = map[string]loss{
	"Killed": {(*lanMachine).kill, (*lanMachine).serveAgain, 3 * time.Second},
	"Paused": {(*lanMachine).pause, (*lanMachine).resume, 8 * time.Second},
	"CutOff": {(*lanMachine).pullCable, (*lanMachine).putCable, 8 * time.Second},
}

func (m *lanMachine) pullCable() { m.host.cable("eth0", false) }
func (m *lanMachine) putCable()  { m.host.cable("eth0", true) }

// kill ends the node as a power failure does.
func (m *lanMachine) kill() { m.node.kill() }

func init() {
	lanScenarios["BusyHolder"] = lanBusyHolder
	for name, l := range losses {
		lanScenarios["FetcherIs"+name] = func(t *testing.T, w *world) { lanFetcherLost(t, w, l) }
		lanScenarios["HolderIs"+name] = func(t *testing.T, w *world) { lanHolderLost(t, w, l) }
	}
}

// lanFetcherLost: one machine fetches from the mirror what others read from it,
// and is lost when it has half.
func lanFetcherLost(t *testing.T, w *world, l loss) {
	s := startLANSite(t, w, w.standard, 3)
	together(s.machines, "update")
	g := newGate(bigSize / 2)
	uplink := &crossings{fault: onlyFor(bigURI, g.fault)}
	s.mirror.misbehave(uplink.count)

	fetcher, others := s.machines[0], s.machines[1:]
	fetching := fetcher.begin("install", "--download-only", "e2e-big")
	<-g.reached
	readers := startReaders(t, others, bigSize/2-inFlight)
	loseInTheMiddle(t, l, fetcher, others)
	began := time.Now()
	g.open()
	for _, r := range readers {
		finish(r)
	}
	wantWithin(t, "the readers have the rest", began, l.noticed)
	for _, m := range others {
		m.wantPackages(w.only("e2e-big"))
	}
	if got := uplink.sent(others...); got > bigSize/2+2*inFlight {
		t.Errorf("%d bytes crossed the uplink again; the readers lacked %d", got, bigSize/2)
	}
	fetching.kill() // it has failed, or waits for the node
	lanHeals(t, s, l, fetcher)
}

// startReaders lets machines download the big package, and returns when each
// has had that many bytes from the LAN.
func startReaders(t *testing.T, machines []*lanMachine, bytes int64) (readers []*running) {
	t.Helper()
	before := map[*lanMachine]int64{}
	for _, m := range machines {
		before[m] = m.status().BytesFrom.LAN
		readers = append(readers, m.begin("install", "--download-only", "e2e-big"))
	}
	for _, m := range machines {
		eventually(t, m.ip+" reads from the LAN", func() bool { return m.status().BytesFrom.LAN-before[m] >= bytes })
	}
	return readers
}

// loseInTheMiddle loses a machine while others still read.
func loseInTheMiddle(t *testing.T, l loss, lost *lanMachine, readers []*lanMachine) {
	t.Helper()
	for _, m := range readers {
		if len(m.status().Transfers) == 0 {
			t.Errorf("%s has read all before the machine is lost", m.ip)
		}
	}
	l.lose(lost)
}

// lanHeals lets a lost machine come back. It is a member again, and what the
// others have it need not fetch.
func lanHeals(t *testing.T, s *lanSite, l loss, lost *lanMachine) {
	t.Helper()
	l.heal(lost)
	acquainted(t, s.machines...)
	s.mirror.forget()
	lost.update()
	lost.download("e2e-big")
	lost.wantPackages(s.w.only("e2e-big"))
	if got := s.mirror.sent(bigURI); got > inFlight {
		t.Errorf("%d bytes crossed the uplink for a machine that came back", got)
	}
}

// lanBusyHolder: two machines read at once from the only one that has a file, and
// fill its cable, as on a wireless LAN. It answers late then, but is not lost.
func lanBusyHolder(t *testing.T, w *world) {
	s := startLANSite(t, w, w.standard, 3)
	together(s.machines, "update")
	holder, others := s.machines[0], s.machines[1:]
	holder.download("e2e-big")
	s.wantTold(holder, w.only("e2e-big"))
	holder.host.limit("eth0", 60) // 3.4 s for both: less than mirrors are left out for
	s.mirror.forget()
	together(others, "install", "--download-only", "e2e-big")
	for _, m := range others {
		m.wantPackages(w.only("e2e-big"))
	}
	if got := s.mirror.sent(bigURI); got > bigSize/4 {
		t.Errorf("%d bytes crossed the uplink for a file that a machine holds", got)
	}
}

// lanHolderLost: a machine that has a file gives it to others, and is lost in
// the middle. Nobody else has it, so the rest comes from the mirror, once.
func lanHolderLost(t *testing.T, w *world, l loss) {
	s := startLANSite(t, w, w.standard, 3)
	together(s.machines, "update")
	holder, others := s.machines[0], s.machines[1:]
	holder.download("e2e-big")
	holder.host.limit("eth0", 40) // else all is over before it is lost
	uplink := new(crossings)
	s.mirror.misbehave(uplink.count)

	readers := startReaders(t, others, 2<<20)
	loseInTheMiddle(t, l, holder, others)
	began := time.Now()
	for _, r := range readers {
		finish(r)
	}
	wantWithin(t, "the readers have the rest", began, l.noticed)
	for _, m := range others {
		m.wantPackages(w.only("e2e-big"))
	}
	// What a reader had not proven when the holder was lost comes again.
	if got := uplink.sent(others...); got > bigSize+bigSize/4 {
		t.Errorf("%d bytes crossed the uplink for a file of %d", got, bigSize)
	}
	holder.clean()
	lanHeals(t, s, l, holder)
}
