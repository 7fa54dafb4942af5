// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

// listener is a member that notes what is announced to it.
type listener struct {
	discovery.Member
	server *httptest.Server

	mu       sync.Mutex // guards following
	have     map[Digest]int
	gone     map[Digest]int
	messages int
	broken   bool
}

func newListener(t *testing.T, id string) *listener {
	l := &listener{have: map[Digest]int{}, gone: map[Digest]int{}}
	l.server = httptest.NewServer(l)
	t.Cleanup(l.server.Close)
	l.Member = discovery.Member{ID: id, Addr: netip.MustParseAddrPort(l.server.Listener.Addr().String())}
	return l
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	var q announceQuestion
	if l.broken || err != nil || len(body) > maxQuestion || decode(body, &q) != nil {
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	l.messages++
	for _, h := range q.Have {
		l.have[Digest(h)]++
	}
	for _, h := range q.Gone {
		l.gone[Digest(h)]++
	}
	peer.Answer(w, done{spoken})
}

func (l *listener) heard() (have, times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.have {
		times += n
	}
	return len(l.have), times
}

func (l *listener) breaks(broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = broken
}

// What a node has is told to both homes of each blob, once, to whoever joins only
// what became its business, and never to itself.
func TestAnnouncing(t *testing.T) {
	const blobs = 3000
	node := newTestNode(t, 0)
	for i := range blobs {
		node.store.put(digestOf(i), nil)
	}
	var there []*listener
	var members []discovery.Member
	for i := range 4 {
		before := discovery.NewRing(node.self, members)
		joins := newListener(t, digestID(i))
		there, members = append(there, joins), append(members, joins.Member)
		ring := discovery.NewRing(node.self, members)
		node.members.set(members)
		want := map[string]int{} // by id, what each is told in all
		for b := range blobs {
			homes, k := ring.Moved(before, digestOf(b))
			for _, home := range homes[:k] {
				want[home.ID]++
			}
		}
		eventually(t, "the one that joined is told all", func() bool { n, _ := joins.heard(); return n == want[joins.ID] })
		for _, l := range there {
			if distinct, times := l.heard(); distinct != times {
				t.Errorf("%d hashes were told %d times", distinct, times)
			}
		}
	}
	eventually(t, "the store knows that its blobs were announced", func() bool { return !node.store.toldAt(digestOf(0)).IsZero() })
}

// News go to both homes within 200 ms and a little, those that others wait for
// at once, and of several about one blob the last.
func TestNews(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	holders := func() int { return nodes[1].home.Stats().Holders + nodes[2].home.Stats().Holders }
	nodes[0].store.put(d, nil)
	began := time.Now()
	nodes[0].Have(d)
	eventually(t, "both homes know", func() bool { return holders() == 2 })
	if took := time.Since(began); took > newsDelay+200*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	nodes[0].Gone(d)
	eventually(t, "both homes know that it is gone", func() bool { return holders() == 0 })
	nodes[0].Gone(d)
	began = time.Now()
	nodes[0].haveNow(d)
	eventually(t, "both homes know again", func() bool { return holders() == 2 })
	if took := time.Since(began); took > newsDelay/2 {
		t.Errorf("what others wait for took %s", took)
	}
}

// A member that did not answer is told what it missed, and no more.
func TestMissedNews(t *testing.T) {
	node := newTestNode(t, 0)
	node.store.put(digestOf(1), nil)
	l := newListener(t, digestID(1))
	node.members.set([]discovery.Member{l.Member})
	eventually(t, "it is told what there is", func() bool { n, _ := l.heard(); return n == 1 })
	eventually(t, "the store knows", func() bool { return !node.store.toldAt(digestOf(1)).IsZero() })
	node.store.announced([]Digest{digestOf(1)}, time.Now().Add(-time.Minute)) // it must not be told again
	l.breaks(true)
	node.store.put(digestOf(2), nil)
	node.Have(digestOf(2))
	eventually(t, "it failed", func() bool { return node.members.failures(l.ID) > 0 })
	node.store.put(digestOf(3), nil)
	node.Have(digestOf(3)) // while it is known to be dead
	eventually(t, "the news are spread", func() bool { return !node.store.toldAt(digestOf(3)).IsZero() })
	l.breaks(false)
	node.members.revive(l.ID)
	eventually(t, "it is told what it missed", func() bool { n, _ := l.heard(); return n == 3 })
	if _, times := l.heard(); times != 3 {
		t.Errorf("3 hashes were told %d times", times)
	}
}

// What was announced long ago, or under another id, is announced again.
func TestRenewal(t *testing.T) {
	node := newIdleNode(t, 0)
	l := newListener(t, digestID(1))
	node.members.set([]discovery.Member{l.Member})
	node.adoptRing(node.members.Members())
	node.started = time.Now().Add(-48 * time.Hour)
	now := time.Now()
	for i, at := range []time.Time{{}, now.Add(-renewEvery), now.Add(-time.Hour), now.Add(-72 * time.Hour)} {
		node.store.put(digestOf(i), nil)
		node.store.announced([]Digest{digestOf(i)}, at)
	}
	node.renew(t.Context())
	if n, times := l.heard(); n != 3 || times != 3 || l.have[digestOf(2)] != 0 {
		t.Errorf("%d hashes were told %d times: %v", n, times, l.have)
	}
	node.renew(t.Context())
	if _, times := l.heard(); times != 3 {
		t.Error("what has just been announced is announced again")
	}
}

// Where 200 nodes have 5,000 blobs each and one more joins, it is told its share,
// and the others nothing.
func TestOneJoinsMany(t *testing.T) {
	const others, blobs = 199, 5000
	node := newIdleNode(t, 0)
	for i := range blobs {
		node.store.put(digestOf(i), nil)
	}
	sink, joins := newListener(t, digestID(0)), newListener(t, digestID(others))
	var members []discovery.Member
	for i := range others {
		members = append(members, discovery.Member{ID: digestID(i), Addr: sink.Addr})
	}
	before := discovery.NewRing(node.self, members)
	members = append(members, joins.Member)
	node.members.set(members)
	node.adoptRing(members)
	node.tellMoved(t.Context(), before)
	_, rest := sink.heard()
	_, told := joins.heard()
	ideal := 2 * float64(blobs) / (others + 2)
	t.Logf("%d hashes were told to the one that joined and %d to others; ideal is %.1f", told, rest, ideal)
	if float64(told+rest) > 1.2*ideal || float64(told) < 0.8*ideal {
		t.Errorf("%d hashes were told, ideal is %.1f", told+rest, ideal)
	}
	if joins.messages != 1 {
		t.Errorf("it took %d messages", joins.messages)
	}
}

// What does not fit into one message takes several.
func TestManyAnnouncements(t *testing.T) {
	const blobs = 3*maxBatch + 1
	node := newIdleNode(t, 0)
	for i := range blobs {
		node.store.put(digestOf(i), nil)
	}
	l := newListener(t, digestID(0))
	node.members.set([]discovery.Member{l.Member})
	node.adoptRing(node.members.Members())
	node.tellMoved(t.Context(), discovery.NewRing(node.self, nil))
	if n, times := l.heard(); n != blobs || times != blobs || l.messages != 4 {
		t.Errorf("%d hashes were told %d times in %d messages", n, times, l.messages)
	}
}

// A liar is asked nothing, what it announces counts for nothing, and the log
// names it once.
func TestLiar(t *testing.T) {
	nodes := startNodes(t, 4)
	d := blobOf(nodes[0], 0, nodes[0], nodes[1])
	say := func() {
		send(nodes[0], "POST", "announce", fmt.Sprintf("%s:4711", nodes[3].Addr.Addr()),
			fmt.Sprintf(`{"v":1,"id":%q,"port":%d,"have":["%x"]}`, nodes[3].ID, nodes[3].Addr.Port(), d))
	}
	say()
	expect(t, nodes[0].findNow(d, true), "held 3")
	for range 3 {
		nodes[0].Liar(fetch.Peer(nodes[3].Member), d, "piece 4 is not the file's")
	}
	say()
	expect(t, nodes[0].findNow(d, true), "leased")
	expect(t, nodes[2].findNow(d, false), "coming 0")
	if n := strings.Count(nodes[0].log.String(), nodes[3].ID); n != 1 {
		t.Errorf("the log names the liar %d times:\n%s", n, nodes[0].log)
	}
	for _, p := range nodes[0].Peers() {
		if (p.Liar != "") != (p.ID == nodes[3].ID) {
			t.Errorf("the status of %s: %+v", p.ID, p)
		}
	}
	asked := nodes[3].asked.Load()
	for i := range 20 {
		nodes[0].findNow(blobOf(nodes[0], 100*i, nodes[3]), true)
	}
	if n := nodes[3].asked.Load(); n != asked {
		t.Errorf("the liar was asked %d times", n-asked)
	}
}
