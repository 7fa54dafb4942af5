// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(nodeVariable); ok {
		os.Exit(runNode(text))
	}
	goleak.VerifyTestMain(m)
}
