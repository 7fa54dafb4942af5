// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var testLocation = &url.URL{Scheme: "http", Host: "192.168.1.1:5000", Path: "/dir/desc.xml"}

func TestParseDescription(t *testing.T) {
	ip, ppp := describeService("WANIPConnection:1", "/ip"), describeService("WANPPPConnection:1", "ppp")
	for _, tt := range []struct {
		name, text string
		want       string // control URLs; "": an error
	}{
		{"one", fmt.Sprintf(description, "", ip), "http://192.168.1.1:5000/ip"},
		{"two, the better first", fmt.Sprintf(description, "", ppp+ip), "http://192.168.1.1:5000/ip http://192.168.1.1:5000/ppp"},
		{"version 2", fmt.Sprintf(description, "", ip+describeService("WANIPConnection:2", "/2")), "http://192.168.1.1:5000/2 http://192.168.1.1:5000/ip"},
		{"too many", fmt.Sprintf(description, "", strings.Repeat(ip, 9)), strings.TrimSpace(strings.Repeat("http://192.168.1.1:5000/ip ", maxServices))},
		{"with a base", fmt.Sprintf(description, "<URLBase>http://192.168.1.1:80/</URLBase>", ip), "http://192.168.1.1:80/ip"},
		{"with a base elsewhere", fmt.Sprintf(description, "<URLBase>http://192.168.1.2:80/</URLBase>", ip), "http://192.168.1.1:5000/ip"},
		{"absolute", fmt.Sprintf(description, "", describeService("WANIPConnection:1", "http://192.168.1.1:49152/c")), "http://192.168.1.1:49152/c"},
		{"without a namespace", strings.Replace(fmt.Sprintf(description, "", ip), ` xmlns="urn:schemas-upnp-org:device-1-0"`, "", 1), "http://192.168.1.1:5000/ip"},
		{"in Latin-1", strings.NewReplacer(`"1.0"?`, `"1.0" encoding="ISO-8859-1"?`, "Box", "B\xf6x").Replace(fmt.Sprintf(description, "", ip)), "http://192.168.1.1:5000/ip"},
		{"in Latin-1, says nothing", strings.Replace(fmt.Sprintf(description, "", ip), "Box", "B\xf6x", 1), "http://192.168.1.1:5000/ip"},
		{"says Latin-1, is ASCII", strings.Replace(fmt.Sprintf(description, "", ip), `"1.0"?`, `"1.0" encoding="ISO-8859-1"?`, 1), "http://192.168.1.1:5000/ip"},
		{"control elsewhere", fmt.Sprintf(description, "", describeService("WANIPConnection:1", "http://192.168.1.2/c")), ""},
		{"control beside", fmt.Sprintf(description, "", describeService("WANIPConnection:1", "//192.168.1.2/c")), ""},
		{"control by name", fmt.Sprintf(description, "", describeService("WANIPConnection:1", "http://evil.example/c")), ""},
		{"control by https", fmt.Sprintf(description, "", describeService("WANIPConnection:1", "https://192.168.1.1/c")), ""},
		{"other services", fmt.Sprintf(description, "", describeService("WANCommonInterfaceConfig:1", "/c")), ""},
		{"cut off", fmt.Sprintf(description, "", ip)[:400], ""},
		{"HTML", "<!DOCTYPE html><html><body>Log in</body></html>", ""},
		{"entities", `<!DOCTYPE r [<!ENTITY a "&b;&b;"><!ENTITY b "&a;">]><root>&a;</root>`, ""},
		{"deep", strings.Repeat("<root><device>", 6000), ""},
		{"empty", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			services, err := parseDescription([]byte(tt.text), testLocation, routerAddr)
			var got []string
			for _, s := range services {
				got = append(got, s.control.String())
			}
			if strings.Join(got, " ") != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// FuzzParseDescription checks that whatever is found is on the router.
func FuzzParseDescription(f *testing.F) {
	f.Add(fmt.Appendf(nil, description, "<URLBase>http://192.168.1.1:80/</URLBase>", describeService("WANIPConnection:1", "/ip")))
	f.Add(fmt.Appendf(nil, description, "", describeService("WANPPPConnection:1", "http://192.168.1.1@evil.example/")))
	f.Fuzz(func(t *testing.T, body []byte) {
		services, err := parseDescription(body, testLocation, routerAddr)
		if (err == nil) != (len(services) > 0) || len(services) > maxServices {
			t.Fatalf("%d services, %v", len(services), err)
		}
		for _, s := range services {
			if s.control.Scheme != "http" || s.control.Hostname() != "192.168.1.1" {
				t.Fatalf("control URL %s", &s.control)
			}
		}
	})
}

func TestHostileDescriptions(t *testing.T) {
	t.Run("endless", func(t *testing.T) {
		if tooLong := new(http.MaxBytesError); !errors.As(hostile(t, endless), &tooLong) || tooLong.Limit != maxDescription {
			t.Errorf("the limit was %d", tooLong.Limit)
		}
	})
	t.Run("endless header", func(t *testing.T) {
		hostile(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeaders))
			fmt.Fprintf(w, description, "", describeService("WANIPConnection:1", "/ip"))
		})
	})
	t.Run("slow", func(t *testing.T) {
		hostile(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
				pause(r.Context(), 10*time.Millisecond)
			}
		})
	})
	t.Run("missing", func(t *testing.T) { hostile(t, http.NotFound) })
	t.Run("hangs up", func(t *testing.T) {
		hostile(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
}

// TestNoRedirect has a router that sends us to itself and to others.
func TestNoRedirect(t *testing.T) {
	var followed atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer other.Close()
	for _, to := range []string{other.URL, "/again"} {
		hostile(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/again" {
				followed.Add(1)
			}
			http.Redirect(w, r, to, http.StatusFound)
		})
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestClientConnectsToTheRouterAlone(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := newClient(loopback, routerAddr)
	for _, to := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)} {
		if response, err := client.Get(to); !errors.Is(err, errElsewhere) {
			if err == nil {
				response.Body.Close()
			}
			t.Errorf("GET %s: %v, want %v", to, err, errElsewhere)
		}
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"Action not authorized":        "Action not authorized",
		"a\x1b[31m\nb\x00é":            "a?[31m?b??",
		strings.Repeat("x", 2*maxTold): strings.Repeat("x", maxTold),
		"":                             "",
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q, want %q", text, got, want)
		}
	}
}
