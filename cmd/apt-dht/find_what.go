// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
)

// meaning is what the node is to be asked for WHAT.
func meaning(ctx context.Context, what string) (url.Values, error) {
	lower := strings.ToLower(what)
	if raw, err := hex.DecodeString(lower); err == nil && len(raw) == sha256.Size {
		return url.Values{"sha256": {lower}}, nil
	}
	if strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://") {
		return url.Values{"url": {what}}, nil
	}
	digest, err := hashFile(ctx, what)
	if errors.Is(err, fs.ErrNotExist) && packageFile.MatchString(what) {
		digest, err = askApt(ctx, what)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find: %q is no file here: give a SHA-256, a URL, the name of a package's file as hello_2.10-3_amd64.deb, or a path", what)
	}
	if err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	return url.Values{"sha256": {digest}}, nil
}

// hashFile is the SHA-256 of a regular file.
func hashFile(ctx context.Context, name string) (string, error) {
	info, err := os.Stat(name) // before it is opened: a pipe would wait
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("hash %s: %w", name, ctx.Err())
		}
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// packageFile is the name of a binary package's file in a pool or in apt's cache:
// package, version, architecture (Debian policy, 5.6).
var packageFile = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+)_([A-Za-z0-9.+~%-]+)_([a-z0-9-]+)\.u?deb$`)

// maxRecords bounds what apt-cache is listened to, in bytes.
const maxRecords = 4 << 20

// askApt returns the SHA-256 that apt's lists have for the file of a package. A node
// could not tell: its index keeps hashes of paths, not names.
func askApt(ctx context.Context, name string) (string, error) {
	parts := packageFile.FindStringSubmatch(name)
	pkg := parts[1]
	if parts[3] != "all" {
		pkg += ":" + parts[3]
	}
	cmd := exec.CommandContext(ctx, "apt-cache", "show", pkg)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var records, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{&records, maxRecords}, &limited{&complaint, 1 << 10}
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is no file here, and there is no apt-cache to look its name up with: give its SHA-256 or URL", name)
	}
	hashes := hashesOf(&records, name)
	switch {
	case len(hashes) == 1:
		return hashes[0], nil
	case len(hashes) > 1:
		return "", fmt.Errorf("apt's lists know several files named %s: give one of their hashes, %s", name, strings.Join(hashes, " "))
	case err != nil && complaint.Len() > 0:
		return "", fmt.Errorf("apt's lists do not know %s (%s): give its SHA-256 or URL", name, strings.TrimSpace(complaint.String()))
	}
	return "", fmt.Errorf("apt's lists do not know %s, perhaps another version: give its SHA-256 or URL", name)
}

// limited takes no more than left bytes, and drops the rest.
type limited struct {
	buf  *bytes.Buffer
	left int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	take := min(len(p), l.left)
	l.left -= take
	l.buf.Write(p[:take])
	return len(p), nil
}

// hashesOf returns the different SHA256 fields of the records (deb-control) whose
// file has that name.
func hashesOf(records io.Reader, name string) []string {
	var hashes []string
	fields := map[string]string{}
	end := func() {
		hash := fields["SHA256"]
		if isFileOf(fields, name) && len(hash) == 2*sha256.Size && !slices.Contains(hashes, hash) {
			hashes = append(hashes, hash)
		}
		clear(fields)
	}
	lines := bufio.NewScanner(records)
	lines.Buffer(nil, maxRecords)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			end()
			continue
		}
		if field, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' {
			fields[field] = strings.TrimSpace(value)
		}
	}
	end()
	return hashes
}

// isFileOf tells whether a record's file has that name: in its pool, or in apt's
// cache, where the version has its epoch, with the colon as %3a.
func isFileOf(record map[string]string, name string) bool {
	file := path.Base(record["Filename"])
	if file == name {
		return true
	}
	cached := record["Package"] + "_" + strings.ReplaceAll(record["Version"], ":", "%3a") + "_" + record["Architecture"] + path.Ext(file)
	return strings.EqualFold(cached, name)
}
