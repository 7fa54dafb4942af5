// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"apt-dht/store"
)

// BenchmarkCold reads 100 files of 50 kB that one client has pipelined: without a
// local network, alone on one, and where another node may have them.
func BenchmarkCold(b *testing.B) {
	const files, size = 100, 50_000
	data := randomBytes(1, size+files)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(data[i : i+size])
	}))
	defer origin.Close()
	var wants []Want
	for i := range files {
		wants = append(wants, Want{URL: fmt.Sprintf("%s/%d", origin.URL, i), Digest: sha256.Sum256(data[i : i+size]), Size: size})
	}
	for name, lan := range map[string]LAN{"no LAN": nil, "alone": granting{alone: true}, "with others": granting{}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(files * size)
			for b.Loop() {
				b.StopTimer()
				f := newBench(b, store.Config{})
				f.Fetcher.cfg.LAN = lan
				b.StartTimer()
				readAll(b, f.Fetcher, wants)
			}
		})
	}
}

func readAll(b *testing.B, f *Fetcher, wants []Want) {
	for _, want := range wants {
		defer f.Prefetch(want).Release()
	}
	for _, want := range wants {
		c, err := f.Open(b.Context(), want)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c); n != want.Size || err != nil {
			b.Fatal(n, err)
		}
		c.Close()
	}
}

// granting is a LAN on which nobody has anything.
type granting struct {
	LAN
	alone bool
}

func (g granting) Alone() bool { return g.alone }

func (g granting) Find(_ context.Context, q Question) func() Answer {
	return func() Answer {
		switch {
		case g.alone:
		case !q.Lease:
			return Answer{}
		default:
			time.Sleep(time.Millisecond)
		}
		return Answer{State: Leased, Lease: granted{}}
	}
}

type granted struct{}

func (granted) Progress(int64)        {}
func (granted) Lost() <-chan struct{} { return nil }
func (granted) Done()                 {}
func (granted) GiveUp(int64)          {}
