// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// What looks like a setting and is none is told of, and nothing else is.
func TestStrangeVariables(t *testing.T) {
	for variable, want := range map[string]string{
		"APT_DHT_QOUTA=1GB":         "unknown environment variable APT_DHT_QOUTA: did you mean APT_DHT_QUOTA?",
		"APT_DHT_DATADIR=/x":        "unknown environment variable APT_DHT_DATADIR: did you mean APT_DHT_DATA_DIR?",
		"APT_DHT_data_dir=/x":       "unknown environment variable APT_DHT_data_dir: did you mean APT_DHT_DATA_DIR?",
		"APT_DHT_MY_OWN_SCRIPT=yes": "unknown environment variable APT_DHT_MY_OWN_SCRIPT",
		"APT_DHT_=":                 "unknown environment variable APT_DHT_",
		"APT_DHT_DHT_PRIVATE=true":  "",
		"APT_DHT_CONFIG=":           "",
		"APT_DHTS=1":                "",
		"QUOTA=1GB":                 "",
	} {
		if got := strings.Join(strangeVariables([]string{variable}), "; "); got != want {
			t.Errorf("%s: got %q, want %q", variable, got, want)
		}
	}
}

// Every flag that the environment can set is known.
func TestNoFlagIsStrange(t *testing.T) {
	parser, err := kong.New(new(commands), kong.DefaultEnvars(envPrefix), kong.Vars{"data_dir": "", "config": "", "version": ""})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			if got := strangeVariables(flag.Envs); !slices.Equal(got, nil) {
				t.Errorf("%s --%s: %q", command.Name, flag.Name, got)
			}
		}
	}
}
