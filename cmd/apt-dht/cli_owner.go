// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"os"
	"syscall"
)

// becomeOwner turns root into the owner of an existing data directory, for
// good: a file that root made in the store could not be written by the service,
// which runs as a user of its own. Other users stay who they are.
func becomeOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("no store to work on, name the one to use with --data-dir: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("give up root's groups: %w", err)
	}
	if err := syscall.Setgid(int(owner.Gid)); err != nil {
		return fmt.Errorf("take the group of %s: %w", dir, err)
	}
	if err := syscall.Setuid(int(owner.Uid)); err != nil {
		return fmt.Errorf("become the owner of %s: %w", dir, err)
	}
	return nil
}
