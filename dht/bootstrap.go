// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// DefaultBootstrap are nodes of the mainline DHT that are there to be asked first.
func DefaultBootstrap() []string {
	return []string{
		"router.bittorrent.com:6881",
		"router.utorrent.com:6881",
		"dht.transmissionbt.com:6881",
		"dht.libtorrent.org:25401",
		"dht.aelitis.com:6881",
		"router.silotis.us:6881",
	}
}

// CheckBootstrap tells what is wrong with an entry of Config.Bootstrap.
func CheckBootstrap(hostPort string) error {
	_, _, err := splitBootstrap(hostPort)
	return err
}

func splitBootstrap(hostPort string) (string, uint16, error) {
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", 0, fmt.Errorf("DHT bootstrap node %q: not HOST:PORT: %w", hostPort, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port < MinPort || host == "" {
		return "", 0, fmt.Errorf("DHT bootstrap node %q: not HOST:PORT with a port from %d up", hostPort, MinPort)
	}
	return host, uint16(port), nil
}

// Resolve finds the addresses of an entry of Config.Bootstrap, of both families,
// within 5 seconds. Not all need be such that a node talks to ([Allowed]).
func Resolve(ctx context.Context, hostPort string) ([]netip.AddrPort, error) {
	return resolve(ctx, "ip", hostPort)
}

// resolve looks up names on network, "ip", "ip4" or "ip6"; an address stands for
// itself.
func resolve(ctx context.Context, network, hostPort string) ([]netip.AddrPort, error) {
	host, port, err := splitBootstrap(hostPort)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return addrs, err
}

// resolve finds the addresses of the bootstrap nodes.
func (f *family) resolve(ctx context.Context) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, hostPort := range f.bootstrap {
		found, err := resolve(ctx, f.ipNetwork(), hostPort)
		if err != nil {
			f.log.Debug("resolving a DHT bootstrap node", slog.String("node", hostPort), slog.Any("error", err))
		}
		for _, addr := range found {
			if f.socket.talksTo(addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs[:min(maxBootstrap, len(addrs))]
}

func (f *family) ipNetwork() string {
	if f.want == krpc.WantNodes {
		return "ip4"
	}
	return "ip6"
}

// ErrSilent is what Ping returns of who does not answer, with the cause if it is known.
var ErrSilent = errors.New("does not answer")

// Ping asks the node at addr, from a socket of its own, whether it is there, again
// and again until ctx ends. nil: it has answered. A node that is read-only (BEP 43)
// does not.
func Ping(ctx context.Context, addr netip.AddrPort) error {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", addr.String())
	if err != nil {
		return silence(err)
	}
	defer conn.Close()
	question, err := encode(krpc.Msg{
		T: pingID, Y: krpc.YQuery, Q: "ping", ReadOnly: true,
		A: &krpc.MsgArgs{ID: krpc.ID(randomKey(Key{}, -1))},
	})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := conn.Write(question); err != nil {
			return silence(err)
		}
		err := awaitPong(ctx, conn)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return ErrSilent
}

// pingID is the transaction of Ping: its socket hears nobody but whom it asks.
const pingID = "ping"

// awaitPong waits for the answer, until it is time to ask again:
// os.ErrDeadlineExceeded.
func awaitPong(ctx context.Context, conn net.Conn) error {
	until := time.Now().Add(resendDelay)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	buffer := make([]byte, maxPacket)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return silence(err)
		}
		if m, err := decode(buffer[:n]); err == nil && m.T == pingID && m.Y != krpc.YQuery {
			return nil
		}
	}
}

// silence says why there is no answer, in the system's words alone: the addresses
// are known.
func silence(err error) error {
	if number := syscall.Errno(0); errors.As(err, &number) {
		err = number
	}
	return fmt.Errorf("%w: %w", ErrSilent, err)
}
