// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
)

// A Digest is a blob's name: the SHA-256 of its bytes.
type Digest = [sha256.Size]byte

const (
	// maxDefaultQuota holds a Debian release's installed packages for a whole office.
	maxDefaultQuota = 20 << 30
	// maxDefaultFloor is what a machine needs to log, upgrade and write its mail on a large disk.
	maxDefaultFloor = 1 << 30
	// floorShare: on a small disk (a 16 GB SD card) 1 GiB would be greedy. A fiftieth is less than
	// the twentieth that ext4 itself keeps back for root, so the store stops before root suffers.
	floorShare = 50
	quotaShare = 10
)

// Config says where a Store is and how large it may grow.
type Config struct {
	// Dir is the store's directory, made if missing. Required.
	Dir string
	// Quota bounds the bytes of all blobs. Zero: the smaller of 20 GiB and a tenth of the disk.
	Quota int64
	// FreeFloor is how many bytes of the disk the store leaves free. Zero: the smaller of 1 GiB and
	// a fiftieth of the disk.
	FreeFloor int64
	// InUse yields every digest that a current index names. Of the store's methods it may call Stat
	// alone. Nil, or one that yields nothing: it is not known what is in use.
	InUse iter.Seq[Digest]
	// Gone is told of every blob that is no longer to be had: evicted, gone bad, or missing. It is called while the store holds no lock, and should
	// return soon. Nil: nobody is told.
	Gone func(Digest)
	// Log gets what the operator should know. Nil: slog.Default.
	Log *slog.Logger
}

// withDefaults fills in what was left zero. It needs the directory to exist.
func (c Config) withDefaults() (Config, error) {
	if c.Quota < 0 || c.FreeFloor < 0 {
		return c, fmt.Errorf("store: quota %d and floor of free space %d must not be negative", c.Quota, c.FreeFloor)
	}
	abs, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("store: %w", err)
	}
	c.Dir = abs
	total, err := diskSize(c.Dir)
	if err != nil {
		return c, err
	}
	if c.Quota == 0 {
		c.Quota = min(maxDefaultQuota, total/quotaShare)
	}
	if c.FreeFloor == 0 {
		c.FreeFloor = min(maxDefaultFloor, total/floorShare)
	}
	return c, nil
}

var errNoDir = errors.New("store: no directory configured")
