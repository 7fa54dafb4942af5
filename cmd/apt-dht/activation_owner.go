// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listenState is the state of a socket that takes what comes to its port, in
// /proc/net/tcp and udp (proc(5)).
var listenState = map[string]string{"tcp": "0A", "udp": "07"}

// portOwners names the processes that listen on a port of network, tcp or udp, as
// proc (/proc) shows them: those of other users only to root.
func portOwners(proc, network, port string) string {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "taken by another process"
	}
	state := listenState[network]
	inodes := listening(filepath.Join(proc, "net", network), state, uint16(number))
	inodes = append(inodes, listening(filepath.Join(proc, "net", network+"6"), state, uint16(number))...)
	var names []string
	fds, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fd/*")) // the pattern is well-formed
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !slices.Contains(inodes, target) {
			continue // the process has ended, or is another user's
		}
		if name := processName(filepath.Dir(filepath.Dir(fd))); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "taken by another process"
	}
	return "taken by " + strings.Join(names, " and ")
}

// listening returns the sockets in a state on port, as links in /proc/*/fd
// name them, from a table in the format of /proc/net/tcp.
func listening(table, state string, port uint16) []string {
	f, err := os.Open(table)
	if err != nil {
		return nil // no IPv6, or no /proc
	}
	defer f.Close()
	var sockets []string
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[3] == state && strings.HasSuffix(fields[1], suffix) {
			sockets = append(sockets, "socket:["+fields[9]+"]")
		}
	}
	return sockets
}

// processName describes the process with that directory in /proc.
func processName(dir string) string {
	pid := filepath.Base(dir)
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return "process " + pid
	}
	if pid == strconv.Itoa(os.Getpid()) {
		return "this node itself (is it configured twice?)"
	}
	return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid)
}
