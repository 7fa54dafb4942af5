// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"bytes"
	"context"
	"testing"
	"time"
)

const rootName = "deb.example.org/debian/dists/a b+c/InRelease"

func TestRoots(t *testing.T) {
	nodes := startNodes(t, 6)
	give := func(i int, body []byte) {
		nodes[i].cfg.Root = func(name string) ([]byte, bool) { return body, name == rootName && body != nil }
	}
	give(1, []byte("new"))
	give(2, []byte("old"))
	give(3, []byte("new"))
	give(4, make([]byte, maxRoot+1))
	give(5, nil)
	roots := nodes[0].Roots(context.Background(), rootName)
	if len(roots) != 2 || !bytes.Equal(roots[0], []byte("new")) && !bytes.Equal(roots[1], []byte("new")) {
		t.Errorf("the copies are %.50q", roots)
	}
	if roots := nodes[0].Roots(context.Background(), "another"); len(roots) != 0 {
		t.Errorf("copies of another file are %q", roots)
	}
	nodes[1].pause()
	nodes[3].stop()
	began := time.Now()
	if roots := nodes[0].Roots(context.Background(), rootName); len(roots) != 1 {
		t.Errorf("with one node alive, the copies are %.50q", roots)
	}
	if took := time.Since(began); took > rootsTimeout+100*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}

func TestCopiesAreBounded(t *testing.T) {
	var all copies
	for i := range 10 {
		body := make([]byte, maxRoot)
		body[0] = byte(i)
		all.add(body)
	}
	if len(all.bodies) != maxRoots/maxRoot {
		t.Errorf("%d copies of the greatest size are kept", len(all.bodies))
	}
}
