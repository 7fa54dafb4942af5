// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"apt-dht/store"
)

// BenchmarkPiece is a piece from another node on this machine, without a limit
// that is felt.
func BenchmarkPiece(b *testing.B) {
	d := newFakeDHT()
	taker, giver := startNode(b, d, 1, nil), startNode(b, d, 2, func(cfg *Config) { cfg.UploadLimit = 1 << 50 })
	blob := giver.put(b, bytesOf(0, 2*store.PieceSize))
	b.SetBytes(store.PieceSize)
	b.ReportAllocs()
	for b.Loop() {
		take(b, taker, giver, blob, 1)
	}
}

func take(tb testing.TB, taker, giver *testNode, blob Digest, piece int64) {
	body, err := taker.Fetch(tb.Context(), peerAt(giver.addr), blob, piece*store.PieceSize, (piece+1)*store.PieceSize)
	if err != nil {
		tb.Error(err)
		return
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); n != store.PieceSize {
		tb.Errorf("%d bytes came: %v", n, err)
	}
}

// BenchmarkCappedPeers takes pieces from peers that give 20 Mbit/s each, three at
// a time from each: four should bring four times as much.
func BenchmarkCappedPeers(b *testing.B) {
	for _, peers := range []int{1, 4} {
		b.Run(fmt.Sprint(peers), func(b *testing.B) {
			const pieces = 4 // of each
			d := newFakeDHT()
			taker := startNode(b, d, 0, nil)
			body := bytesOf(0, pieces*store.PieceSize)
			b.SetBytes(int64(peers) * pieces * store.PieceSize)
			var blob Digest
			var givers []*testNode
			for i := range peers {
				givers = append(givers, startNode(b, d, 1+i, func(cfg *Config) { cfg.UploadLimit = 20e6 / 8 }))
				blob = givers[i].put(b, body)
			}
			for b.Loop() {
				var wg sync.WaitGroup
				for _, giver := range givers {
					queue := make(chan int64, pieces)
					for i := range int64(pieces) {
						queue <- i
					}
					close(queue)
					for range 3 {
						wg.Go(func() {
							for piece := range queue {
								take(b, taker, giver, blob, piece)
							}
						})
					}
				}
				wg.Wait()
			}
		})
	}
}
