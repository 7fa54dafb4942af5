// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
)

// batchOf is a lookup and its answer.
func batchOf(n int) (lookupQuestion, lookupAnswer) {
	q := lookupQuestion{hello: hello{head: spoken, ID: "0123456789abcdef", Port: 9977}}
	a := lookupAnswer{head: spoken}
	from := place{ID: "0123456789abcdef", Addr: netip.MustParseAddrPort("10.0.0.2:9977")}
	for i := range n {
		q.Want = append(q.Want, want{Hash: hash(digestOf(i)), Size: 123456, Lease: true})
		a.Found = append(a.Found, found{Hash: hash(digestOf(i)), State: "coming", From: []place{from, from}, Number: &i})
	}
	return q, a
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1, 10, maxBatch} {
		q, a := batchOf(n)
		for name, m := range map[string]any{"question": &q, "answer": &a} {
			b.Run(name+"/"+strconv.Itoa(n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := json.Marshal(m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 10, maxBatch} {
		q, a := batchOf(n)
		for name, m := range map[string]message{"question": &q, "answer": &a} {
			text, err := json.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(name+"/"+strconv.Itoa(n), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					m := messages[map[string]string{"question": "lookup", "answer": "lookup answer"}[name]]()
					if err := decode(text, m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkFind is one lookup after the other among 12 nodes.
func BenchmarkFind(b *testing.B) {
	nodes := startNodes(b, 12)
	var took []time.Duration
	i := 0
	for b.Loop() {
		i++
		began := time.Now()
		if a := nodes[i%12].findNow(digestOf(i), true); a.State != fetch.Leased {
			b.Fatal(describe(a))
		} else {
			took = append(took, time.Since(began))
			a.Lease.GiveUp(0)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
}

// BenchmarkFindMany is 100 lookups at a time among 12 nodes.
func BenchmarkFindMany(b *testing.B) {
	nodes := startNodes(b, 12)
	var took []time.Duration
	i := 0
	for b.Loop() {
		waits := make([]func() fetch.Answer, 100)
		began := time.Now()
		for k := range waits {
			i++
			waits[k] = nodes[3].Find(context.Background(), fetch.Question{Digest: digestOf(i), Size: 1, Lease: true})
		}
		for _, wait := range waits {
			if a := wait(); a.State == fetch.Leased {
				a.Lease.GiveUp(0)
			}
			took = append(took, time.Since(began))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
}

// BenchmarkFindAlone is what a node without others pays.
func BenchmarkFindAlone(b *testing.B) {
	node := startNodes(b, 1)[0]
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		node.findNow(digestOf(i), true).Lease.GiveUp(0)
	}
}
