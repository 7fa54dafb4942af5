// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"apt-dht/index/trust"
)

var (
	// ErrShape is wrapped by AddRoot's errors about a body that is no root file: a captive portal's page, a
	// file cut short. A later attempt may succeed.
	ErrShape = trust.ErrShape

	// ErrBadSignature is wrapped by AddRoot's error about a root file that was changed after it was signed.
	ErrBadSignature = errors.New("bad signature")
)

// maxSignatures bounds the Release.gpg that wait for their Release.
const maxSignatures = 64

// RootInfo is what a root file says. For a Release.gpg it tells of the Release that it signs, and
// is zero but for Digest and Reason where that is not known.
type RootInfo struct {
	Digest           Digest // of the bytes given
	Date, ValidUntil time.Time
	Verdict          trust.Verdict
	Suite, Codename  string
	New              bool   // these bytes were not known before
	Reason           string // for the log, where the verdict is not Verified; "" otherwise
}

// Trusted tells whether a key that apt trusts for the repository signed the root file.
func (i *RootInfo) Trusted() bool { return i.Verdict == trust.Verified }

// AddRoot takes the body of a root file, whose name it also judges by. The error, which wraps ErrShape or
// ErrBadSignature or tells that name is no root's, means that body must be neither stored nor served.
//
// A Release is not trusted before a Release.gpg that matches it was added, in either order. A Release.gpg that
// matches no Release held is no error: mirrors change the two one after the other, and it can mislead nobody.
func (x *Index) AddRoot(name string, body []byte) (RootInfo, error) {
	dir, file, ok := splitRoot(name)
	if !ok {
		return RootInfo{}, fmt.Errorf("%s: not the name of an InRelease, Release or Release.gpg", name)
	}
	if file == "Release.gpg" {
		return x.addSignature(dir, body)
	}
	g, text, err := x.readRoot(name, body)
	if err != nil {
		return RootInfo{}, err
	}
	return x.addGeneration(g, text), nil
}

// CheckRoot tells what the body of a root file says, and takes nothing of it: AddRoot's errors, and its info
// without New.
func (x *Index) CheckRoot(name string, body []byte) (RootInfo, error) {
	g, _, err := x.readRoot(name, body)
	if err != nil {
		return RootInfo{}, err
	}
	return g.info(false), nil
}

