// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"math"
	"testing"
	"time"
)

// The paper model of docs/scale.md: what a network of N reachable nodes of one
// release and architecture does, from the law of how many machines have a package.
const (
	// archive is the number of packages of bookworm, main, amd64.
	archive = 63440
	// A popularity contest finds four packages in five on less than one machine in
	// a hundred (Dale and Liu, 2008), and p falling with this power of the rank.
	exponent           = 1.9
	rankOfOneInHundred = archive / 5
	// behind is how many machines ask for each that can be reached: it and two
	// behind NAT.
	behind = 3
	// fileBytes is the mean of the 1,522 packages of a GNOME desktop, bigFiles the
	// share of them from 64 KiB up, bigBytes their share of the bytes.
	fileBytes, bigFiles, bigBytes = 994.5e6 / 1522, 0.599, 0.981
	// upload is the default limit of a node, in bytes per second.
	upload = 500e3
)

// has is the share of machines that have the package of a rank.
func has(rank int) float64 {
	all := rankOfOneInHundred * math.Pow(0.01, 1/exponent)
	return min(1, math.Pow(all/float64(rank), exponent))
}

// questions are those of a lookup among n nodes, renewal and look the packets of
// an announce that is renewed and of a look whether a key has plenty: as
// TestMultitude and TestMillionBudget count them.
func questions(n float64) float64 { return min(n-1, 17+7.6*math.Log10(n)) }
func renewal(n float64) float64   { return 2 * (min(n-1, 13) + min(n-1, bucketSize)) }
func look(n float64) float64      { return 2 * min(n-1, 9+2*math.Log10(n)) }

// onPaper is what one node of n does, and what the network does for a machine.
type onPaper struct {
	held, due, announced float64 // keys: in the store; to be announced; of them, within the budget
	packets              float64 // per second, to announce and to look for plenty
	update, install      float64 // share of requests for which a peer is found
	carried              float64 // share of a day's updates that the announced peers can upload
}

// model works out a network of n nodes in which enough peers are plenty, and keys
// that have plenty are looked at every so often.
func model(n, enough float64, every time.Duration) (p onPaper) {
	for rank := 1; rank <= archive; rank++ {
		p.held += has(rank)
		p.due += has(rank) * min(1, enough/(n*has(rank)))
	}
	capacity := packetRate * renewAfter.Seconds() / renewal(n)
	kept := min(1, capacity/p.due)
	p.announced = p.due * kept
	p.packets = p.announced*renewal(n)/renewAfter.Seconds() + (p.held-p.due)*look(n)/every.Seconds()
	for rank := 1; rank <= archive; rank++ {
		weight, h := has(rank)/p.held, has(rank)*kept
		// Of those who fetch a new file one after the other, the first finds nobody.
		update := 1 - (1-math.Pow(1-h, n))/(n*h)
		supply := min(enough, n*h) * upload * 24 * 3600
		p.update += weight * update
		p.install += weight * (1 - math.Pow(1-h, n-1))
		p.carried += weight * min(update, supply/(n*behind*has(rank)*fileBytes))
	}
	return p
}

// TestPaper prints the model, and holds it to the bounds of the code.
func TestPaper(t *testing.T) {
	t.Logf("%9s %5s %9s %7s %9s %14s %14s %8s", "nodes", "held", "announced", "stored", "packets/s", "update: files", "install: files", "carried")
	last := onPaper{announced: math.Inf(1)}
	for _, n := range []float64{10, 100, 1e3, 1e4, 1e5, 1e6} {
		p := model(n, plenty, lookAgainLast)
		stored := p.announced * min(bucketSize, n-1)
		t.Logf("%9.0f %5.0f %9.1f %7.0f %9.2f %6.1f%% %6.1f%% %6.1f%% %6.1f%% %7.1f%%", n, p.held, p.announced, stored, p.packets,
			100*bigFiles*p.update, 100*bigBytes*p.update, 100*bigFiles*p.install, 100*bigBytes*p.install, 100*p.carried)
		if p.packets > packetRate || stored > maxPeers || p.announced < p.due {
			t.Errorf("%v nodes are over a bound: %+v, %.0f peers stored", n, p, stored)
		}
		if p.announced > last.announced || p.update < last.update || p.install < last.install {
			t.Errorf("%v nodes do worse than fewer", n)
		}
		last = p
	}
}

// TestPaperLimits prints where the model comes to its limits.
func TestPaperLimits(t *testing.T) {
	often, rarely := model(1e6, plenty, lookAgainFirst), model(1e6, plenty, lookAgainLast)
	t.Logf("a million nodes that look for plenty every %v: %.1f packets/s, every %v: %.1f", lookAgainFirst, often.packets, lookAgainLast, rarely.packets)
	if rarely.packets > 2 {
		t.Errorf("%.1f packets/s to keep hardly a key announced", rarely.packets)
	}
	for _, enough := range []float64{plenty, 50} {
		p := model(1e6, enough, lookAgainLast)
		t.Logf("a million nodes, plenty at %v: %.1f keys announced, %.0f%% of the updates carried", enough, p.announced, 100*p.carried)
	}
	for _, file := range []struct {
		name        string
		bytes, have float64
	}{
		{"a file of mean size that all have", fileBytes, 1},
		{"Packages.xz of main", 8790396, 1},
		{"a kernel that two in three have", 70e6, 0.67},
	} {
		t.Logf("%s: %d peers carry it for up to %.0f nodes a day", file.name, plenty, plenty*upload*24*3600/(behind*file.bytes*file.have))
	}
	const spread = 12 * 3600 // of apt-daily.timer
	hot := answerRate * spread / float64(behind)
	t.Logf("a key that all machines look up once in 12 h: the nodes nearest to it answer them up to %.1f million nodes", hot/1e6)
	if hot < 1e6 {
		t.Error("a million nodes are too many for the nodes nearest to one key")
	}
	for _, n := range []float64{100, 1e3, 1e4, 1e5, 1e6, 1e7} {
		each := 2 * questions(n)
		t.Logf("%8.0f nodes: %3.0f packets a lookup, %2.0f lookups at once, then one in %.1f s; 18 of an upgrade in %2.0f s, 180 of an installation in %3.0f s",
			n, each, lookupCredit/each, each/packetRate, max(0, 18*each-lookupCredit)/packetRate, max(0, 180*each-lookupCredit)/packetRate)
	}
}
