// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"slices"
	"sync"
	"time"
)

const (
	// orderWait is how long a file that may be asked of its mirror waits for
	// those wanted before it, so that all are asked in order: some round trips
	// of a LAN.
	orderWait = 20 * time.Millisecond

	// openWait is the same while they are still being opened on disk. A mirror
	// answers in that time at worst.
	openWait = 500 * time.Millisecond

	// minShare is the least of the budget that a lane gets, in bytes.
	minShare = 128 << 10

	// maxOutside is how many files one lane fetches from outside at a time.
	maxOutside = 64

	// stale is how long a file may bring nothing and still count: what a mirror
	// does not send takes nothing from the uplink.
	stale = 2 * time.Second

	// assumedRate is what mirrors are taken to send before that has been measured,
	// in bytes per second.
	assumedRate = 2_000_000

	// assumedSize is what a file of unknown size counts for.
	assumedSize = 1 << 20
)

// pace is how slow a stream from another node may be, in bytes per second.
type pace struct {
	fair  int64 // slower ones are complained of
	floor int64 // below that the uplink is the better choice
}

// pace follows the uplink: where that is slow, everything that came over it is.
func (g *gate) pace() pace {
	g.mu.Lock()
	defer g.mu.Unlock()
	rate, measured := g.uplink.rate, g.uplink.measured
	if !measured {
		return pace{slowRate, slowest}
	}
	return pace{min(max(rate/2, slowest), slowRate), min(max(rate/4, slowest), slowRate)}
}

// mirrorRate is how fast mirrors send, in bytes per second.
func (g *gate) mirrorRate() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mirror.measured {
		return assumedRate
	}
	return g.mirror.rate
}

// mirrorQuiet tells whether no mirror has sent anything for d.
func (g *gate) mirrorQuiet(d time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.mirror.last) >= d
}

// A gate keeps the order in which files are asked of mirrors, which is the
// order in which they were wanted, and says which of them this node may take a
// lease for.
type gate struct {
	// free tells that there is nobody to leave anything to.
	free func() bool

	mu     sync.Mutex // guards following, and all lines and entries
	lines  map[lane]*line
	uplink uplink // all that comes from outside
	mirror uplink // what mirrors send of it
}

// A lane is one asker's files from one host. The files of different lanes do
// not wait for each other: neither a slow mirror nor a large file of somebody
// else's must hold them up.
type lane struct{ host, flow string }

// A line holds the files of a lane in the order in which they were wanted.
type line struct {
	entries []*entry
	waiting int         // entries that wait for their turn
	held    int         // entries that are ready, but not sent
	timer   *time.Timer // to look again; nil: never needed
}

// An entry is one file's place. It is made by enter and must leave.
type entry struct {
	gate *gate
	lane lane

	// gate.mu guards following
	stage stage
	left  int64         // bytes still to come from outside
	turn  chan struct{} // closed when a lease may be asked for
	ask   func()        // sends the request
	sent  chan struct{} // closed when it has been sent
	late  bool          // the others no longer wait for it
	since time.Time     // when its stage began, or bytes came last
}

// A stage is how far an entry has come.
type stage int

const (
	opening    stage = iota // it is being opened
	unanswered              // it is not known where its bytes will come from
	waiting                 // from outside, once it is within the budget
	ready                   // from outside, once its turn has come
	outside                 // the mirror has been asked
	abroad                  // nodes on the internet are, or are looked for
	inside                  // they come from other nodes
)

func newGate(free func() bool) *gate {
	return &gate{free: free, lines: map[lane]*line{}}
}

// enter puts a file of size bytes, -1 for unknown, at the end of its lane.
func (g *gate) enter(l lane, size int64) *entry {
	if size < 0 {
		size = assumedSize
	}
	e := &entry{gate: g, lane: l, left: size, turn: make(chan struct{}), sent: make(chan struct{}), since: time.Now()}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lines[l] == nil {
		g.lines[l] = &line{}
	}
	g.lines[l].entries = append(g.lines[l].entries, e)
	return e
}

// leave ends the entry. It may be called in any stage, once.
func (e *entry) leave() {
	g := e.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.lines[e.lane]
	e.moveLocked(q, inside)
	q.entries = slices.DeleteFunc(q.entries, func(other *entry) bool { return other == e })
	if len(q.entries) == 0 {
		if q.timer != nil {
			q.timer.Stop()
		}
		delete(g.lines, e.lane)
		return
	}
	g.pumpLocked(q)
}

// mayLease tells whether the file is within the budget.
func (e *entry) mayLease() bool {
	g := e.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.newWindow()
	for _, other := range g.lines[e.lane].entries {
		if other == e {
			break
		}
		w.takes(other)
	}
	return w.fits(e.left)
}

