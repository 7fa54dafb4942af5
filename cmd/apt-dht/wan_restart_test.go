// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"testing"
	"time"
)

func init() {
	wanScenarios["KilledWhileItTakes"] = func(t *testing.T, w *world) { wanEndsWhileItTakes(t, w, (*lanMachine).kill) }
	wanScenarios["StoppedWhileItTakes"] = func(t *testing.T, w *world) { wanEndsWhileItTakes(t, w, (*lanMachine).stop) }
	wanScenarios["KilledWhileItGives"] = wanKilledWhileItGives
	wanScenarios["AnnouncesOutliveACrash"] = wanAnnouncesOutliveACrash
	wanScenarios["OfficeAsksOnce"] = wanOfficeAsksOnce
	wanScenarios["OnlyDHTNodeIsRestarted"] = wanOnlyDHTNodeIsRestarted
	wanScenarios["AddressChanges"] = func(t *testing.T, w *world) { wanAddressChanges(t, w, worldPlan) }
	wanScenarios["AddressChangesAtACompany"] = func(t *testing.T, w *world) { wanAddressChanges(t, w, companyPlan) }
}

// wanAddressChanges: a machine gets another address while its node runs, and yet
// another while it does not. Soon the DHT knows it there.
func wanAddressChanges(t *testing.T, w *world, plan addressPlan) {
	in := newInternet(t, w, plan)
	some := w.only("net-b-05", "net-b-08")
	site := in.site()
	m := site.machine()
	move := func(number string) {
		ipBatch(t, m.host.name, "addr del "+m.ip+"/24 dev eth0")
		m.ip = site.network + number
		ipBatch(t, m.host.name, "addr add "+m.ip+"/24 dev eth0", "route add default via "+site.gateway)
	}
	announced := func() {
		began := time.Now()
		in.swarm.wantHolder(m.wanAddr(), some)
		wantWithin(t, "its files are announced at "+m.ip, began, 30*time.Second)
	}
	m.serve(in.wanFlags()...)
	m.update()
	m.download(namesOf(some)...)
	announced()
	move("77")
	announced()
	m.stop()
	move("78")
	m.serveAgain()
	announced()
}

// wanOnlyDHTNodeIsRestarted: a company's one DHT node is started again. It still
// knows who has what: holders will not tell it for half an hour.
func wanOnlyDHTNodeIsRestarted(t *testing.T, w *world) {
	in := newInternet(t, w, companyPlan)
	entry, restart := in.bootstrap()
	in.entry = entry
	some := w.only("net-b-05", "net-b-08")
	holder := in.node("--upload-limit", "100MB")
	holder.update()
	holder.downloadAndAnnounce(some)
	restart()

	m := in.node()
	m.update()
	m.inDHTOf(2)
	in.mirror.down()
	wan, _ := m.fetched(func() { m.download(namesOf(some)...) })
	m.wantPackages(some)
	if wan < sizeOf(some) {
		t.Errorf("%d bytes of %d came from the holder", wan, sizeOf(some))
	}
}

// wanEndsWhileItTakes: a node ends while it takes a large file from a peer, and
// the mirror is off. Started again, it takes the rest.
func wanEndsWhileItTakes(t *testing.T, w *world, end func(*lanMachine)) {
	in := newInternet(t, w, worldPlan)
	big := w.only(w.largest().name)
	seed := in.seed(big)
	seed.host.limit("eth0", 6) // 16 s for the file, more than a node that stops gives to answers under way

	m := in.node()
	m.update()
	m.inDHT()
	in.mirror.down()
	taking := m.begin("install", "--download-only", big[0].name)
	within(t, patience, "half of the file is there", func() bool { return m.wanStatus().BytesFrom.WAN > big[0].length/2 })
	before := m.wanStatus().BytesFrom.WAN
	end(m)
	taking.wait()
	seed.host.limit("eth0", 100)
	m.serveAgain()
	m.inDHT()
	wan, mirror := m.fetched(func() { m.download(big[0].name) })
	m.wantPackages(big)
	// What had not been proven comes again: no more than is asked for ahead of the proof.
	if most := big[0].length - before + 3<<20; wan > most || wan == 0 || mirror > 0 {
		t.Errorf("%d bytes came from the peer before, %d after, of a file of %d; %d from a mirror that is down", before, wan, big[0].length, mirror)
	}
	t.Logf("%d bytes came before, %d after, of %d", before, wan, big[0].length)
}

