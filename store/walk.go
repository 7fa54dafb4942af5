// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// suspectWindow: blobs are not fsynced; the kernel writes dirty pages back by itself 30 s after they
// were written (vm.dirty_expire_centisecs), and with laptop mode 10 min after. So when the machine
// stops without warning, what was published (ctime: the rename) longer than that before the newest
// blob is on disk, and what came later may have the right size and holes for bytes.
const suspectWindow = 10 * time.Minute

// A foundBlob is a file of the right name under blobs.
type foundBlob struct {
	entry
	ctime int64 // ns
}

// walkBlobs lists the blobs in root. What is not a blob is left alone and logged.
func walkBlobs(root string, log *slog.Logger) (map[Digest]foundBlob, error) {
	fans, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	w := walker{found: make(map[Digest]foundBlob), log: log}
	for _, fan := range fans {
		if fan.IsDir() && isFan(fan.Name()) {
			w.fan(root, fan.Name())
		} else {
			w.foreign(filepath.Join(root, fan.Name()), nil)
		}
	}
	if w.strangers > maxForeignLogs {
		log.Warn("store: more foreign files, not named here", "dir", root, "files", w.strangers-maxForeignLogs)
	}
	return w.found, nil
}

func isFan(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == 2 && name == strings.ToLower(name)
}

// maxForeignLogs bounds the log lines about files that are not the store's.
const maxForeignLogs = 20

type walker struct {
	found     map[Digest]foundBlob
	log       *slog.Logger
	strangers int
}

func (w *walker) foreign(path string, err error) {
	if w.strangers++; w.strangers <= maxForeignLogs {
		w.log.Warn("store: ignoring what is not a blob", "path", path, "error", err)
	}
}

// fan adds the blobs of one directory. It stats by file descriptor: no path is built or resolved.
func (w *walker) fan(root, name string) {
	path := filepath.Join(root, name)
	dir, err := os.Open(path)
	if err != nil {
		w.foreign(path, err)
		return
	}
	defer dir.Close()
	files, err := dir.Readdirnames(-1)
	if err != nil {
		w.foreign(path, err)
	}
	for _, file := range files {
		var st unix.Stat_t
		d, ok := parseDigest(file)
		if !ok || file[:2] != name {
			w.foreign(filepath.Join(path, file), nil)
			continue
		}
		err := unix.Fstatat(int(dir.Fd()), file, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			w.foreign(filepath.Join(path, file), err)
			continue
		}
		w.found[d] = foundOf(&st)
	}
}

func parseDigest(name string) (d Digest, ok bool) {
	if len(name) != 2*len(d) || name != strings.ToLower(name) {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(name))
	return d, err == nil
}

// foundOf makes the entry of a blob without a row: never verified, used when it came.
func foundOf(st *unix.Stat_t) foundBlob {
	return foundBlob{ctime: st.Ctim.Nano(), entry: entry{size: st.Size, used: st.Ctim.Nano()}}
}

// adopt fills the table with the blobs found and what the database knows of them. Rows without a
// blob are deleted. Blobs of another length than they had count as never verified, and after an
// unclean stop the newest do.
func (s *Store) adopt(found map[Digest]foundBlob) {
	clean := s.mark.clean()
	suspectFrom := newest(found) - int64(suspectWindow)
	var orphans []Digest
	s.rows.each([]byte{kindTimes}, func(r row) bool {
		d := Digest(r.key[1:])
		f, ok := found[d]
		if !ok {
			orphans = append(orphans, d)
			return true
		}
		if known := f.entry; known.decodeTimes(r.value) {
			if known.size != f.size {
				known.size, known.verified = f.size, 0
			}
			f.entry = known
			found[d] = f
		}
		return true
	})
	for d, f := range found {
		s.table.put(d, f.entry)
		if !clean && f.ctime >= suspectFrom {
			s.table.change(d, func(e *entry) { e.verified = 0 })
		}
	}
	for _, d := range orphans {
		s.rows.forget(d, 0)
	}
}

func newest(found map[Digest]foundBlob) (ctime int64) {
	for _, f := range found {
		ctime = max(ctime, f.ctime)
	}
	return ctime
}