// awaitTurn says that nobody else has the file. The channel is closed when it
// is within the budget; the others then wait for the next answer again.
func (e *entry) awaitTurn() <-chan struct{} {
	g := e.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.lines[e.lane]
	e.turn = make(chan struct{})
	e.moveLocked(q, waiting)
	turn := e.turn
	g.pumpLocked(q)
	return turn
}

// send calls ask, which must not block, as soon as those before it have been
// sent or are known not to be, and returns then.
func (e *entry) send(ask func()) {
	g := e.gate
	g.mu.Lock()
	q := g.lines[e.lane]
	e.ask = ask
	e.sent = make(chan struct{})
	e.moveLocked(q, ready)
	sent := e.sent
	g.pumpLocked(q)
	g.mu.Unlock()
	<-sent
}

// opened says that the file is open. Where it takes long to be read, others do
// not wait for that.
func (e *entry) opened(quickly bool) {
	g := e.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.lines[e.lane]
	e.moveLocked(q, unanswered)
	e.late = !quickly
	g.pumpLocked(q)
}

// goInside says that the bytes come from other nodes now.
func (e *entry) goInside() { e.goOn(inside) }

func (e *entry) goOn(to stage) {
	g := e.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.lines[e.lane]
	e.moveLocked(q, to)
	g.pumpLocked(q)
}

// goAbroad says that the bytes are to come from nodes on the internet, over the
// uplink, but not in turns.
func (e *entry) goAbroad() { e.goOn(abroad) }

// took says that n bytes have come from a mirror.
func (e *entry) took(n int64) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.gate.mirror.add(n, time.Now())
	e.tookLocked(n)
}

// tookAbroad says that n bytes have come from nodes on the internet.
func (e *entry) tookAbroad(n int64) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.tookLocked(n)
}

func (e *entry) tookLocked(n int64) {
	g, now := e.gate, time.Now()
	g.uplink.add(n, now)
	e.left = max(e.left-n, 0)
	e.since = now
	if q := g.lines[e.lane]; q.waiting > 0 {
		g.pumpLocked(q)
	}
}

func (e *entry) moveLocked(q *line, to stage) {
	q.count(e.stage, -1)
	q.count(to, +1)
	e.stage, e.late, e.since = to, false, time.Now()
}

func (q *line) count(s stage, n int) {
	switch s {
	case waiting:
		q.waiting += n
	case ready:
		q.held += n
	}
}

// pumpLocked sends what may be sent, and gives turns. It stops looking where
// nothing further back can be meant.
func (g *gate) pumpLocked(q *line) {
	w := g.newWindow()
	var blocking []*entry // unanswered ones that later ones wait for
	toGive, toSend := q.waiting, q.held
	for _, e := range q.entries {
		if toGive == 0 && toSend == 0 {
			break
		}
		switch e.stage {
		case opening, unanswered:
			if !e.late {
				blocking = append(blocking, e)
			}
		case waiting:
			toGive--
			if w.fits(e.left) {
				e.moveLocked(q, unanswered)
				close(e.turn)
				blocking = append(blocking, e)
			}
		case ready:
			toSend--
			if len(blocking) == 0 {
				e.moveLocked(q, outside)
				e.ask()
				close(e.sent)
			}
		}
		w.takes(e)
	}
	g.wakeLocked(q, w.nextStale, blocking)
}

// wakeLocked sets the line's timer to when time alone may change something.
func (g *gate) wakeLocked(q *line, nextStale time.Time, blocking []*entry) {
	var next time.Time
	if q.waiting > 0 {
		next = nextStale
	}
	if q.held > 0 {
		first := q.firstHeld()
		for _, e := range blocking {
			if late := first.Add(e.patience()); next.IsZero() || late.Before(next) {
				next = late
			}
		}
	}
	switch {
	case next.IsZero():
	case q.timer == nil:
		q.timer = time.AfterFunc(time.Until(next), func() { g.tick(q) })
	default:
		q.timer.Reset(time.Until(next))
	}
}

// patience is how long others wait for an entry.
func (e *entry) patience() time.Duration {
	if e.stage == opening {
		return openWait
	}
	return orderWait
}

// firstHeld is since when a file has been ready.
func (q *line) firstHeld() time.Time {
	var first time.Time
	for _, e := range q.entries {
		if e.stage == ready && (first.IsZero() || e.since.Before(first)) {
			first = e.since
		}
	}
	return first
}

// tick lets those who have waited for long enough pass the ones before them.
func (g *gate) tick(q *line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if q.held > 0 {
		waited := time.Since(q.firstHeld())
		for _, e := range q.entries {
			e.late = e.late || (e.stage == opening || e.stage == unanswered) && waited >= e.patience()
		}
	}
	g.pumpLocked(q)
}
