// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRefuseForeign(t *testing.T) {
	for name, tt := range map[string]struct {
		names   []string
		foreign string
	}{
		"new":                      {nil, ""},
		"a file system of its own": {[]string{"lost+found", ".snapshots"}, ""},
		"a store":                  {[]string{"badger", "blobs", "dht-nodes", "index", "lock", "partial", "state", "README"}, ""},
		"just begun":               {[]string{"blobs"}, ""},
		"of share":                 {[]string{"share-0123456789abcdef"}, ""},
		"of dht-node":              {[]string{"bootstrap-nodes"}, ""},
		"somebody else's":          {[]string{".git", "fstab"}, `"fstab"`},
		"with a state":             {[]string{"state"}, `"state"`},
	} {
		dir := t.TempDir()
		for _, n := range tt.names {
			if err := os.Mkdir(filepath.Join(dir, n), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		err := refuseForeign(dir)
		if (err != nil) != (tt.foreign != "") || err != nil && !strings.Contains(err.Error(), tt.foreign) {
			t.Errorf("%s: %v, want %s", name, err, tt.foreign)
		}
	}
	if err := refuseForeign(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("a directory that does not exist yet: %v", err)
	}
}
