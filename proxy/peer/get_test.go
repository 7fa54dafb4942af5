// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/proxy/fetch"
)

// roundTripper answers by itself.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answering(code int, body string, fields ...string) roundTripper {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(fields); i += 2 {
			h.Set(fields[i], fields[i+1])
		}
		return &http.Response{
			StatusCode: code, Status: http.StatusText(code), Header: h,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	}
}

var someAddr = netip.MustParseAddrPort("5.6.7.8:9978")

// No more is read than was asked for, and what falls short is an error.
func TestBodiesAreAsLongAsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		code     int
		field    string // Content-Range
		from, to int64
		want     string
		err      error
	}{
		"all":             {200, "", 0, -1, "12345", nil},
		"whole for start": {200, "", 0, 3, "123", nil},
		"part":            {206, "bytes 4-8/99", 4, 9, "12345", nil},
		"more":            {206, "bytes 4-8/99", 4, 6, "12", nil},
		"less":            {206, "bytes 4-8/99", 4, 10, "12345", io.ErrUnexpectedEOF},
		"to the end":      {206, "bytes 4-8/9", 4, 10, "12345", nil},
		"rest":            {206, "bytes 4-8/9", 4, -1, "12345", nil},
		"less rest":       {206, "bytes 4-8/10", 4, -1, "12345", io.ErrUnexpectedEOF},
		"unknown size":    {206, "bytes 4-8/*", 4, -1, "12345", nil},
		"short of asked":  {206, "bytes 4-8/*", 4, 10, "12345", io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			counted := 0
			r := NewRequest(t.Context(), http.MethodGet, someAddr, "/blob")
			body, err := Get(answering(test.code, "12345", "Content-Range", test.field), r, test.from, test.to, time.Minute, func(n int) { counted += n })
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if string(got) != test.want || !errors.Is(err, test.err) || counted != len(got) {
				t.Errorf("%q came, %d bytes counted: %v", got, counted, err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for field, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "60000": time.Hour, "99999999": 0, "-1": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0,
	} {
		r := NewRequest(t.Context(), http.MethodGet, someAddr, "/blob")
		_, err := Get(answering(429, "", "Retry-After", field), r, 0, -1, time.Minute, nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || !errors.Is(err, fetch.ErrNotHere) || refused.RetryAfter != want || refused.Code != 429 {
			t.Errorf("%q: %v, %+v", field, err, refused)
		}
	}
}

// A head that does not come is not waited for; a body may take its time.
func TestPatienceIsForTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		began := time.Now()
		_, err := Get(silent, NewRequest(t.Context(), http.MethodGet, someAddr, "/blob"), 0, -1, time.Second, nil)
		if took := time.Since(began); took != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, fetch.ErrNotHere) {
			t.Errorf("after %s: %v", took, err)
		}
		var ctx context.Context
		head := roundTripper(func(r *http.Request) (*http.Response, error) {
			ctx = r.Context()
			return answering(200, "12345")(r)
		})
		body, err := Get(head, NewRequest(t.Context(), http.MethodGet, someAddr, "/blob"), 0, -1, time.Second, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if ctx.Err() != nil {
			t.Error("the request has ended with its body open")
		}
		body.Close()
		if ctx.Err() == nil {
			t.Error("the request goes on after its body was closed")
		}
	})
}

// FuzzHashes: there is one way to write a hash.
func FuzzHashes(f *testing.F) {
	f.Add(strings.Repeat("0f", 32))
	f.Add(strings.Repeat("0F", 32))
	f.Add("0123")
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := ParseHash(text)
		if !ok {
			return
		}
		if again, err := Hash(d).MarshalText(); err != nil || string(again) != text {
			t.Errorf("%q is written %q: %v", text, again, err)
		}
	})
}