// wanKilledWhileItGives: of two peers that have a file one is killed while it
// gives. The other brings the rest, though the mirror is off.
func wanKilledWhileItGives(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	big := w.only(w.largest().name)
	first, second := in.seed(big), in.seed(big)
	first.host.limit("eth0", 15)
	second.host.limit("eth0", 15)
	m := in.node()
	m.update()
	m.inDHT()
	in.mirror.down()
	taking := m.begin("install", "--download-only", big[0].name)
	given := func(from *lanMachine) func() bool {
		return func() bool { return from.wanStatus().BytesTo.WAN > 1<<20 }
	}
	within(t, patience, "both give", func() bool { return given(first)() && given(second)() })
	first.kill()
	began := time.Now()
	finish(taking)
	wantWithin(t, "the other peer has brought the rest", began, 15*time.Second)
	m.wantPackages(big)
	if wan := m.wanStatus().BytesFrom.WAN; wan > big[0].length*5/4 {
		t.Errorf("%d bytes were taken for a file of %d", wan, big[0].length)
	}
}

// wanAnnouncesOutliveACrash: a node that is killed and started again knows what
// it has announced, and does not do so again.
func wanAnnouncesOutliveACrash(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	set := w.set("b")
	m := in.seed(set)
	settled(t, in.swarm, 3*time.Second)
	before := m.wanStatus().DHT
	if before.Announced < len(set) {
		t.Errorf("%d packages are announced, the status tells of %d", len(set), before.Announced)
	}
	time.Sleep(2 * time.Second) // rows are written a moment after they change
	m.kill()
	in.swarm.forget()
	m.serveAgain()
	began := time.Now()
	within(t, patience, "it knows what it has announced", func() bool { return m.wanStatus().DHT.Announced >= before.Announced })
	wantWithin(t, "the announces are known after the restart", began, 10*time.Second)
	m.inDHT()
	settled(t, in.swarm, 4*time.Second)
	if again := len(in.swarm.queries("announce_peer")); again > before.Announced {
		t.Errorf("%d announces were sent again for %d keys (8 each)", again, before.Announced)
	}
	if after := m.wanStatus().DHT; after.Offered < before.Offered {
		t.Errorf("%d blobs are offered after the restart, %d before", after.Offered, before.Offered)
	}
	taker := in.node()
	taker.update()
	taker.inDHT()
	in.mirror.down()
	taker.download(namesOf(set)...)
	taker.wantPackages(set)
}

// wanOfficeAsksOnce: three machines of an office, which know each other, want the
// same at the same moment. One asks the DHT and takes it from a peer, the others
// have it from that one.
func wanOfficeAsksOnce(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	in.origin.limit("eth0", 15)
	set := w.set("a")
	in.seed(set)
	office := in.home() // one address for all
	var machines []*lanMachine
	for range 3 {
		m := office.machine()
		m.serve(in.wanFlags()...)
		machines = append(machines, m)
	}
	acquainted(t, machines...)
	together(machines, "update")
	for _, m := range machines {
		m.inDHT()
	}
	in.swarm.forget()
	uplink := new(crossings)
	in.mirror.misbehave(uplink.count)
	before := wanOf(machines)
	together(machines, append([]string{"install", "--download-only"}, namesOf(set)...)...)
	for _, m := range machines {
		m.wantPackages(set)
	}
	wan := wanOf(machines) - before
	uplink.mu.Lock()
	mirror := uplink.to[office.outside]
	uplink.mu.Unlock()
	size := sizeOf(set)
	t.Logf("%d bytes of %d crossed the uplink from peers, %d from the mirror", wan, size, mirror)
	// What is on its way when peers and mirror meet in a file crosses twice: on idle cores nothing.
	if wan+mirror > size*120/100 || wan < size*3/4 {
		t.Errorf("%d bytes of peers and %d of the mirror crossed the uplink for %d", wan, mirror, size)
	}
	askers := map[dhtID]map[dhtID]bool{}
	for _, q := range in.swarm.queries("get_peers") {
		if q.from.Addr().String() != office.outside {
			continue
		}
		if askers[q.key] == nil {
			askers[q.key] = map[dhtID]bool{}
		}
		askers[q.key][q.id] = true
	}
	for _, p := range set {
		if n := len(askers[keyOf(p.digest)]); n > 1 {
			t.Errorf("%d machines of the office asked the DHT for %s", n, p.name)
		}
	}
	if len(askers) == 0 {
		t.Error("nobody asked the DHT")
	}
}

func wanOf(machines []*lanMachine) (total int64) {
	for _, m := range machines {
		total += m.wanStatus().BytesFrom.WAN
	}
	return total
}
