// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/huin/goupnp"
)

const (
	// upnpWithin bounds each request, its answer's body included.
	upnpWithin = 5 * time.Second

	maxDescription = 128 << 10 // large ones have 30 kB
	maxSOAP        = 16 << 10  // an answer has less than 1 kB
	maxHeaders     = 16 << 10
	maxServices    = 4 // of one description that are tried
)

// serviceTypes can map ports, the better ones first.
var serviceTypes = []string{
	"urn:schemas-upnp-org:service:WANIPConnection:2",
	"urn:schemas-upnp-org:service:WANIPConnection:1",
	"urn:schemas-upnp-org:service:WANPPPConnection:1",
}

// service is where a router maps ports.
type service struct {
	kind    string // one of serviceTypes
	control url.URL
}

var errElsewhere = errors.New("connections go to the router alone")

// newClient returns an HTTP client that connects from local to router, and to
// nothing else.
func newClient(local, router netip.Addr) *http.Client {
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if to, err := netip.ParseAddrPort(addr); err != nil || to.Addr() != router {
				return nil, errElsewhere
			}
			return dialer.DialContext(ctx, network, addr)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
	}
	return &http.Client{
		Transport:     bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       upnpWithin,
	}
}

// bounded cuts bodies that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(request)
	if err == nil {
		limit := int64(maxSOAP)
		if request.Method == http.MethodGet {
			limit = maxDescription
		}
		response.Body = http.MaxBytesReader(nil, response.Body, limit)
	}
	return response, err
}

// describe fetches the description at location, and returns its services that
// can map ports (UPnP Device Architecture 1.1 §2.3).
func describe(ctx context.Context, client *http.Client, location *url.URL, router netip.Addr) ([]service, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the description has status %d", response.StatusCode)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	return parseDescription(body, location, router)
}

// parseDescription reads a description that was found at location. It changes
// body.
func parseDescription(body []byte, location *url.URL, router netip.Addr) ([]service, error) {
	// What matters is ASCII, whatever encoding the router uses or claims to.
	for i, b := range body {
		if b >= utf8.RuneSelf {
			body[i] = '?'
		}
	}
	decoder := xml.NewDecoder(bytes.NewReader(body))
	decoder.DefaultSpace = goupnp.DeviceXMLNamespace
	decoder.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var root goupnp.RootDevice
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("read the description: %s", printable(err.Error()))
	}
	base := location
	if u, err := parseLocation(root.URLBaseStr, router); err == nil {
		base = u
	}
	root.SetURLBase(base)
	var found []service
	for _, kind := range serviceTypes {
		for _, s := range root.Device.FindService(kind) {
			if s.ControlURL.Ok && checkURL(&s.ControlURL.URL, router) == nil && len(found) < maxServices {
				found = append(found, service{kind, s.ControlURL.URL})
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the router's description has no service that maps ports")
	}
	return found, nil
}
