// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"apt-dht/discovery"
)

const (
	testHash  = `"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`
	testHello = `"v":1,"id":"0123456789abcdef","port":9977`
)

// messages makes one of each message that is read from the network.
var messages = map[string]func() message{
	"pong":          func() message { return new(pong) },
	"lookup":        func() message { return new(lookupQuestion) },
	"lookup answer": func() message { return new(lookupAnswer) },
	"announce":      func() message { return new(announceQuestion) },
	"lease":         func() message { return new(leaseQuestion) },
	"lease answer":  func() message { return new(leaseAnswer) },
	"copy":          func() message { return new(copyQuestion) },
}

// What is read is written in the same way again: the forms of docs/protocol.md.
func TestMessages(t *testing.T) {
	for _, test := range []struct{ kind, text string }{
		{"pong", `{` + testHello + `,"version":"0.1.0"}`},
		{"lookup", `{` + testHello + `,"want":[{"hash":` + testHash + `,"size":123,"lease":true}]}`},
		{"lookup", `{` + testHello + `,"want":[{"hash":` + testHash + `,"have":7,"first_silent":true,"silent":[{"id":"00","addr":"10.0.0.2:9977"}]}]}`},
		{"lookup answer", `{"v":1,"found":[{"hash":` + testHash + `,"state":"none"}]}`},
		{"lookup answer", `{"v":1,"found":[{"hash":` + testHash + `,"state":"lease","number":0}]}`},
		{"lookup answer", `{"v":1,"found":[{"hash":` + testHash + `,"state":"held","from":[{"id":"0123456789abcdef","addr":"[fe80::1]:9977"}]}]}`},
		{"announce", `{` + testHello + `,"have":[` + testHash + `]}`},
		{"announce", `{` + testHello + `,"gone":[` + testHash + `]}`},
		{"lease", `{` + testHello + `,"leases":[{"hash":` + testHash + `,"offset":12345}]}`},
		{"lease", `{` + testHello + `,"leases":[{"hash":` + testHash + `,"offset":0,"give_up":true}]}`},
		{"lease answer", `{"v":1,"lost":[` + testHash + `]}`},
		{"lease answer", `{"v":1}`},
		{"copy", `{` + testHello + `,"grants":[{"hash":` + testHash + `,"asker":{"id":"0123456789abcdef","addr":"10.0.0.3:9977"},"number":3}]}`},
		{"copy", `{` + testHello + `,"grants":[{"hash":` + testHash + `,"asker":{"id":"0123456789abcdef"},"number":0,"lease":true,"offset":5}]}`},
	} {
		m := messages[test.kind]()
		if err := decode([]byte(test.text), m); err != nil {
			t.Errorf("%s %s: %v", test.kind, test.text, err)
			continue
		}
		again, err := json.Marshal(m)
		if err != nil || !sameJSON(t, again, []byte(test.text)) {
			t.Errorf("%s\n%s is written again as\n%s, %v", test.kind, test.text, again, err)
		}
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func TestBadMessages(t *testing.T) {
	many := strings.Repeat(testHash+",", maxBatch) + testHash
	for name, test := range map[string]struct{ kind, text, want string }{
		"nothing":          {"lookup", ``, "no LAN message"},
		"no JSON":          {"lookup", `GET / HTTP/1.1`, "no LAN message"},
		"no version":       {"lookup", `{}`, "not 0"},
		"another version":  {"lookup", `{"v":2,"id":7}`, "speaks version 1 of the LAN protocol, not 2"},
		"short id":         {"lookup", `{"v":1,"id":"0123","port":9977}`, "16 lower-case"},
		"upper-case id":    {"announce", `{"v":1,"id":"0123456789ABCDEF","port":9977}`, "16 lower-case"},
		"no port":          {"lease", `{"v":1,"id":"0123456789abcdef"}`, "port"},
		"large port":       {"copy", `{"v":1,"id":"0123456789abcdef","port":65536}`, "no LAN message"},
		"short hash":       {"lookup", `{` + testHello + `,"want":[{"hash":"00"}]}`, "64 lower-case"},
		"upper-case hash":  {"lookup", `{` + testHello + `,"want":[{"hash":` + strings.ToUpper(testHash) + `}]}`, "64 lower-case"},
		"no hash at all":   {"announce", `{` + testHello + `,"have":[5]}`, "no LAN message"},
		"too many":         {"announce", `{` + testHello + `,"have":[` + many + `]}`, "at most 512"},
		"too many in all":  {"announce", `{` + testHello + `,"have":[` + testHash + `],"gone":[` + many[len(testHash)+1:] + `]}`, "at most 512"},
		"grant to nobody":  {"copy", `{` + testHello + `,"grants":[{"hash":` + testHash + `,"number":1}]}`, "no asker"},
		"negative number":  {"copy", `{` + testHello + `,"grants":[{"hash":` + testHash + `,"asker":{"id":"0123456789abcdef"},"number":-1}]}`, "no asker"},
		"name for address": {"lookup answer", `{"v":1,"found":[{"hash":` + testHash + `,"from":[{"id":"0","addr":"localhost:80"}]}]}`, "no LAN message"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := decode([]byte(test.text), messages[test.kind]()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// What may be odd and is yet no reason to refuse a message.
func TestOddMessages(t *testing.T) {
	var q lookupQuestion
	places := strings.Repeat(`{"id":"0","addr":"10.0.0.1:1"},`, 99) + `{"id":"0"}`
	text := `{` + testHello + `,"later":[1,2],"want":[{"hash":` + testHash + `,"size":-5,"have":9000000000000000000,"later":{},"silent":[` + places + `]}]}`
	if err := decode([]byte(text), &q); err != nil {
		t.Fatal(err)
	}
	if w := q.Want[0]; w.Size != 0 || w.Have != maxOffset || len(w.Silent) != maxPlaces {
		t.Errorf("size %d, have %d, %d silent places", w.Size, w.Have, len(w.Silent))
	}
	var a lookupAnswer
	text = `{"v":1,"found":[{"hash":` + testHash + `,"state":"elsewhere","number":-3}]}`
	if err := decode([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	node := startNodes(t, 1)[0]
	if f := node.foundBy(discovery.Member{}, &a.Found[0]); f.State != discovery.None || f.Number != -1 {
		t.Errorf("a state that is unknown is %s with number %d", f.State, f.Number)
	}
}

// FuzzMessages: whatever is read is within bounds, and is read again as it is
// written.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{` + testHello + `,"want":[{"hash":` + testHash + `,"size":123,"lease":true,"silent":[{"id":"0","addr":"[fe80::1%eth0]:1"}]}]}`))
	f.Add([]byte(`{"v":1,"found":[{"hash":` + testHash + `,"state":"coming","number":5,"from":[{"id":"0","addr":"10.0.0.2:9977"}]}]}`))
	f.Add([]byte(`{` + testHello + `,"have":[` + testHash + `],"gone":[],"leases":[{"hash":` + testHash + `,"offset":9}],"lost":[` + testHash + `]}`))
	f.Add([]byte(`{` + testHello + `,"grants":[{"hash":` + testHash + `,"asker":{"id":"0123456789abcdef","addr":"10.0.0.3:9977"},"number":3}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for kind, make := range messages {
			m := make()
			if decode(body, m) != nil {
				continue
			}
			if err := withinBounds(m); err != nil {
				t.Errorf("%s %q: %v", kind, body, err)
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatalf("%s %q: %v", kind, body, err)
			}
			again := make()
			if err := decode(text, again); err != nil || !sameMessage(t, m, again) {
				t.Errorf("%s %q is read again as %+v: %v", kind, text, again, err)
			}
		}
	})
}

func sameMessage(t *testing.T, a, b message) bool {
	t.Helper()
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}

func withinBounds(m message) error {
	switch m := m.(type) {
	case *lookupQuestion:
		for _, w := range m.Want {
			if w.Size < 0 || w.Size > maxOffset || w.Have < 0 || w.Have > maxOffset || len(w.Silent) > maxPlaces {
				return fmt.Errorf("want %+v", w)
			}
		}
		return checkCount(len(m.Want))
	case *lookupAnswer:
		for _, f := range m.Found {
			if len(f.From) > maxPlaces || f.Number != nil && (*f.Number < 0 || *f.Number > maxNumber) {
				return fmt.Errorf("found %+v", f)
			}
		}
		return checkCount(len(m.Found))
	case *announceQuestion:
		return checkCount(len(m.Have) + len(m.Gone))
	case *leaseQuestion:
		for _, l := range m.Leases {
			if l.Offset < 0 || l.Offset > maxOffset {
				return fmt.Errorf("report %+v", l)
			}
		}
		return checkCount(len(m.Leases))
	case *leaseAnswer:
		return checkCount(len(m.Lost))
	case *copyQuestion:
		for _, g := range m.Grants {
			if g.Number < 0 || g.Number > maxNumber || g.Offset < 0 || g.Offset > maxOffset || !idPattern.MatchString(g.Asker.ID) {
				return fmt.Errorf("grant %+v", g)
			}
		}
		return checkCount(len(m.Grants))
	}
	return nil
}
