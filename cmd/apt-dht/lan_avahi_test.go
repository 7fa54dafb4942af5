// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func init() {
	lanHealthy["Avahi"] = lanAvahi
}

// promptly bounds what a node tells the others of at once and would else be
// noticed after minutes: that it is there, and that it goes.
const promptly = 2 * time.Second

// lanAvahi: an avahi-daemon runs on some machines and none on others. All know
// each other, who comes, and who goes.
func lanAvahi(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	for i := range 4 {
		m := s.machine()
		if i < 2 {
			m.startAvahi()
		}
		m.serve()
	}
	acquainted(t, s.machines...)
	others := s.machines
	for _, avahi := range []bool{true, false} {
		m := s.machine()
		if avahi {
			m.startAvahi()
		}
		m.serve()
		began := time.Now()
		acquainted(t, append(others[:len(others):len(others)], m)...)
		wantWithin(t, fmt.Sprintf("with Avahi: %v: a new node is known to all", avahi), began, promptly)

		id := m.status().ID
		began = time.Now()
		m.stop()
		for _, other := range others {
			eventually(t, other.ip+" knows that a node has gone", func() bool { return !other.knows(id) })
		}
		wantWithin(t, fmt.Sprintf("with Avahi: %v: a clean stop is known to all", avahi), began, promptly)
	}
}

func wantWithin(t *testing.T, what string, began time.Time, limit time.Duration) {
	t.Helper()
	took := time.Since(began)
	t.Logf("%s after %v", what, took.Round(time.Millisecond))
	if took > limit {
		t.Errorf("%s after %v, want %v", what, took, limit)
	}
}

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>%s</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
`

// startAvahi gives the machine a system bus and an avahi-daemon.
func (m *lanMachine) startAvahi() {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "e2e-bus") // a socket's path is short (unix(7): 108 bytes)
	check(m.t, err)
	m.t.Cleanup(func() { os.RemoveAll(dir) })
	socket, conf := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	m.bus = "unix:path=" + socket
	writeFile(m.t, conf, fmt.Appendf(nil, busConfig, m.bus))
	m.host.run("true", nil, "dbus-daemon", "--nofork", "--nosyslog", "--config-file="+conf)
	eventually(m.t, "the bus listens", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})

	conf = filepath.Join(dir, "avahi.conf")
	writeFile(m.t, conf, []byte("[server]\nhost-name="+m.host.name+"\n[publish]\npublish-workstation=no\npublish-hinfo=no\n"))
	// Its pid file and socket are for itself alone.
	m.host.run("mount -t tmpfs tmpfs /run", []string{"DBUS_SYSTEM_BUS_ADDRESS=" + m.bus},
		"avahi-daemon", "--file", conf, "--no-drop-root", "--no-chroot", "--no-rlimits")
	eventually(m.t, "avahi-daemon answers", func() bool {
		cmd := m.host.command("true", "avahi-browse", "-pt", "_none._tcp")
		cmd.Env = plainEnv("DBUS_SYSTEM_BUS_ADDRESS=" + m.bus)
		return cmd.Run() == nil
	})
}
