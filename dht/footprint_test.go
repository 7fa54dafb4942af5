// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childVariable makes the test binary a process that idles: with a node that
// asks the bootstrap node it names, or, if it is empty, without one. It prints
// its resident memory in kB for each line that it reads.
const childVariable = "APT_DHT_TEST_CHILD"

func runChild(bootstrap string) int {
	if bootstrap != "" {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		n, err := New(Config{IPv4: conn, Private: true, Bootstrap: []string{bootstrap}, Reachable: at(21999), Log: quiet()})
		if err != nil {
			panic(err)
		}
		go func() { panic(n.Run(context.Background())) }()
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(residentKB())
	}
	return 0
}

func residentKB() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	n, err := strconv.Atoi(strings.Fields(string(rest[:40]))[0])
	if err != nil {
		panic(err)
	}
	return n
}

// idleKB is the resident memory of an idle child after a while.
func idleKB(t *testing.T, bootstrap string, while time.Duration) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+bootstrap)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	time.Sleep(while)
	fmt.Fprintln(stdin)
	var kB int
	if _, err := fmt.Fscan(stdout, &kB); err != nil {
		t.Fatal(err)
	}
	return kB
}

// TestIdleMemory measures what a node adds to a process. What the race detector
// adds is not of interest.
func TestIdleMemory(t *testing.T) {
	const limitKB = 6 << 10
	nodes := loopbackNetwork(t, scaled(60, 20))
	without := idleKB(t, "", time.Second)
	with := idleKB(t, nodes[0].addr.String(), time.Duration(scaled(10, 3))*time.Second)
	t.Logf("resident: %d kB without a node, %d kB with one: %d kB more", without, with, with-without)
	if !raceEnabled && with-without > limitKB {
		t.Errorf("more than %d kB", limitKB)
	}
}
