// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"log/slog"
	"testing"

	"github.com/godbus/dbus/v5"
)

// What Avahi says of a group of records is no reason to publish them again,
// which makes it say the same of the next group.
func TestAvahiSaysMore(t *testing.T) {
	s := newSupervisor(Config{Log: slog.New(slog.DiscardHandler)}, nil, nil)
	s.avahi = &avahi{groups: map[int]dbus.ObjectPath{1: "/Client0/EntryGroup1"}}
	s.avahiSaid(&dbus.Signal{Name: groupIface + ".StateChanged", Path: "/Client0/EntryGroup1"}, true)
	if len(s.avahi.groups) != 1 {
		t.Error("the group was forgotten")
	}
}
