// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/miekg/dns"
)

const (
	avahiName  = "org.freedesktop.Avahi"
	busName    = "org.freedesktop.DBus"
	groupIface = avahiName + ".EntryGroup"

	// ownerChanged is the signal that a daemon came or went. Avahi sends us others,
	// unasked, about each group of records.
	ownerChanged = busName + ".NameOwnerChanged"

	// busTimeout bounds a call: Avahi answers within milliseconds.
	busTimeout = 2 * time.Second

	// Arguments of AddRecord, from avahi-common/defs.h and address.h. Nothing is
	// probed for, since names with 64 random bits are nobody else's: that would
	// delay the announcement by a second.
	avahiAnyProtocol = int32(-1)
	avahiUnique      = uint32(1)
	avahiNoProbe     = uint32(2)
)

// avahi publishes records through an avahi-daemon on the system bus. One
// goroutine uses it.
type avahi struct {
	conn   *dbus.Conn
	events chan *dbus.Signal // the daemon came or went; closed with the connection
	groups map[int]dbus.ObjectPath
}

// dialAvahi connects to the system bus. That does not take an avahi-daemon.
func dialAvahi() (*avahi, error) {
	ctx, cancel := context.WithCancel(context.Background())
	patience := time.AfterFunc(busTimeout, cancel)
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	err = conn.AddMatchSignal(dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, avahiName))
	if err != nil || !patience.Stop() {
		conn.Close()
		return nil, fmt.Errorf("watch for Avahi on the system bus: %w", err)
	}
	a := &avahi{conn: conn, events: make(chan *dbus.Signal, 8), groups: make(map[int]dbus.ObjectPath)}
	conn.Signal(a.events)
	return a, nil
}

// close ends the connection, with which Avahi takes back what was published.
func (a *avahi) close() { a.conn.Close() }

// runs reports whether an avahi-daemon runs, without starting one.
func (a *avahi) runs(ctx context.Context) bool {
	var owned bool
	err := a.call(ctx, busName, "/org/freedesktop/DBus", busName+".NameHasOwner", []any{avahiName}, &owned)
	return err == nil && owned
}

// publish announces records on the interface with that index and has Avahi
// answer for them, if that is not the case yet.
func (a *avahi) publish(ctx context.Context, index int, records []dns.RR) error {
	if _, done := a.groups[index]; done || len(records) == 0 {
		return nil
	}
	var group dbus.ObjectPath
	if err := a.call(ctx, avahiName, "/", avahiName+".Server.EntryGroupNew", nil, &group); err != nil {
		return err
	}
	a.groups[index] = group
	for _, rr := range records {
		if err := a.addRecord(ctx, group, index, rr); err != nil {
			a.withdraw(ctx, index)
			return err
		}
	}
	if err := a.call(ctx, avahiName, group, groupIface+".Commit", nil); err != nil {
		a.withdraw(ctx, index)
		return err
	}
	return nil
}

func (a *avahi) addRecord(ctx context.Context, group dbus.ObjectPath, index int, rr dns.RR) error {
	data, err := rdata(rr)
	if err != nil {
		return err
	}
	flags := avahiNoProbe
	if rr.Header().Rrtype != dns.TypePTR {
		flags |= avahiUnique
	}
	h := rr.Header()
	return a.call(ctx, avahiName, group, groupIface+".AddRecord",
		[]any{int32(index), avahiAnyProtocol, flags, h.Name, h.Class, h.Rrtype, h.Ttl, data})
}

// withdraw takes back, with a goodbye, what was published on an interface. An
// error says that Avahi is gone, and with it the records.
func (a *avahi) withdraw(ctx context.Context, index int) {
	group, published := a.groups[index]
	if !published {
		return
	}
	delete(a.groups, index)
	_ = a.call(ctx, avahiName, group, groupIface+".Free", nil)
}

// forget drops what was published: the daemon that had it is gone.
func (a *avahi) forget() { clear(a.groups) }

func (a *avahi) call(ctx context.Context, name string, path dbus.ObjectPath, method string, args []any, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	err := a.conn.Object(name, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(results...)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// rdata returns the data of rr as it goes over the wire, without compression.
func rdata(rr dns.RR) ([]byte, error) {
	buf := make([]byte, dns.Len(rr)+1)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("pack the record of %s: %w", rr.Header().Name, err)
	}
	const fixed = 2 + 2 + 4 + 2 // type, class, TTL, length of the data
	header, err := dns.PackDomainName(rr.Header().Name, make([]byte, len(rr.Header().Name)+2), 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("pack the name %s: %w", rr.Header().Name, err)
	}
	return buf[header+fixed : end], nil
}