// readRoot verifies and reads an InRelease or Release.
func (x *Index) readRoot(name string, body []byte) (g *generation, text []byte, err error) {
	dir, file, ok := splitRoot(name)
	if !ok || file == "Release.gpg" {
		return nil, nil, fmt.Errorf("%s: not the name of an InRelease or Release", name)
	}
	text, verdict, err := x.verify(dir, file, body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if verdict == trust.Bad {
		return nil, nil, fmt.Errorf("%s: %w: it was changed after it was signed", name, ErrBadSignature)
	}
	g, err = newGeneration(dir, file, sha256.Sum256(body), text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", name, ErrShape, err)
	}
	g.verdict = verdict
	return g, text, nil
}

// verify returns the signed text of a root file.
func (x *Index) verify(dir, file string, body []byte) (text []byte, v trust.Verdict, err error) {
	base, suite := splitSuite(dir)
	t := x.trust.Load()
	if file == "InRelease" {
		return t.VerifyClearsigned(base, suite, body)
	}
	if err := trust.LooksLikeRelease(body); err != nil {
		return nil, trust.Unknown, err
	}
	x.mu.Lock()
	sig := x.signatures[dir]
	x.mu.Unlock()
	if sig != nil {
		if v, err = t.VerifyDetached(base, suite, body, sig); err == nil && v == trust.Verified {
			return body, v, nil
		}
	}
	return body, trust.Unknown, nil
}

// addGeneration shows a generation to lookups and keeps it for the next start. A disk that does not take
// it costs no more than that.
func (x *Index) addGeneration(g *generation, text []byte) RootInfo {
	x.disk.Lock()
	defer x.disk.Unlock()
	if err := writeFile(x.textPath(g.text), func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		x.log.Warn("could not keep a Release file: its hashes are known until the next start",
			"suite", g.dir, "error", err)
	}
	x.mu.Lock()
	added := x.insertLocked(g)
	info := g.info(added)
	x.mu.Unlock()
	x.save()
	if added {
		x.log.Info("new generation", "suite", g.dir, "date", g.release.date, "verdict", info.Verdict, "files", g.release.files)
	}
	return info
}

// insertLocked adds g to its suite and tells whether its bytes are new there.
func (x *Index) insertLocked(g *generation) (added bool) {
	now := time.Now()
	st := x.suites[g.dir]
	if st == nil {
		st = newSuite(g.dir)
		x.suites[g.dir] = st
	}
	known := st.byRoot(g.root)
	if known == nil {
		st.add(g)
		known = g
	}
	x.arrivals++
	known.arrived, known.used = x.arrivals, now
	if g.verdict == trust.Verified {
		known.verdict = trust.Verified
	}
	g.verdict = known.verdict
	x.trimLocked(now)
	x.publishLocked()
	return known == g
}

func (g *generation) info(added bool) RootInfo {
	info := RootInfo{
		Digest: g.root, Date: g.release.date, ValidUntil: g.release.validUntil, Verdict: g.verdict,
		Suite: g.release.suite, Codename: g.release.codename, New: added,
	}
	switch {
	case g.verdict == trust.Verified:
	case g.file == "Release":
		info.Reason = "no matching Release.gpg so far"
	default:
		info.Reason = "no signature by a key that apt trusts for this repository"
	}
	return info
}

// addSignature looks for the Release that a Release.gpg signs.
func (x *Index) addSignature(dir string, sig []byte) (RootInfo, error) {
	base, name := splitSuite(dir)
	x.mu.Lock()
	candidates := x.unsignedLocked(dir)
	x.mu.Unlock()
	if !bytes.HasPrefix(bytes.TrimSpace(sig), []byte("-----BEGIN PGP SIGNATURE-----")) {
		return RootInfo{}, fmt.Errorf("%s/Release.gpg: %w: not an armoured OpenPGP signature", dir, ErrShape)
	}
	t := x.trust.Load()
	for _, g := range candidates {
		text, err := os.ReadFile(x.textPath(g.text))
		if err != nil || sha256.Sum256(text) != g.text {
			continue // the next Release will do
		}
		v, err := t.VerifyDetached(base, name, text, sig)
		if err != nil {
			return RootInfo{}, err
		}
		if v == trust.Verified {
			return x.trustGeneration(g, sig), nil
		}
	}
	x.keepSignature(dir, sig)
	return RootInfo{Digest: sha256.Sum256(sig), Reason: "it signs no Release that is held, or with a key that is not"}, nil
}

// unsignedLocked returns the suite's generations that a Release.gpg may make trusted.
func (x *Index) unsignedLocked(dir string) (found []*generation) {
	st := x.suites[dir]
	if st == nil {
		return nil
	}
	for _, g := range st.generations {
		if g.file == "Release" && g.verdict != trust.Verified {
			found = append(found, g)
		}
	}
	return found
}

func (x *Index) trustGeneration(g *generation, sig []byte) RootInfo {
	x.disk.Lock()
	defer x.disk.Unlock()
	x.mu.Lock()
	g.verdict = trust.Verified
	x.trimLocked(time.Now())
	x.publishLocked()
	info := g.info(true)
	x.mu.Unlock()
	x.save()
	info.Digest = sha256.Sum256(sig)
	return info
}

// keepSignature lets a Release.gpg wait for its Release.
func (x *Index) keepSignature(dir string, sig []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(sig) > 64<<10 || x.signatures[dir] == nil && len(x.signatures) >= maxSignatures {
		return
	}
	x.signatures[dir] = sig
}
