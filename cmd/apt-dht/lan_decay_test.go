// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func init() {
	for name, spoil := range map[string]func(t *testing.T, path string){"Rotten": rot, "Removed": remove} {
		lanScenarios["Blob"+name] = func(t *testing.T, w *world) { lanBlobSpoilt(t, w, spoil) }
		lanScenarios["OnlyBlob"+name] = func(t *testing.T, w *world) { lanOnlyBlobSpoilt(t, w, spoil) }
	}
	lanScenarios["Evicted"] = lanEvicted
}

// rot changes a byte in the middle of a file, as a failing disk does: its size
// and times stay.
func rot(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	check(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	one := make([]byte, 1)
	_, err = f.ReadAt(one, info.Size()/2)
	check(t, err)
	one[0] ^= 0xff
	_, err = f.WriteAt(one, info.Size()/2)
	check(t, err)
	check(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
}

func remove(t *testing.T, path string) {
	t.Helper()
	check(t, os.Remove(path))
}

// blobPath finds the file of the node's data directory that holds a package.
func (m *lanMachine) blobPath(p builtPackage) (found string) {
	m.t.Helper()
	check(m.t, filepath.WalkDir(m.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() != p.length {
			return err
		}
		if digest, _ := digestOf(m.t, path); digest == p.digest {
			found = path
		}
		return nil
	}))
	if found == "" {
		m.t.Fatalf("%s does not hold %s", m.data, p.file)
	}
	return found
}

// lanBlobSpoilt: one of two machines that hold a file has lost it without
// knowing. Others get it from the one that has it.
func lanBlobSpoilt(t *testing.T, w *world, spoil func(*testing.T, string)) {
	s := startLANSite(t, w, w.standard, 3)
	together(s.machines, "update")
	spoilt, reader := s.machines[0], s.machines[2]
	together(s.machines[:2], "install", "--download-only", "e2e-big", "hello")
	for _, m := range s.machines[:2] {
		s.wantTold(m, w.only("e2e-big", "hello"))
	}
	for _, name := range []string{"e2e-big", "hello"} {
		spoil(t, spoilt.blobPath(w.packages[name]))
	}
	s.mirror.forget()
	reader.patient(true)
	reader.must("install", "--download-only", "e2e-big", "hello")
	reader.wantPackages(w.only("e2e-big", "hello"))
	if got := s.mirror.sent(".deb"); got > inFlight {
		t.Errorf("%d bytes crossed the uplink, though a machine has the files", got)
	}
}

// lanOnlyBlobSpoilt: the only machine that holds a file has lost it without
// knowing. Others get it from the mirror.
func lanOnlyBlobSpoilt(t *testing.T, w *world, spoil func(*testing.T, string)) {
	s := startLANSite(t, w, w.standard, 2)
	together(s.machines, "update")
	spoilt, reader := s.machines[0], s.machines[1]
	spoilt.download("e2e-big", "hello")
	s.wantTold(spoilt, w.only("e2e-big", "hello"))
	for _, name := range []string{"e2e-big", "hello"} {
		spoil(t, spoilt.blobPath(w.packages[name]))
	}
	s.mirror.forget()
	reader.patient(true)
	reader.must("install", "--download-only", "e2e-big", "hello")
	reader.wantPackages(w.only("e2e-big", "hello"))
	if got := s.mirror.sent(".deb"); got > bigSize+bigSize/10 {
		t.Errorf("%d bytes crossed the uplink for files of %d", got, bigSize)
	}
}

// lanEvicted: the only machine that held a file had to make room. Others are
// not sent to it.
func lanEvicted(t *testing.T, w *world) {
	const count = 6 // of 12 MiB each, in a store of 64 MiB
	dir := t.TempDir()
	var packages []builtPackage
	for i := range count {
		p := w.packages["e2e-big"].debPackage
		p.name = "e2e-big-" + string(rune('a'+i))
		p.file = "pool/main/e/e2e-big/" + p.name + "_1.0_all.deb"
		packages = append(packages, buildPackage(t, filepath.Join(dir, p.name), p))
	}
	s := newLANSite(t, w, w.publish(t, packages, suite{}))
	full, reader := s.machine(), s.machine()
	full.serve("--quota", "64MiB")
	reader.serve()
	acquainted(t, full, reader)
	together(s.machines, "update")
	for _, p := range packages {
		full.download(p.name)
	}
	eventually(t, "the first machine has made room", func() bool { return full.status().Store.Bytes < count*bigSize })
	for _, p := range packages {
		reader.download(p.name)
	}
	reader.wantPackages(packages)
	crossed := s.mirror.sent(".deb")
	if crossed <= count*bigSize || crossed > 2*count*bigSize-bigSize {
		t.Errorf("%d bytes crossed the uplink: some files, not all, are held on the LAN", crossed)
	}
}

// wantTold waits until some home knows that a machine holds packages.
func (s *lanSite) wantTold(holder *lanMachine, packages []builtPackage) {
	s.t.Helper()
	for _, p := range packages {
		eventually(s.t, holder.ip+" has told that it holds "+p.name, func() bool {
			return slices.ContainsFunc(s.machines, func(m *lanMachine) bool { return m.knowsHolder(holder, p) })
		})
	}
}

// knowsHolder asks the node, as a neighbour does, who holds a package.
func (m *lanMachine) knowsHolder(holder *lanMachine, p builtPackage) bool {
	m.t.Helper()
	question := fmt.Sprintf(`{"v":1,"id":"00112233445566aa","port":9977,"want":[{"hash":"%x","size":%d,"lease":false,"have":0}]}`, p.digest, p.length)
	resp, body, err := m.request("POST", m.url(lanLookup), http.Header{"Content-Type": {"application/json"}}, question)
	if check(m.t, err); resp.StatusCode != http.StatusOK {
		m.t.Fatalf("a lookup is answered with %s: %s", resp.Status, body)
	}
	return strings.Contains(body, holder.status().ID)
}
