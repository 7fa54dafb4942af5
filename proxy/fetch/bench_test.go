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

// BenchmarkCold reads 100 files of 70 kB that one client has pipelined: without a
// local network, alone on one, where another node may have them, and where they
// are sought on the internet, in vain.
func BenchmarkCold(b *testing.B) {
	const files, size = 100, 70_000
	data := randomBytes(1, size+files)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(data[i : i+size])
	}))
	defer origin.Close()
	var wants []Want
	for i := range files {
		wants = append(wants, Want{URL: fmt.Sprintf("%s/%d", origin.URL, i), Digest: sha256.Sum256(data[i : i+size]), Size: size, Shareable: func(context.Context) bool { return true }})
	}
	for _, bc := range []struct {
		name string
		lan  LAN
		wan  WAN
	}{
		{"no LAN", nil, nil},
		{"alone", granting{alone: true}, nil},
		{"with others", granting{}, nil},
		{"nobody abroad", nil, empty{}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.SetBytes(files * size)
			for b.Loop() {
				b.StopTimer()
				f := newBench(b, store.Config{})
				f.Fetcher.cfg.LAN, f.Fetcher.cfg.WAN = bc.lan, bc.wan
				b.StartTimer()
				readAll(b, f.Fetcher, wants)
			}
		})
	}
}

// empty is an internet on which nobody is found, ever.
type empty struct{ WAN }

func (empty) Patience() time.Duration                          { return 0 }
func (empty) Seek(ctx context.Context, _ Digest, _ func(Peer)) { <-ctx.Done() }
func (empty) Brought(Digest, int64)                            {}

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
