// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"apt-dht/index/trust"
)

const (
	stateFile    = "index.json"
	stateVersion = 1
	textExt      = ".release"
	tempPrefix   = "tmp-"
)

// state is index.json.
type state struct {
	Version int                  `json:"version"`
	Suites  []suiteState         `json:"suites"`
	Lists   map[string]listState `json:"lists,omitempty"`
}

type suiteState struct {
	Dir         string            `json:"dir"`
	Asked       []string          `json:"asked,omitempty"`
	Generations []generationState `json:"generations"`
}

type generationState struct {
	File    string    `json:"file"`
	Root    hexDigest `json:"root"`
	Text    hexDigest `json:"text"`
	Trusted bool      `json:"trusted"`
	Arrived uint64    `json:"arrived"`
	Used    time.Time `json:"used"`
}

type listState struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Root     hexDigest `json:"root"`
}

// hexDigest is a digest that JSON shows in hexadecimal.
type hexDigest Digest

func (d hexDigest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

func (d *hexDigest) UnmarshalText(text []byte) error {
	digest, err := parseDigest(string(text))
	*d = hexDigest(digest)
	return err
}

func (x *Index) textPath(text Digest) string {
	return filepath.Join(x.cfg.Dir, hex.EncodeToString(text[:])+textExt)
}

// save writes index.json. The caller holds disk. A failure is logged: what is not saved is learnt anew.
func (x *Index) save() {
	x.mu.Lock()
	s := x.stateLocked()
	x.dirty = false
	x.mu.Unlock()
	err := writeFile(filepath.Join(x.cfg.Dir, stateFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(s) })
	if err == nil {
		return
	}
	x.log.Warn("could not save which indexes are known", "error", err)
	x.mu.Lock()
	x.dirty = true
	x.mu.Unlock()
}

func (x *Index) stateLocked() *state {
	s := &state{Version: stateVersion, Lists: make(map[string]listState, len(x.lists))}
	for file, l := range x.lists {
		if l.root == (Digest{}) {
			continue // try again at the next start
		}
		s.Lists[file] = listState{l.size, l.modified, hexDigest(l.root)}
	}
	for _, st := range x.suites {
		out := suiteState{Dir: st.dir}
		for path, asked := range st.asked {
			if asked.Load() {
				out.Asked = append(out.Asked, path)
			}
		}
		for _, g := range st.generations {
			out.Generations = append(out.Generations, generationState{
				File: g.file, Root: hexDigest(g.root), Text: hexDigest(g.text),
				Trusted: g.verdict == trust.Verified, Arrived: g.arrived, Used: g.used,
			})
		}
		s.Suites = append(s.Suites, out)
	}
	return s
}

// loadLocked reads what save and addCatalogue have written.
func (x *Index) loadLocked() error {
	raw, err := os.ReadFile(filepath.Join(x.cfg.Dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil || s.Version != stateVersion {
		x.log.Warn("starting without the indexes known before", "file", stateFile, "version", s.Version, "error", err)
		return nil
	}
	for file, l := range s.Lists {
		x.lists[file] = listFile{l.Size, l.Modified, Digest(l.Root)}
	}
	for _, out := range s.Suites {
		x.loadSuiteLocked(out)
	}
	x.trimLocked(time.Now())
	return x.loadCataloguesLocked()
}

func (x *Index) loadSuiteLocked(in suiteState) {
	st := newSuite(in.Dir)
	for _, path := range in.Asked {
		st.asked[path] = new(atomic.Bool)
		st.asked[path].Store(true)
	}
	for _, out := range in.Generations {
		g, err := x.loadGeneration(in.Dir, out)
		if err != nil {
			x.log.Warn("forgot a generation", "suite", in.Dir, "error", err)
			continue
		}
		st.add(g)
		x.arrivals = max(x.arrivals, g.arrived)
	}
	if len(st.generations) > 0 {
		x.suites[st.dir] = st
	}
}

func (x *Index) loadGeneration(dir string, in generationState) (*generation, error) {
	path := x.textPath(Digest(in.Text))
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(text) != Digest(in.Text) {
		return nil, fmt.Errorf("%s: damaged", path)
	}
	g, err := newGeneration(dir, in.File, Digest(in.Root), text)
	if err != nil {
		return nil, err
	}
	g.arrived, g.used = in.Arrived, in.Used
	if in.Trusted {
		g.verdict = trust.Verified
	}
	return g, nil
}

// loadCataloguesLocked maps the catalogues that generations name, and removes those that are damaged.
func (x *Index) loadCataloguesLocked() error {
	files, err := os.ReadDir(x.cfg.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		id, ok := parseContentID(f.Name())
		if !ok {
			continue
		}
		c, err := openCatalogue(x.cfg.Dir, id)
		if err != nil {
			x.log.Warn("removed a catalogue that cannot be used: its index will be read again", "error", err)
			os.Remove(filepath.Join(x.cfg.Dir, f.Name()))
			continue
		}
		x.catalogues[id] = c
	}
	x.dropCataloguesLocked(time.Now())
	return nil
}

// tidy drops what nobody needs, from memory and from Dir.
func (x *Index) tidy() {
	x.clients.expire()
	x.disk.Lock()
	defer x.disk.Unlock()
	x.mu.Lock()
	now := time.Now()
	x.trimLocked(now)
	x.dropCataloguesLocked(now)
	x.publishLocked()
	needed := x.filesLocked()
	x.mu.Unlock()
	x.save()
	x.sweep(needed)
}

// filesLocked returns the names of the files in Dir that are in use.
func (x *Index) filesLocked() map[string]bool {
	needed := map[string]bool{stateFile: true}
	for _, st := range x.suites {
		for _, g := range st.generations {
			needed[filepath.Base(x.textPath(g.text))] = true
		}
	}
	for id := range x.catalogues {
		needed[id.fileName()] = true
	}
	return needed
}

// sweep removes our files in Dir that are not needed. Nothing else is touched.
func (x *Index) sweep(needed map[string]bool) {
	files, err := os.ReadDir(x.cfg.Dir)
	if err != nil {
		x.log.Warn("could not look for old catalogues", "error", err)
		return
	}
	for _, f := range files {
		name := f.Name()
		ours := strings.HasPrefix(name, tempPrefix) || strings.HasSuffix(name, textExt) || strings.HasSuffix(name, catalogueExt)
		if !ours || needed[name] {
			continue
		}
		if err := os.Remove(filepath.Join(x.cfg.Dir, name)); err != nil {
			x.log.Warn("could not remove an old file of the index", "error", err)
		}
	}
}
