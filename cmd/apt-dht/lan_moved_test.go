// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"net/http"
	"os/exec"
	"testing"
)

func init() {
	lanScenarios["AnotherAddress"] = func(t *testing.T, w *world) { lanAnotherAddress(t, w, (*lanMachine).stop) }
	lanScenarios["AnotherAddressAfterCrash"] = func(t *testing.T, w *world) { lanAnotherAddress(t, w, (*lanMachine).kill) }
	lanScenarios["ClonedDisk"] = lanClonedDisk
}

// stop ends the node as a service manager does.
func (m *lanMachine) stop() { m.node.stop() }

// lanAnotherAddress: the machine that holds everything comes back with another
// address, and the mirror is down.
func lanAnotherAddress(t *testing.T, w *world, end func(*lanMachine)) {
	s := startLANSite(t, w, w.standard, 3)
	mover, reader := s.machines[0], s.machines[2]
	together(s.machines, "update")
	mover.download("e2e-everything", "e2e-big")

	end(mover)
	s.mirror.down()
	mover.renumber(siteNet + "99")
	mover.serveAgain()
	acquainted(t, s.machines...)
	wantFromLAN(t, s, reader)
}

// renumber gives the machine another address in the place of the one it has.
func (m *lanMachine) renumber(ip string) {
	m.t.Helper()
	ipBatch(m.t, m.host.name, "addr flush dev eth0 scope global", "addr add "+ip+"/24 dev eth0", "route add default via "+siteGateway)
	m.ip = ip
}

// wantFromLAN lets a machine download everything while the mirror is down. The
// others may need a moment to tell what they hold.
func wantFromLAN(t *testing.T, s *lanSite, m *lanMachine) {
	t.Helper()
	for _, p := range s.w.allBut("e2e-new") {
		eventually(t, p.name+" comes from the LAN", func() bool {
			resp, _ := m.get(s.packageURL(p.name))
			return resp.StatusCode == http.StatusOK
		})
	}
	m.download("e2e-everything", "e2e-big")
	m.wantPackages(s.w.allBut("e2e-new"))
}

// lanClonedDisk: two machines begin with the same disk, and yet are two.
func lanClonedDisk(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	model, clone, reader := s.machine(), s.machine(), s.machine()
	model.serve()
	model.update()
	model.download("e2e-everything", "e2e-big")
	model.stop()
	check(t, exec.Command("cp", "-a", model.data, clone.data).Run())
	for _, m := range []*lanMachine{model, clone, reader} {
		m.serve()
	}
	acquainted(t, s.machines...)
	if a, b := model.status().ID, clone.status().ID; a == b {
		t.Errorf("two nodes with the same disk are both %s", a)
	}
	reader.update()
	s.mirror.down()
	wantFromLAN(t, s, reader)

	// Each is as good as the other.
	model.kill()
	late := s.machine()
	late.serve()
	acquainted(t, clone, reader, late)
	late.update()
	reader.kill()
	wantFromLAN(t, s, late)
}
