// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"encoding/json"
	"strings"
	"testing"

	"apt-dht/dht"
)

const (
	testHash  = `"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`
	testNonce = `"0123456789abcdef0123456789abcdef"`
)

// messages makes one of each message that is read from the network.
var messages = map[string]func() message{
	"pong":         func() message { return new(pong) },
	"have":         func() message { return new(haveQuestion) },
	"have answer":  func() message { return new(haveAnswer) },
	"reach":        func() message { return new(reachQuestion) },
	"reach answer": func() message { return new(reachAnswer) },
}

// What is read is written in the same way again: the forms of docs/protocol.md.
func TestMessages(t *testing.T) {
	for _, test := range []struct{ kind, text, err string }{
		{"pong", `{"v":1,"version":"0.1.0"}`, ""},
		{"pong", `{"v":1,"version":"0.1.0","nonce":` + testNonce + `}`, ""},
		{"have", `{"v":1,"want":[` + testHash + `]}`, ""},
		{"have answer", `{"v":1,"have":[` + testHash + `]}`, ""},
		{"have answer", `{"v":1,"have":[]}`, ""},
		{"reach", `{"v":1,"port":9978,"nonce":` + testNonce + `}`, ""},
		{"reach answer", `{"v":1,"reached":true}`, ""},
		{"have", `{"v":2,"want":[]}`, "version 1 of the WAN protocol, not 2"},
		{"have", `{}`, "not 0"},
		{"have", `[]`, "no WAN message"},
		{"have", `{"v":1,"want":["0123"]}`, "64 lower-case"},
		{"have answer", `{"v":1,"have":[` + strings.Repeat(testHash+",", maxBatch) + testHash + `]}`, "at most 512"},
		{"reach", `{"v":1,"port":1023,"nonce":` + testNonce + `}`, "below 1024"},
		{"reach", `{"v":1,"port":65536,"nonce":` + testNonce + `}`, "no WAN message"},
		{"reach", `{"v":1,"port":9978,"nonce":"x"}`, "nonce"},
	} {
		m := messages[test.kind]()
		err := decode([]byte(test.text), m)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s %.80s: %v", test.kind, test.text, err)
			}
			continue
		}
		again, err2 := json.Marshal(m)
		if err != nil || err2 != nil || string(again) != test.text {
			t.Errorf("%s\n%s is written again as\n%s, %v, %v", test.kind, test.text, again, err, err2)
		}
	}
}

// FuzzMessages: whatever is read is within bounds, and is read again as it is
// written.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"v":1,"want":[` + testHash + `],"have":[` + testHash + `]}`))
	f.Add([]byte(`{"v":1,"port":9978,"nonce":` + testNonce + `,"version":"0.1.0"}`))
	f.Add([]byte(`{"v":1,"reached":true}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for kind, make := range messages {
			m := make()
			if decode(body, m) != nil {
				continue
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatalf("%s %q: %v", kind, body, err)
			}
			again := make()
			if err := decode(text, again); err != nil {
				t.Errorf("%s %q is not read again: %v", kind, text, err)
			}
			if twice, err := json.Marshal(again); err != nil || string(twice) != string(text) {
				t.Errorf("%s %q is written again as %q: %v", kind, text, twice, err)
			}
			switch m := m.(type) {
			case *haveQuestion:
				if len(m.Want) > maxBatch {
					t.Errorf("%d hashes are wanted", len(m.Want))
				}
			case *haveAnswer:
				if len(m.Have) > maxBatch {
					t.Errorf("%d hashes are there", len(m.Have))
				}
			case *reachQuestion:
				if m.Port < dht.MinPort || len(m.Nonce) != 32 || strings.ContainsAny(m.Nonce, "&?# /\r\n") {
					t.Errorf("%s %q is read as %+v", kind, body, m)
				}
			}
		}
	})
}
