// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func init() {
	scenarios["ProxySetting"] = proxySetting
	scenarios["Prefix"] = prefix
	scenarios["HTTPSWithProxySetting"] = httpsWithProxySetting
	scenarios["HTTPSWithPrefix"] = httpsWithPrefix
	scenarios["Tunnel"] = tunnel
	scenarios["PrivateOriginInSources"] = privateOriginInSources
	scenarios["PrivateOriginInPrefixedSources"] = privateOriginInPrefixedSources
	scenarios["Source"] = source
}

// wantColdAndWarm has two machines update and install everything: the first
// brings every file across once, the second brings nothing but root files.
func wantColdAndWarm(t *testing.T, w *world, m *mirror, sources []string, conf string) {
	t.Helper()
	for _, machine := range []string{"cold", "warm"} {
		c := newClient(t, sources, conf)
		c.update()
		c.download("e2e-everything")
		c.wantPackages(w.everything())
		if machine == "cold" {
			m.wantOnce()
		} else {
			m.wantOnlyRoots()
		}
		m.forget()
	}
}

// proxySetting: Acquire::http::Proxy names the node.
func proxySetting(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	wantColdAndWarm(t, w, m, w.source(m.url()), n.proxied())
}

// prefix: sources.list names the node, with the mirror in the path.
func prefix(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	wantColdAndWarm(t, w, m, w.source(n.prefixed(m.url())), "")
}

// httpsWithProxySetting: http://HTTPS///host/, through the proxy.
func httpsWithProxySetting(t *testing.T, w *world) {
	m, ca := newTLSMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source("https://" + m.addr + "/debian"), env: trusting(t, ca)})
	wantColdAndWarm(t, w, m, w.source("http://HTTPS///"+m.addr+"/debian"), n.proxied())
}

// httpsWithPrefix: http://node/HTTPS///host/, without a proxy.
func httpsWithPrefix(t *testing.T, w *world) {
	m, ca := newTLSMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source("https://" + m.addr + "/debian"), env: trusting(t, ca)})
	wantColdAndWarm(t, w, m, w.source(n.url()+"/HTTPS///"+m.addr+"/debian"), "")
}

// tunnel: https sources, for which apt asks the proxy to CONNECT.
func tunnel(t *testing.T, w *world) {
	h := newOtherHost(t)
	conf, ca := selfSigned(t, h.theirs)
	m := &mirror{t: t, archive: w.standard, tls: conf}
	t.Cleanup(m.cleanup)
	m.serve(h.listen(t, 443))
	sources := w.source("https://" + h.theirs + "/debian")
	n := startNode(t, nodeConfig{sources: sources})
	c := newClient(t, sources, n.proxied(), `Acquire::https::CAInfo "`+ca+`";`)
	c.update()
	c.download("e2e-everything")
	c.wantPackages(w.everything())
	if s := n.status(); s.Store.Blobs != 0 {
		t.Errorf("%d files are stored, though the node cannot see into a tunnel", s.Store.Blobs)
	}
}

// newTLSMirror starts a mirror with a certificate by an authority of its own,
// whose file it returns.
func newTLSMirror(t *testing.T, a *archive) (m *mirror, ca string) {
	t.Helper()
	host := loopback()
	conf, ca := selfSigned(t, host)
	return startMirror(t, a, host+":0", conf), ca
}

// selfSigned makes a certificate for an address. It is its own authority, in
// the file that is returned.
func selfSigned(t *testing.T, ip string) (conf *tls.Config, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "e2e mirror"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.ParseIP(ip)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, ca
}

// trusting is the environment of a node that trusts one authority alone.
func trusting(t *testing.T, ca string) []string {
	return []string{"SSL_CERT_FILE=" + ca, "SSL_CERT_DIR=" + t.TempDir()}
}

// privateOriginInSources: what this machine's own sources name may be fetched
// from, be its address private and its port its own.
func privateOriginInSources(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url()), strict: true})
	c := newClient(t, w.source(m.url()), n.proxied())
	c.update()

	stranger := newMirror(t, w.standard)
	c = newClient(t, w.source(stranger.url()), n.proxied())
	c.mustFail("--allow-origin", "update")
	if len(stranger.asked("")) > 0 {
		t.Error("a private origin was asked that no source names")
	}
}

// privateOriginInPrefixedSources: the same where the sources name the origin
// in the prefix form.
func privateOriginInPrefixedSources(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{strict: true})
	sources := w.source(n.prefixed(m.url()))
	n.stop()
	writeFile(t, filepath.Join(n.etc, "sources.list"), []byte(strings.Join(sources, "\n")+"\n"))
	n.start()
	newClient(t, sources).update()
}

// source: apt-get source brings a source package, and dpkg-source unpacks it.
func source(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied())
	c.update()
	c.must("source", "hello")
	for _, name := range []string{"hello_1.0.dsc", "hello_1.0.tar.xz"} {
		if got := readFile(t, filepath.Join(c.dir, name)); string(got) != string(readFile(t, filepath.Join(w.sources, name))) {
			t.Errorf("%s has wrong bytes", name)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "hello-1.0/hello.c")); err != nil {
		t.Error(err)
	}
	m.wantOnce()
	m.forget()
	newer := newClient(t, w.source(m.url()), n.proxied())
	newer.update()
	newer.must("source", "--download-only", "hello")
	m.wantOnlyRoots()
}
