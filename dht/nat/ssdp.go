// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	ssdpPort = 1900

	// ssdpHops is the TTL that UPnP Device Architecture 1.1 §1.3.2 wants.
	ssdpHops = 2

	// A search is repeated once. Devices answer within MX, one second.
	ssdpTries = 2
	ssdpWait  = 1500 * time.Millisecond

	// ssdpLinger is how long to wait for a second description, after a first.
	ssdpLinger = 200 * time.Millisecond

	maxSSDP         = 2 << 10 // bytes of an answer
	maxSSDPPackets  = 64      // answers that are read in one search
	maxDescriptions = 4       // different ones that are tried
)

var ssdpGroup = netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 255, 250}), ssdpPort)

// ssdpTargets are the device types to search for. Version 2 has to answer for 1
// as well, but some do not.
var ssdpTargets = []string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
}

// ssdp looks for the router's description (UPnP Device Architecture 1.1 §1.3).
type ssdp struct {
	router netip.Addr
	local  netip.Addr
	nic    int
	// to are the addresses asked. The router alone, because its answer passes
	// the firewalls of this machine; and the group, which some routers demand.
	to []netip.AddrPort
}

// search returns at most maxDescriptions addresses of descriptions. errSilent:
// no valid answer came.
func (s *ssdp) search(ctx context.Context) ([]*url.URL, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.local, 0)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	multicast := ipv4.NewPacketConn(conn)
	if err := multicast.SetMulticastInterface(&net.Interface{Index: s.nic}); err != nil {
		return nil, fmt.Errorf("choose the network interface for SSDP: %w", err)
	}
	if err := multicast.SetMulticastTTL(ssdpHops); err != nil {
		return nil, fmt.Errorf("set the TTL for SSDP: %w", err)
	}
	for range ssdpTries {
		s.send(conn)
		if found := s.listen(conn); len(found) > 0 {
			return found, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, errSilent
}

// send does not tell of failures: who is not reached does not answer.
func (s *ssdp) send(conn *net.UDPConn) {
	for _, target := range ssdpTargets {
		packet := "M-SEARCH * HTTP/1.1\r\n" +
			"HOST: " + ssdpGroup.String() + "\r\n" +
			"MAN: \"ssdp:discover\"\r\n" +
			"MX: 1\r\n" +
			"ST: " + target + "\r\n\r\n"
		for _, to := range s.to {
			conn.WriteToUDPAddrPort([]byte(packet), to)
		}
	}
}

// listen collects what the router answers.
func (s *ssdp) listen(conn *net.UDPConn) (found []*url.URL) {
	conn.SetReadDeadline(time.Now().Add(ssdpWait))
	packet := make([]byte, maxSSDP)
	for range maxSSDPPackets {
		n, from, err := conn.ReadFromUDPAddrPort(packet)
		if err != nil || len(found) == maxDescriptions {
			break
		}
		if from.Addr().Unmap() != s.router {
			continue
		}
		location, err := parseSSDP(packet[:n], s.router)
		if err != nil || slices.ContainsFunc(found, func(u *url.URL) bool { return *u == *location }) {
			continue
		}
		if len(found) == 0 {
			conn.SetReadDeadline(time.Now().Add(ssdpLinger))
		}
		found = append(found, location)
	}
	return found
}

// parseSSDP returns the LOCATION of an answer to a search.
func parseSSDP(packet []byte, router netip.Addr) (*url.URL, error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(packet)), nil)
	if err != nil {
		return nil, fmt.Errorf("read SSDP answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("SSDP answer has status %d", response.StatusCode)
	}
	return parseLocation(response.Header.Get("Location"), router)
}

// parseLocation admits nothing but http on the router's address.
func parseLocation(text string, router netip.Addr) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the address of a description: %w", err)
	}
	return u, checkURL(u, router)
}

func checkURL(u *url.URL, router netip.Addr) error {
	host, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "http" || u.User != nil || u.Opaque != "" || err != nil || host != router {
		return fmt.Errorf("UPnP: %q is not an http URL on the router's address %s", printable(u.String()), router)
	}
	if text := u.Port(); text != "" {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return fmt.Errorf("UPnP: %q has no valid port", printable(u.String()))
		}
	}
	return nil
}
