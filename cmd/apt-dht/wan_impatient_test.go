// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"net/http"
	"testing"
	"time"
)

func init() { wanScenarios["ImpatientApt"] = wanImpatientApt }

// wanImpatientApt: the mirror has the file no more, and the only peer needs much longer for a
// large file than apt waits for a byte. apt is run again and again: each time more
// of the file has come, and it is not told that there is none.
func wanImpatientApt(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	big := w.only(w.largest().name)
	seed := in.seed(big)
	seed.host.limit("eth0", 6) // 16 s
	m := in.node()
	m.update()
	m.inDHT()
	in.mirror.misbehave(onlyFor(".deb", failWith(http.StatusNotFound)))
	for run := range 12 {
		before := m.wanStatus().BytesFrom.WAN
		began := time.Now()
		_, err := m.begin("install", "--download-only", "-o", "Acquire::http::Timeout=4", "-o", "Acquire::Retries=0", big[0].name).wait()
		more := m.wanStatus().BytesFrom.WAN - before
		t.Logf("run %d: %v after %v, %d bytes more", run, err, time.Since(began), more)
		if err == nil {
			break
		}
		if more < 1<<20 {
			t.Errorf("apt's run %d brought no more than %d bytes", run, more)
		}
	}
	m.wantPackages(big)
	if wan := m.wanStatus().BytesFrom.WAN; wan > big[0].length*5/4 {
		t.Errorf("%d bytes were taken for a file of %d", wan, big[0].length)
	}
}
