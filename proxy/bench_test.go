// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkStaticHit asks for one stored file of 14 kB over kept connections,
// beside a bare net/http handler that does nothing but serve such a file.
func BenchmarkStaticHit(b *testing.B) {
	const size = 14 << 10
	data := random(1, size)
	b.Run("apt-dht", func(b *testing.B) {
		a := newArchive(b, serving(data))
		n := newNode(b, setup{})
		n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
		n.get(a.url("pool/x.deb")).want(b, 200, data)
		n.transfers(0)
		askInParallel(b, n.addr, aptRequest(a.url("pool/x.deb")), size)
	})
	b.Run("bare", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "x.deb")
		check(b, os.WriteFile(path, []byte(data), 0o644))
		s := startHTTP(b, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(path)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			defer f.Close()
			http.ServeContent(w, r, "x.deb", modified, f)
		})))
		askInParallel(b, s.host(), aptRequest("/x.deb"), size)
	})
}

// askInParallel asks on 16 connections.
func askInParallel(b *testing.B, addr, raw string, size int64) {
	b.SetBytes(size)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		br := bufio.NewReaderSize(c, 32<<10)
		for pb.Next() {
			if _, err := io.WriteString(c, raw); err != nil {
				b.Error(err)
				return
			}
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				b.Error(err)
				return
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
				b.Error(n, err)
				return
			}
		}
	})
}

// BenchmarkUnderstand is what each request costs before anything is sent.
func BenchmarkUnderstand(b *testing.B) {
	a := newArchive(b, serving(""))
	n := newNode(b, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": "data"}})
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(aptRequest(a.url("pool/x.deb")))))
	check(b, err)
	client := addrOf("127.0.0.1:1")
	b.ReportAllocs()
	for b.Loop() {
		url, err := targetOf(r)
		if err != nil {
			b.Fatal(err)
		}
		if a, err := n.understand(r, url, client); err != nil || !a.known() {
			b.Fatal(err)
		}
	}
}
