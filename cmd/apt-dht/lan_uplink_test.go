// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func init() {
	lanScenarios["WithoutUplink"] = lanWithoutUplink
	lanScenarios["NewestRoot"] = lanNewestRoot
	lanScenarios["ExpiredRoot"] = lanExpiredRoot
}

// lanWithoutUplink: the mirror cannot be reached. A machine that comes with an
// empty store updates and installs what the others hold.
func lanWithoutUplink(t *testing.T, w *world) {
	s := startLANSite(t, w, w.standard, 2)
	s.machines[0].update()
	s.machines[0].download("e2e-everything")
	s.machines[1].update()
	s.machines[1].download("e2e-big")
	s.cutUplink()

	late := s.machine()
	late.serve()
	acquainted(t, s.machines...)
	began := time.Now()
	late.update()
	// Less than apt's own patience (30 s), with all that apt does.
	wantWithin(t, "a machine without uplink has updated", began, 25*time.Second)
	began = time.Now()
	late.download("e2e-everything", "e2e-big")
	wantWithin(t, "a machine without uplink has installed", began, 10*time.Second)
	late.wantPackages(w.allBut("e2e-new"))
	wantStale(t, late, s)

	s.mirror.wantOnce()
	for _, p := range w.allBut("e2e-new") {
		if got := s.mirror.sent(p.escaped()); got != p.length {
			t.Errorf("%s: %d bytes crossed the uplink", p.file, got)
		}
	}
}

// wantStale fails the test unless the machine's node answers for InRelease with
// a copy, and says so (RFC 9111 had Warning in its predecessor: RFC 7234 §5.5.1).
func wantStale(t *testing.T, m *lanMachine, s *lanSite) {
	t.Helper()
	resp, body := m.get(s.mirror.url() + "/dists/stable/InRelease")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "BEGIN PGP SIGNED MESSAGE") || !strings.HasPrefix(resp.Header.Get("Warning"), "110 ") {
		t.Errorf("InRelease without uplink: %s, Warning %q, %d bytes", resp.Status, resp.Header.Get("Warning"), len(body))
	}
}

// lanNewestRoot: two machines know different versions of a repository whose
// mirror is down. Who has the newer one keeps it, and gives it to the other.
func lanNewestRoot(t *testing.T, w *world) {
	older := w.publish(t, w.allBut("e2e-new"), suite{age: 4 * time.Hour})
	newer := w.publish(t, w.allBut(), suite{age: 2 * time.Hour})
	s := startLANSite(t, w, older, 2)
	behind, ahead := s.machines[0], s.machines[1]
	behind.update()
	s.mirror.publish(newer)
	ahead.update()
	ahead.download("e2e-new")
	s.mirror.down()

	for _, m := range []*lanMachine{ahead, behind} {
		m.update()
		if !strings.Contains(m.list("Packages"), "e2e-new") {
			t.Errorf("%s has an older list than its neighbour", m.ip)
		}
	}
	behind.download("e2e-new")
	behind.wantPackages(w.only("e2e-new"))
}

// lanExpiredRoot: what a neighbour holds is not believed past its Valid-Until,
// though apt here would take it.
func lanExpiredRoot(t *testing.T, w *world) {
	expired := w.publish(t, w.everything(), suite{age: 48 * time.Hour, validUntil: time.Now().Add(-time.Hour)})
	s := startLANSite(t, w, expired, 2)
	lax := `Acquire::http::Proxy "http://127.0.0.1:` + lanPort + `"; Acquire::Check-Valid-Until "false";`
	for _, m := range s.machines {
		m.configure(lax)
	}
	s.machines[0].update()
	s.mirror.down()
	if out, err := s.machines[1].begin("update").wait(); complaint.FindString(out) == "" {
		t.Errorf("an expired InRelease of a neighbour's is believed: %v\n%s", err, out)
	}
	s.restoreMirror()
	s.machines[1].update()
}
