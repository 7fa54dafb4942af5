// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	pmpPort = 5351

	// A request is repeated after pauses that double (RFC 6886 §3.1). Of its
	// nine times four must do: a router in the same network answers the first.
	pmpFirstWait = 250 * time.Millisecond
	pmpTries     = 4

	pmpAnswer = 0x80 // is set in an answer's opcode
	pmpCodes  = 8    // length of what all answers begin with
	maxPMP    = 64   // more than any answer has
)

// opcode of a request (RFC 6886 §3.2, §3.3).
type opcode byte

const (
	opAddress opcode = 0
	opUDP     opcode = 1
	opTCP     opcode = 2
)

// pmp speaks NAT-PMP with the router.
type pmp struct {
	server netip.AddrPort
	local  netip.Addr
	port   uint16 // internal
	lease  time.Duration

	epochAt   time.Time // when the epoch was heard; zero: never
	epoch     uint32    // seconds since the router's tables were last empty
	restarted bool
}

func newPMP(r route, port uint16, lease time.Duration) *pmp {
	return &pmp{server: netip.AddrPortFrom(r.gateway, pmpPort), local: r.local, port: port, lease: lease}
}

func (p *pmp) String() string { return "NAT-PMP" }

func (p *pmp) external(ctx context.Context) (netip.Addr, error) {
	answer, err := p.ask(ctx, opAddress, nil)
	return answer.external, err
}

func (p *pmp) add(ctx context.Context, t transport, port uint16) (uint16, time.Duration, error) {
	answer, err := p.ask(ctx, opcodeOf(t), p.mapRequest(port, p.lease))
	if err == nil && (answer.externalPort == 0 || answer.lifetime == 0) {
		err = errors.New("the router granted nothing")
	}
	return answer.externalPort, answer.lifetime, err
}

// lost says so once for each restart.
func (p *pmp) lost(context.Context, uint16) (bool, error) {
	lost := p.restarted
	p.restarted = false
	return lost, nil
}

// remove needs no external port: a mapping is known by the internal one, and
// only its own host can remove it (RFC 6886 §3.4).
func (p *pmp) remove(ctx context.Context, t transport, _ uint16) error {
	_, err := p.ask(ctx, opcodeOf(t), p.mapRequest(0, 0))
	return err
}

func opcodeOf(t transport) opcode {
	if t == tcp {
		return opTCP
	}
	return opUDP
}

// mapRequest is what follows the version and opcode.
func (p *pmp) mapRequest(external uint16, lifetime time.Duration) []byte {
	request := make([]byte, 2, 10) // reserved
	request = binary.BigEndian.AppendUint16(request, p.port)
	request = binary.BigEndian.AppendUint16(request, external)
	return binary.BigEndian.AppendUint32(request, uint32(lifetime/time.Second))
}

// ask sends a request until it is answered.
func (p *pmp) ask(ctx context.Context, op opcode, rest []byte) (pmpReply, error) {
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.local, 0)), net.UDPAddrFromAddrPort(p.server))
	if err != nil {
		return pmpReply{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	request := append([]byte{0, byte(op)}, rest...)
	for try := range pmpTries {
		conn.SetReadDeadline(time.Now().Add(pmpFirstWait << try))
		// A router without NAT-PMP may refuse, which either call tells.
		if _, err := conn.Write(request); err != nil {
			break
		}
		reply, err := p.await(conn, op)
		if err == nil {
			p.heard(reply.epoch, time.Now())
			return reply, reply.failure()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return pmpReply{}, cmp.Or(ctx.Err(), errSilent)
}

// await reads until the answer is there or the deadline over.
func (p *pmp) await(conn *net.UDPConn, op opcode) (pmpReply, error) {
	packet := make([]byte, maxPMP)
	for {
		n, err := conn.Read(packet)
		if err != nil {
			return pmpReply{}, err
		}
		if reply, ok := parsePMP(packet[:n], op, p.port); ok {
			return reply, nil
		}
	}
}

// heard compares the epoch with what it must have become since the last time,
// by a clock that may be an eighth slow (RFC 6886 §3.6).
func (p *pmp) heard(epoch uint32, now time.Time) {
	if !p.epochAt.IsZero() {
		least := int64(p.epoch) + int64(now.Sub(p.epochAt)/time.Second)*7/8 - 2
		p.restarted = p.restarted || int64(epoch) < least
	}
	p.epoch, p.epochAt = epoch, now
}

// pmpReply is an answer. What its request did not ask for is zero, and all but
// the first two if it failed.
type pmpReply struct {
	code         uint16
	epoch        uint32
	external     netip.Addr
	externalPort uint16
	lifetime     time.Duration
}

// parsePMP reads a packet; false: it is no answer to that request.
func parsePMP(packet []byte, op opcode, internal uint16) (pmpReply, bool) {
	if len(packet) < pmpCodes || packet[1] != byte(op)|pmpAnswer {
		return pmpReply{}, false
	}
	reply := pmpReply{code: binary.BigEndian.Uint16(packet[2:]), epoch: binary.BigEndian.Uint32(packet[4:])}
	rest := packet[pmpCodes:]
	switch {
	case packet[0] != 0:
		// A server of PCP alone answers in its version (RFC 6887 appendix A).
		return pmpReply{code: pmpVersion}, true
	case reply.code != 0:
		return reply, true
	case op == opAddress && len(rest) == 4:
		reply.external = netip.AddrFrom4([4]byte(rest))
		return reply, true
	case op != opAddress && len(rest) == 8 && binary.BigEndian.Uint16(rest) == internal:
		reply.externalPort = binary.BigEndian.Uint16(rest[2:])
		reply.lifetime = time.Duration(binary.BigEndian.Uint32(rest[4:])) * time.Second
		return reply, true
	}
	return pmpReply{}, false
}

const pmpVersion = 1 // the result code for a version that is not spoken

// pmpFailures are the result codes (RFC 6886 §3.5).
var pmpFailures = map[uint16]string{
	pmpVersion: "the router speaks another version",
	2:          "the router does not allow it",
	3:          "the router has no connection to the internet",
	4:          "the router has no mapping left",
	5:          "the router does not know the request",
}

func (r pmpReply) failure() error {
	if r.code == 0 {
		return nil
	}
	if text, ok := pmpFailures[r.code]; ok {
		return errors.New(text)
	}
	return fmt.Errorf("the router answers with code %d", r.code)
}
