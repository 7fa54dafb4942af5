// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if bootstrap, ok := os.LookupEnv(childVariable); ok {
		os.Exit(runChild(bootstrap))
	}
	goleak.VerifyTestMain(m)
}
