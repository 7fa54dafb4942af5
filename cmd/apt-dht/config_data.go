// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"apt-dht/store"
)

// useStore turns root into the owner of a store, and refuses a directory that is none:
// something would be made in it.
func useStore(dir string) error {
	if err := becomeOwner(dir); err != nil {
		return err
	}
	err := store.Check(dir)
	if errors.Is(err, store.ErrNoStore) {
		return fmt.Errorf("%w: name the one to use with --data-dir", err)
	}
	return err
}

// ownNames are what serve, share and dht-node make in a data directory, but for
// what others might have too.
var ownNames = map[string]bool{"badger": true, "blobs": true, "partial": true, "index": true, "dht-nodes": true, "bootstrap-nodes": true}

// refuseForeign refuses a data directory in which there are files, and all of them
// somebody else's. What is hidden does not count: a home directory has such
// things, and a new file system its lost+found. Whether it can be used at all shows
// when it is.
func refuseForeign(dir string) error {
	entries, _ := os.ReadDir(dir)
	foreign := ""
	for _, e := range entries {
		name := e.Name()
		switch {
		case ownNames[name], strings.HasPrefix(name, "share-"):
			return nil
		case !strings.HasPrefix(name, ".") && name != "lost+found":
			foreign = cmp.Or(foreign, name)
		}
	}
	if foreign == "" {
		return nil
	}
	return fmt.Errorf("data-dir: %s is not empty, and no store of apt-dht (it has %q): name an empty directory, or a new one, with --data-dir", dir, foreign)
}
