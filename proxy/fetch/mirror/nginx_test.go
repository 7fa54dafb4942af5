// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startNginx serves root until the test ends, and returns the address.
func startNginx(t testing.TB, root, directives string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 256; }
http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
 fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
 server { listen %[2]s; root %[3]s; %[4]s } }`, dir, addr, root, directives)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log"))
	if err := cmd.Start(); err != nil {
		t.Fatalf("nginx is needed (apt install nginx-light): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if nc, err := net.Dial("tcp", addr); err == nil {
			nc.Close()
			return addr
		}
		if time.Now().After(until) {
			t.Fatal("nginx does not listen")
		}
	}
}

// archive writes n files whose sizes are spread as in Debian's pool: half of them below 54 kB, a few of many MB.
func archive(t testing.TB, n int) (root string, sums [][sha256.Size]byte, sizes []int64) {
	t.Helper()
	root = t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	fill := rand.NewChaCha8([32]byte{})
	for i := range n {
		size := int(min(54e3*math.Exp(1.6*rnd.NormFloat64()), 8e6))
		b := make([]byte, size)
		fill.Read(b)
		b = bytes.ReplaceAll(b, []byte("<"), []byte(".")) // nothing that looks like a server-side include
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint(i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
		sums, sizes = append(sums, sha256.Sum256(b)), append(sizes, int64(size))
	}
	return root, sums, sizes
}

func TestNginx(t *testing.T) {
	const n = 300
	root, sums, sizes := archive(t, n)
	for name, tt := range map[string]struct {
		directives string
		conns      func(int) bool
	}{
		"as Debian has it": {"", func(n int) bool { return n <= ordinaryConns }},
		// 301 requests, 7 on each; a few more when nginx resets a connection for what it did not read.
		"seven requests": {"keepalive_requests 7;", func(n int) bool { return n >= 43 && n < 70 }},
		"no keep-alive":  {"keepalive_timeout 0;", func(n int) bool { return n == 301 }},
		"chunked":        {"ssi on; ssi_types *;", func(n int) bool { return n <= ordinaryConns }},
	} {
		t.Run(name, func(t *testing.T) {
			base := "http://" + startNginx(t, root, tt.directives) + "/"
			var dialled atomic.Int32
			cl := New(Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialled.Add(1)
				return new(net.Dialer).DialContext(ctx, network, addr)
			}})
			defer cl.Close()
			if _, err := body2string(cl.RoundTrip(get(background, base+"0"))); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for i := range n {
				req := get(WithSize(background, sizes[i]), base+fmt.Sprint(i))
				wait := cl.Start(req)
				all.Go(func() {
					if sum, err := sumOf(cl, req, wait); err != nil || sum != sums[i] {
						t.Errorf("file %d: wrong bytes, or %v", i, err)
					}
				})
			}
			all.Wait()
			if got := int(dialled.Load()); !tt.conns(got) {
				t.Errorf("%d connections", got)
			}
		})
	}
}

// sumOf reads the answer, and resumes where it breaks off.
func sumOf(cl *Client, req *http.Request, wait func() (*http.Response, error)) (sum [sha256.Size]byte, err error) {
	h, read := sha256.New(), int64(0)
	for {
		resp, err := wait()
		if err != nil {
			return sum, err
		}
		n, err := io.Copy(h, resp.Body)
		resp.Body.Close()
		if err == nil {
			return [sha256.Size]byte(h.Sum(nil)), nil
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return sum, err
		}
		read += n
		req = req.Clone(req.Context())
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", read))
		wait = cl.Start(req)
	}
}
