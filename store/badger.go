// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	sst "github.com/dgraph-io/badger/v4/table"
)

const (
	// memTableSize is how much badger gathers in memory, and in its log, before it writes a table.
	memTableSize = 2 << 20
	// maxTxn bounds one transaction, in bytes as entryCost counts them; badger refuses more than
	// 15 % of memTableSize.
	maxTxn = 128 << 10
	// badgerFormat is changed when rows change their meaning: badger then refuses the old database,
	// which is rebuilt.
	badgerFormat = 1
)

// badgerOptions keep badger small: it holds some ten thousand short rows. Every value stays in the
// tables (the largest row is 32 KiB, statesPerRow), so the value log is never written after Open.
// badger does not compact by itself: rows.compact does, when there is room. The store's own lock
// guards the directory.
func badgerOptions(dir string, log badger.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(log).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithNumLevelZeroTables(maxYoungTables).
		WithNumLevelZeroTablesStall(1 << 20).
		WithBaseTableSize(1 << 20).
		WithBaseLevelSize(4 << 20).
		WithValueThreshold(maxTxn).
		WithValueLogFileSize(1 << 20).
		WithBlockCacheSize(0).
		WithIndexCacheSize(2 << 20).
		WithCompression(options.None).
		WithNumCompactors(0).
		WithNumGoroutines(1).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithBypassLockGuard(true).
		WithExternalMagic(badgerFormat)
}

// openBadger opens the database in dir, and starts an empty one where that fails.
func openBadger(dir string, log *slog.Logger) (*badger.DB, error) {
	return openGuarded(dir, log, tryBadger)
}

func openGuarded(dir string, log *slog.Logger, try func(string, *slog.Logger) (*badger.DB, error)) (*badger.DB, error) {
	deaths, err := countAttempt(dir)
	if err != nil {
		return nil, err
	}
	defer func() { leaveDeaths(dir, deaths, log) }() // whoever comes to this has not died
	err = errDiedOpening
	if deaths < maxDeaths {
		var db *badger.DB
		if db, err = try(dir, log); err == nil {
			deaths = 0
			return db, nil
		}
		if errors.Is(noSpace(err), ErrNoSpace) || errors.Is(err, os.ErrPermission) {
			return nil, err
		}
	}
	log.Warn("store: what was known of the blobs is lost; it is gathered anew", "dir", dir, "error", err)
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("store: remove broken database: %w", err)
	}
	deaths = 0 // those were the old one's
	return try(dir, log)
}

// badger ends the whole process on some kinds of damage (its y.AssertTrue, SIGBUS). So each attempt
// to open it leaves a byte in a file beside it, which is taken back unless the process dies: a
// database that has taken two processes with it is not tried a third time.
const maxDeaths = 2

var errDiedOpening = errors.New("the process died twice while opening it")

func attemptFile(dir string) string { return dir + ".opening" }

func countAttempt(dir string) (deaths int, err error) {
	f, err := os.OpenFile(attemptFile(dir), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	if _, err := f.WriteString("."); err != nil {
		return 0, fmt.Errorf("store: %w", noSpace(err))
	}
	return int(st.Size()), nil
}

func leaveDeaths(dir string, deaths int, log *slog.Logger) {
	path := attemptFile(dir)
	var err error
	if deaths == 0 {
		err = os.Remove(path)
	} else {
		err = os.Truncate(path, int64(deaths))
	}
	if err != nil {
		log.Warn("store: this start counts as one that the database ended", "error", err)
	}
}

func tryBadger(dir string, log *slog.Logger) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store: open %s: %v", dir, r)
		}
	}()
	if err := removeUnusedLogs(dir); err != nil {
		return nil, err
	}
	opts := badgerOptions(dir, badgerLog{log})
	if err := checkTables(opts); err != nil {
		return nil, err
	}
	db, err = badger.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	return db, nil
}

// checkTables reads all tables and compares their checksums. badger can do so itself, but goes on
// without a table that is wrong, so that older rows come back, and panics in a goroutine of its own
// at one that is cut short; and its mapped pages would count as this process's memory.
func checkTables(opts badger.Options) error {
	f, err := os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	manifest, _, err := badger.ReplayManifestFile(f, badgerFormat, opts)
	if err != nil {
		return fmt.Errorf("store: %s: %w", f.Name(), err)
	}
	for id := range manifest.Tables {
		if err := checkTable(sst.NewFilename(id, opts.Dir), id); err != nil {
			return err
		}
	}
	return nil
}

func checkTable(path string, id uint64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	t, err := sst.OpenInMemoryTable(data, id, &sst.Options{})
	if err == nil {
		err = t.VerifyChecksum()
	}
	if err != nil {
		return fmt.Errorf("store: damaged table %s: %w", path, err)
	}
	return nil
}

// badgerLog passes on badger's warnings and errors.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, args ...any) {
	l.log.Error("store: badger", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l badgerLog) Warningf(format string, args ...any) {
	l.log.Warn("store: badger", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l badgerLog) Infof(string, ...any)  {}
func (l badgerLog) Debugf(string, ...any) {}

// removeUnusedLogs removes the preallocated log that badger has not come to use (see walSpace): it
// does not open an empty one.
func removeUnusedLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*"+memExt))
	if err != nil {
		return err
	}
	for _, path := range logs {
		if st, err := os.Lstat(path); err == nil && st.Size() == 0 {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("store: %w", err)
			}
		}
	}
	return nil
}
