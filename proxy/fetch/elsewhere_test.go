// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/iotest"
	"time"

	"apt-dht/store"
)

// Somebody's bad mirror must not fail, delay or spoil a file for others who ask
// their own.
func TestBadMirrorHarmsNobodyElse(t *testing.T) {
	data := randomBytes(20, 1<<20)
	for name, bad := range map[string]http.HandlerFunc{
		"404": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			http.NotFound(w, r)
		},
		"silent": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"trickling": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			for r.Context().Err() == nil {
				w.Write([]byte("x"))
				http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			evil, good := newMirror(t, bad), newMirror(t, serving(data))
			b := newBench(t, store.Config{})
			defer b.Prefetch(wantFor(evil.URL+"/f", data)).Release()
			began := time.Now()
			b.mustRead(t, wantFor(good.URL+"/f", data), data)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// The beginning that one mirror gave is not the beginning of another's file.
func TestBeginningOfABadMirrorIsNotResumed(t *testing.T) {
	data := randomBytes(21, 1<<20)
	sent := make(chan struct{})
	evil := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(bytes.Repeat([]byte("X"), 500_000))
		http.NewResponseController(w).Flush()
		close(sent)
		<-r.Context().Done()
	})
	good := newMirror(t, serving(data))
	b := newBench(t, store.Config{})
	ahead := b.Prefetch(wantFor(evil.URL+"/f", data))
	<-sent
	ahead.Release()
	b.await(t)
	b.mustRead(t, wantFor(good.URL+"/f", data), data)
}

func TestProvenBody(t *testing.T) {
	for _, size := range []int{0, 1, heldBack, heldBack + 1, 200_000} {
		data := randomBytes(22, size)
		want := wantFor("http://mirror.example/f", data)
		for name, src := range map[string]io.Reader{"whole": bytes.NewReader(data), "by bytes": iotest.OneByteReader(bytes.NewReader(data))} {
			got, err := io.ReadAll(newProvenBody(io.NopCloser(src), &want, sha256.New()))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes %s: %d, %v", size, name, len(got), err)
			}
		}
		if size == 0 {
			continue
		}
		bad := slices.Clone(data)
		bad[0] ^= 1
		got, err := io.ReadAll(newProvenBody(io.NopCloser(bytes.NewReader(bad)), &want, sha256.New()))
		if err == nil || len(got) >= size {
			t.Errorf("%d wrong bytes: %d were given, %v", size, len(got), err)
		}
	}
	if wantFor("", nil).Digest != sha256.Sum256(nil) {
		t.Error("the digest of nothing")
	}
}
