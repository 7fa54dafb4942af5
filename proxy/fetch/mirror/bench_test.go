// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkFiles fetches from nginx, with 32 requests under way, by this client and by plain net/http with 8
// connections.
func BenchmarkFiles(b *testing.B) {
	root := b.TempDir()
	addr := startNginx(b, root, "keepalive_requests 1000000;")
	for _, size := range []int{14 << 10, 8 << 20} {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint(size)), make([]byte, size), 0o644); err != nil {
			b.Fatal(err)
		}
		ours := New(Config{})
		theirs := &http.Transport{DisableCompression: true, MaxConnsPerHost: 8, MaxIdleConnsPerHost: 8}
		for name, rt := range map[string]http.RoundTripper{"pipelined": ours, "net/http": theirs} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) {
					buf := make([]byte, 128<<10)
					for pb.Next() {
						resp, err := rt.RoundTrip(get(WithSize(background, int64(size)), fmt.Sprintf("http://%s/%d", addr, size)))
						if err != nil {
							b.Error(err)
							return
						}
						if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf); err != nil || n != int64(size) {
							b.Errorf("%d bytes, %v", n, err)
						}
						resp.Body.Close()
					}
				})
			})
		}
		ours.Close()
		theirs.CloseIdleConnections()
	}
}
