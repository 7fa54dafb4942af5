// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxNetlink is more than an answer about one route or interface takes.
const maxNetlink = 32 << 10

// netlink is a route netlink socket (rtnetlink(7)).
type netlink int

func dialNetlink() (netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, os.NewSyscallError("netlink socket", err)
	}
	// The kernel answers within the call that sends. This is for safety.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return netlink(fd), nil
}

func (n netlink) close() { unix.Close(int(n)) }

// ask sends a request and returns the payload of the answer, which must be of
// type want. The kernel's refusal is returned as a syscall.Errno.
func (n netlink) ask(kind, want uint16, payload []byte) ([]byte, error) {
	request := make([]byte, 0, unix.SizeofNlMsghdr+len(payload))
	request = binary.NativeEndian.AppendUint32(request, uint32(unix.SizeofNlMsghdr+len(payload)))
	request = binary.NativeEndian.AppendUint16(request, kind)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST)
	request = append(request, make([]byte, 8)...) // sequence number, port id
	request = append(request, payload...)
	if err := unix.Sendto(int(n), request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("netlink send", err)
	}
	answer := make([]byte, maxNetlink)
	length, _, err := unix.Recvfrom(int(n), answer, 0)
	if err != nil {
		return nil, fmt.Errorf("netlink receive: %v", err) // its EAGAIN is none of the kernel's refusals
	}
	return parseNetlink(answer[:length], want)
}

func parseNetlink(packet []byte, want uint16) ([]byte, error) {
	messages, err := syscall.ParseNetlinkMessage(packet)
	if err != nil || len(messages) == 0 {
		return nil, fmt.Errorf("netlink: an answer of %d bytes cannot be read", len(packet))
	}
	message := messages[0]
	switch {
	case message.Header.Type == want:
		return message.Data, nil
	case message.Header.Type == unix.NLMSG_ERROR && len(message.Data) >= 4:
		return nil, syscall.Errno(-int32(binary.NativeEndian.Uint32(message.Data)))
	}
	return nil, fmt.Errorf("netlink: an answer of type %d instead of %d", message.Header.Type, want)
}

// attributes yields the type and value of what follows the first skip bytes of
// payload, and stops at what is malformed.
func attributes(payload []byte, skip int) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		rest := payload[min(skip, len(payload)):]
		for len(rest) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(rest))
			kind := binary.NativeEndian.Uint16(rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if length < unix.SizeofRtAttr || length > len(rest) {
				return
			}
			if !yield(kind, rest[unix.SizeofRtAttr:length]) {
				return
			}
			aligned := (length + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
			rest = rest[min(aligned, len(rest)):]
		}
	}
}
