// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxConfigFile = 1 << 20 // of sources and mirror lists; real ones have a few kilobytes
	maxFiles      = 1000    // of one directory
	maxSources    = 10_000
)

// reader reads configuration files within bounds and reports what it skips.
type reader struct {
	log *slog.Logger
}

// read returns the content of a regular file of at most limit bytes. A file that is missing is
// (nil, false) without a warning: nearly all of apt's files are optional.
func (r reader) read(path string, limit int64) ([]byte, bool) {
	data, err := readBounded(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		r.skip(path, 0, err)
		return nil, false
	}
	return data, true
}

func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file") // opening a FIFO would block
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return data, nil
}

// list returns the paths in dir that apt would read: names of letters, digits, '_', '-', ':' and
// '.', with one of the endings, sorted. A missing directory is empty.
func (r reader) list(dir string, endings ...string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.skip(dir, 0, err)
	}
	var paths []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !slices.Contains(endings, filepath.Ext(name)) {
			continue // apt's packages keep '.save' and '.disabled' files here
		}
		path := filepath.Join(dir, name)
		if !validName(name) {
			r.skip(path, 0, errors.New("apt ignores a file of this name"))
			continue
		}
		paths = append(paths, path)
	}
	if len(paths) > maxFiles {
		r.skip(dir, 0, fmt.Errorf("more than %d files: only the first are read", maxFiles))
		paths = paths[:maxFiles]
	}
	return paths
}

// validName is the rule of apt's GetListOfFilesInDir, which is that of run-parts(8) with periods.
func validName(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		return !letter && (c < '0' || c > '9') && !strings.ContainsRune("_-:.", c)
	}) < 0
}

// skip warns that something in a file is left out. Line 0 means the whole file.
func (r reader) skip(path string, line int, err error) {
	if line > 0 {
		path = fmt.Sprintf("%s:%d", path, line)
	}
	r.log.Warn("skipped in apt's configuration", slog.String("at", path), slog.Any("error", err))
}
