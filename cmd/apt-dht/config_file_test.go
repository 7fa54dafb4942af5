// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestParseConfigErrors(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"misspelt", "\nquotta = '5GB'", `f.toml:2: unknown key "quotta": the nearest valid key is "quota"`},
		{"underscore", "data_dir = '/x'", `f.toml:1: unknown key "data_dir": the nearest valid key is "data-dir"`},
		{"two", "allows = 1\nlog-lvl = 'info'", "f.toml:1: unknown key \"allows\": the nearest valid key is \"allow\"\nf.toml:2: unknown key \"log-lvl\": the nearest valid key is \"log-level\""},
		{"table", "[store]\nquota = '5GB'", `f.toml:1: unknown key "store"`},
		{"section", "[serve]\nlisten = [':9977']", `f.toml:1: unknown key "serve": there are no sections in this file`},
		{"sections", "[[serve]]\nlisten = [':9977']", `there are no sections in this file: write the keys by themselves`},
		{"key of a section", "Serve.listen = [':9977']", `there are no sections in this file`},
		{"the flag that names the file", "config = '/x'", `unknown key "config": it names this very file`},
		{"a flag of share", "base-uri = 'http://deb.example/debian'", `f.toml:1: unknown key "base-uri": it is told to share on its command line`},
		{"embedded struct", "storesettings = {quota = '5GB'}", `unknown key "storesettings"`},
		{"text for a list", "\nallow = 'lan'", `f.toml: allow: takes a list of strings, as in allow = ["CIDR|lan"]`},
		{"number in a list", "listen = [9977]", `f.toml: listen: takes a list of strings`},
		{"number for text", "Quota = 5", `f.toml: quota: takes a string, as in quota = "SIZE"`},
		{"table for a list", "[listen]\na = 1", `f.toml: listen: takes a list of strings`},
		{"bad value", "\n\nquota = 'much'", `f.toml:3: quota: "much" is not a size: give a number`},
		{"bad value in a list", "allow = [\n'lan',\n'wan']", `f.toml:3: allow: "wan" is neither "lan" nor a network`},
		{"syntax", "quota = '5GB'\nlisten [", "f.toml:2: not TOML:"},
		{"twice", "quota = '5GB'\nquota = '6GB'", "f.toml:2:"},
		{"twice in two cases", "quota = '5GB'\nQuota = '6GB'", "f.toml: quota: the key is there twice"},
		{"not text", "\x00\xff", "f.toml:1: not TOML:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			values, err := parseConfig("f.toml", []byte(tt.body))
			if err == nil || !strings.Contains(err.Error(), tt.want) || values != nil {
				t.Errorf("got %v, %v\nwant %s", values, err, tt.want)
			}
		})
	}
}

func TestParseConfigKeysInAnyCase(t *testing.T) {
	values, err := parseConfig("f.toml", []byte(`Data-Dir = "/x"`))
	if err != nil || values["data-dir"] != "/x" {
		t.Errorf("got %v, %v", values, err)
	}
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	missing, huge := filepath.Join(dir, "missing"), filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, bytes.Repeat([]byte("#\n"), maxConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if values, err := loadConfig("", missing); values != nil || err != nil {
		t.Errorf("no default file: got %v, %v", values, err)
	}
	for path, want := range map[string]string{
		missing: "no such file",
		huge:    "larger than",
		dir:     "is a directory",
	} {
		if _, err := loadConfig(path, ""); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if _, err := loadConfig("", dir); err == nil {
		t.Error("a default file that cannot be read is passed over")
	}
}

// TestSample loads the packaged file as it is, which must change nothing, and
// with every commented key taken in.
func TestSample(t *testing.T) {
	sample, err := os.ReadFile("../../packaging/apt-dht.toml")
	if err != nil {
		t.Fatal(err)
	}
	if values, err := parseConfig("sample", sample); err != nil || len(values) != 0 {
		t.Errorf("as packaged: got %v, %v", values, err)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z-]+ = )`)
	values, err := parseConfig("sample", commented.ReplaceAll(sample, []byte("$1")))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range configKeys() {
		if _, ok := values[key]; !ok {
			t.Errorf("the sample does not mention %s", key)
		}
	}
}

// TestSettingsAreKeys holds the fields of the settings to what the decoder
// relies on: a key, an example of its value, and a type that is text, or a bool.
func TestSettingsAreKeys(t *testing.T) {
	unmarshaler := reflect.TypeFor[encoding.TextUnmarshaler]()
	for _, field := range settingFields() {
		if field.Tag.Get("toml") == "" || field.Tag.Get("placeholder") == "" {
			t.Errorf("%s lacks a toml key or a placeholder", field.Name)
		}
		element := field.Type
		if element.Kind() == reflect.Slice {
			element = element.Elem()
		}
		isText := element.Kind() == reflect.Struct && reflect.PointerTo(element).Implements(unmarshaler)
		if !isText && element.Kind() != reflect.String && field.Type.Kind() != reflect.Bool {
			t.Errorf("%s: the decoder would fill a %s without UnmarshalText", field.Name, element)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"quota", "quota", 0}, {"", "abc", 3}, {"abc", "", 3},
		{"quotta", "quota", 1}, {"kitten", "sitting", 3}, {"data_dir", "data-dir", 1}, {"ab", "ba", 2},
	} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// FuzzParseConfig: whatever the file holds, it is either refused with an error
// that names it, or all that comes out are valid keys, strings and lists of
// strings, and sizes are positive.
func FuzzParseConfig(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := parseConfig("f.toml", body)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.toml:") {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		for key, value := range values {
			if !slices.Contains(configKeys(), key) || !isString(value) && !isStrings(value) {
				t.Errorf("let through %q = %v", key, value)
			}
		}
		if text, ok := values["quota"].(string); ok {
			var size byteSize
			if err := size.UnmarshalText([]byte(text)); err != nil || size.bytes < 1 {
				t.Errorf("let through quota %q: %d, %v", text, size.bytes, err)
			}
		}
	})
}
