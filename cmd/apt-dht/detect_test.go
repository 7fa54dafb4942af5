// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestInTime: whatever the search does, there is an answer, and in time.
func TestInTime(t *testing.T) {
	for name, find := range map[string]func(context.Context) (string, bool){
		"panics": func(context.Context) (string, bool) { panic("of all things") },
		"ends without a word": func(context.Context) (string, bool) {
			return map[string]string{}["none"] + direct, true
		},
		"never ends": func(ctx context.Context) (string, bool) {
			<-ctx.Done()
			return "http://too.late", true
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			answer, asked := inTime(t.Context(), detectLimit, find)
			if answer != direct || !asked || time.Since(start) > detectLimit {
				t.Errorf("a search that %s: %q, %v after %v", name, answer, asked, time.Since(start))
			}
		})
	}
}

func TestOwnAddrs(t *testing.T) {
	var listen []listenAddr
	for _, a := range []string{":9977", "0.0.0.0:1", "[::]:2", "localhost:3", "[fe80::1%eth0]:4", "10.0.0.1:0"} {
		listen = append(listen, listenAddr{a})
	}
	want := []string{"127.0.0.1:9977", "127.0.0.1:1", "[::1]:2", "localhost:3", "[fe80::1%eth0]:4"}
	if got := ownAddrs(listen); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
