// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"
)

const (
	defaultConfig = "/etc/apt-dht/apt-dht.toml"
	// maxConfig bounds the configuration file; a long one has a few kilobytes.
	maxConfig = 1 << 20
)

// configFlag is the flag that names the file; it cannot be a key of the file.
type configFlag struct {
	Config string `type:"path" placeholder:"FILE" help:"Configuration file (${config}, which may be missing)."`
}

// BeforeResolve reads the configuration file, so that kong finds in it what
// neither command line nor environment say.
func (configFlag) BeforeResolve(ctx *kong.Context) error {
	values, err := loadConfig(configPath(ctx), defaultConfig)
	if err != nil {
		return err
	}
	ctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, env := range flag.Envs {
			if _, set := os.LookupEnv(env); set {
				return nil, nil // kong would let a resolver win over the environment
			}
		}
		return values[flag.Name], nil
	}))
	return nil
}

// configPath returns the file named on the command line or in the environment,
// or "" for none.
func configPath(ctx *kong.Context) string {
	for _, flag := range ctx.Flags() {
		if flag.Name == "config" {
			return ctx.FlagValue(flag).(string)
		}
	}
	return ""
}

// loadConfig returns the keys and values of the named file; if the name is
// empty, those of the fallback, which need not exist.
func loadConfig(named, fallback string) (map[string]any, error) {
	path := cmp.Or(named, fallback)
	f, err := os.Open(path)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(body) > maxConfig {
		return nil, fmt.Errorf("configuration: %s is larger than %d bytes: is it the right file?", path, maxConfig)
	}
	return parseConfig(path, body)
}

// parseConfig checks body, the file at path, against the settings and returns
// its keys, in lower case, with their values: strings and lists of strings,
// which kong then reads as it reads a flag's.
func parseConfig(path string, body []byte) (map[string]any, error) {
	var raw map[string]any
	if err := toml.Unmarshal(body, &raw); err != nil {
		return nil, explain(path, nil, err)
	}
	values := make(map[string]any, len(raw))
	for key, value := range raw {
		key = strings.ToLower(key) // the decoder does not mind the case of a key
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("%s: %s: the key is there twice", path, key)
		}
		values[key] = value
	}
	if err := checkKinds(path, values); err != nil {
		return nil, err
	}
	var checked settings
	err := toml.NewDecoder(bytes.NewReader(body)).DisallowUnknownFields().Decode(&checked)
	if err != nil {
		return nil, explain(path, values, err)
	}
	return values, nil
}

// checkKinds finds numbers, tables and the like where a setting takes text.
func checkKinds(path string, values map[string]any) error {
	for _, field := range settingFields() {
		key := field.Tag.Get("toml")
		value, set := values[key]
		list := field.Type.Kind() == reflect.Slice
		_, isBool := value.(bool)
		switch {
		case !set:
		case field.Type.Kind() == reflect.Bool:
			if !isBool {
				return fmt.Errorf("%s: %s: takes true or false, as in %s = false", path, key, key)
			}
		case list && !isStrings(value):
			return fmt.Errorf("%s: %s: takes a list of strings, as in %s = [%q]", path, key, key, field.Tag.Get("placeholder"))
		case !list && !isString(value):
			return fmt.Errorf("%s: %s: takes a string, as in %s = %q", path, key, key, field.Tag.Get("placeholder"))
		}
	}
	return nil
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}

func isStrings(v any) bool {
	list, ok := v.([]any)
	return ok && !slices.ContainsFunc(list, func(e any) bool { return !isString(e) })
}

// explain says in the user's words what the TOML decoder found wrong with a file
// that has these values, as far as they could be read.
func explain(path string, values map[string]any, err error) error {
	if unknown := (*toml.StrictMissingError)(nil); errors.As(err, &unknown) {
		var all []error
		for i := range unknown.Errors {
			all = append(all, unknownKey(path, values, &unknown.Errors[i]))
		}
		return errors.Join(all...)
	}
	wrong := (*toml.DecodeError)(nil)
	if !errors.As(err, &wrong) {
		return fmt.Errorf("%s: %w", path, err)
	}
	line, _ := wrong.Position()
	message := strings.TrimPrefix(wrong.Error(), "toml: ")
	if len(wrong.Key()) == 0 {
		return fmt.Errorf("%s:%d: not TOML: %s", path, line, message)
	}
	return fmt.Errorf("%s:%d: %s: %s", path, line, strings.Join(wrong.Key(), "."), message)
}

// flagsAlone are flags that are no keys of the file, and why.
var flagsAlone = map[string]string{
	"base-uri": "it is told to share on its command line, with the directory: --base-uri URL",
	"config":   "it names this very file, so only --config and APT_DHT_CONFIG can say it",
}

func unknownKey(path string, values map[string]any, err *toml.DecodeError) error {
	line, _ := err.Position()
	key := strings.Join(err.Key(), ".")
	if len(err.Key()) > 0 && isSection(values[strings.ToLower(err.Key()[0])]) {
		return fmt.Errorf("%s:%d: unknown key %q: there are no sections in this file: write the keys by themselves, as in quota = \"20GiB\"", path, line, key)
	}
	if why := flagsAlone[strings.ToLower(key)]; why != "" {
		return fmt.Errorf("%s:%d: unknown key %q: %s", path, line, key, why)
	}
	return fmt.Errorf("%s:%d: unknown key %q: the nearest valid key is %q", path, line, key, nearest(key, configKeys()))
}

// isSection tells [section], [[section]] and section.key = … from a plain value.
func isSection(v any) bool {
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	_, ok := v.(map[string]any)
	return ok
}

// configKeys returns the valid keys in the order of the settings.
func configKeys() []string {
	var keys []string
	for _, field := range settingFields() {
		keys = append(keys, field.Tag.Get("toml"))
	}
	return keys
}

// settingFields returns the fields of the settings, those of the structs
// embedded in them included.
func settingFields() []reflect.StructField {
	fields := reflect.VisibleFields(reflect.TypeFor[settings]())
	return slices.DeleteFunc(fields, func(f reflect.StructField) bool { return f.Anonymous })
}

// nearest returns the word that the fewest edits turn name into.
func nearest(name string, words []string) string {
	best, least := "", math.MaxInt
	for _, word := range words {
		if d := editDistance(strings.ToLower(name), word); d < least {
			best, least = word, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance of a and b in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
