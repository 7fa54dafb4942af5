// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"slices"
	"strings"
)

// envPrefix begins the names of the variables that are settings.
const envPrefix = "APT_DHT"

// strangeVariables says of each variable of the environment that looks like a setting
// and is none, which one may be meant. It is no error: scripts may have their own.
func strangeVariables(environ []string) []string {
	keys := append(configKeys(), "config")
	var said []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, envPrefix+"_")
		key := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if !ours || slices.ContainsFunc(keys, func(k string) bool { return envName(k) == name }) {
			continue
		}
		line := "unknown environment variable " + name
		if near := nearest(key, keys); editDistance(key, near) <= len(key)/2 {
			line += fmt.Sprintf(": did you mean %s?", envName(near))
		}
		said = append(said, line)
	}
	return said
}

// envName is the variable that stands for a key of the configuration file.
func envName(key string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}
