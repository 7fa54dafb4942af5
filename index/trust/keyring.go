// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const (
	maxKeyring     = 16 << 20 // that a source names, or of apt's default set
	maxHeldKeyring = 1 << 20  // that nobody names; Debian's archive keyring has 56 kB, its developers' 27 MB
	minRSABits     = 2048     // as apt's APT::Key::Assert-Pubkey-Algo

	beginKey = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	endKey   = "-----END PGP PUBLIC KEY BLOCK-----"
)

// key is all that verification needs of a primary key or signing subkey. What the self-signatures say was
// checked and worked out when it was loaded, so it is small and never changes.
type key struct {
	pub     *packet.PublicKey
	primary string    // fingerprint of the primary key: upper-case hexadecimal digits
	expires time.Time // zero: never
	useless string    // why no signature by it counts; "" if they do
}

func (k key) fingerprint() string { return fingerprintOf(k.pub) }

func fingerprintOf(pub *packet.PublicKey) string {
	return strings.ToUpper(hex.EncodeToString(pub.Fingerprint))
}

// keyring finds keys by their 64-bit id.
type keyring map[uint64][]key

// add merges keys in. Of a key in several versions the most recent is not known for certain: a
// revocation in any of them counts, and so does a later date of expiry.
func (r keyring) add(keys []key) {
	for _, k := range keys {
		id := k.pub.KeyId
		same := func(old key) bool {
			return old.primary == k.primary && bytes.Equal(old.pub.Fingerprint, k.pub.Fingerprint)
		}
		i := slices.IndexFunc(r[id], same)
		if i < 0 {
			r[id] = append(r[id], k)
			continue
		}
		old := &r[id][i]
		if k.useless != "" {
			old.useless = k.useless
		}
		if k.expires.IsZero() || !old.expires.IsZero() && k.expires.After(old.expires) {
			old.expires = k.expires
		}
	}
}

// keyrings loads keyrings, each file once.
type keyrings struct {
	reader
	defaults []string // paths of the default set
	files    map[string][]key
	policies map[string]*policy // by what Signed-By says
}

func newKeyrings(r reader, etc string) *keyrings {
	paths := r.list(filepath.Join(etc, "trusted.gpg.d"), ".gpg", ".asc")
	paths = append(paths, filepath.Join(etc, "trusted.gpg"))
	return &keyrings{reader: r, defaults: paths, files: make(map[string][]key), policies: make(map[string]*policy)}
}

// policy returns what a Signed-By asks for. A keyring that is missing or unreadable leaves no keys:
// the default set never stands in for it.
func (k *keyrings) policy(s SignedBy) *policy {
	name := strings.Join(slices.Concat(s.Files, s.Fingerprints, []string{s.Key}), "\x00")
	if p, ok := k.policies[name]; ok {
		return p
	}
	p := &policy{ring: make(keyring), only: s.Fingerprints}
	paths := s.Files
	if len(paths) == 0 && s.Key == "" {
		paths = k.defaults
	}
	for _, path := range paths {
		p.ring.add(k.file(path))
	}
	if s.Key != "" {
		keys, err := readKeys([]byte(s.Key))
		if err != nil {
			k.skip("the key within Signed-By", 0, err)
		}
		p.ring.add(keys)
	}
	k.policies[name] = p
	return p
}

// held returns a policy that accepts every key that was loaded so far, and those in dirs.
func (k *keyrings) held(dirs []string) *policy {
	all := make(keyring)
	for _, p := range k.policies {
		for _, keys := range p.ring {
			all.add(keys)
		}
	}
	for _, path := range k.defaults {
		all.add(k.file(path))
	}
	for _, dir := range dirs {
		for _, path := range k.list(dir, ".gpg", ".asc", ".pgp") {
			if !strings.Contains(filepath.Base(path), "removed-keys") && !isLarge(path) {
				all.add(k.file(path))
			}
		}
	}
	return &policy{ring: all}
}

func isLarge(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > maxHeldKeyring
}

func (k *keyrings) file(path string) []key {
	if keys, ok := k.files[path]; ok {
		return keys
	}
	var keys []key
	if data, ok := k.read(path, maxKeyring); ok && len(data) > 0 { // an empty trusted.gpg is usual
		var err error
		if keys, err = readKeys(data); err != nil {
			k.skip(path, 0, err)
		}
	}
	k.files[path] = keys
	return keys
}

// readKeys reads a keyring: binary, or one or more armoured blocks.
func readKeys(data []byte) ([]key, error) {
	if len(data) >= 12 && string(data[8:12]) == "KBXf" {
		return nil, errors.New("a GnuPG keybox, which apt cannot read either: export it with 'gpg --export'")
	}
	if !bytes.Contains(data, []byte(beginKey)) {
		return readBinaryKeys(data)
	}
	var keys []key
	for {
		_, after, found := bytes.Cut(data, []byte(beginKey))
		if !found {
			return keys, nil
		}
		block, rest, found := bytes.Cut(after, []byte(endKey))
		if !found {
			return keys, errors.New("armoured key without its last line")
		}
		more, err := readArmouredKey(block)
		if err != nil {
			return keys, err
		}
		keys, data = append(keys, more...), rest
	}
}

func readArmouredKey(inner []byte) ([]key, error) {
	text := slices.Concat([]byte(beginKey), inner, []byte(endKey+"\n"))
	block, err := armor.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("armoured key: %w", err)
	}
	var binary bytes.Buffer
	if _, err := binary.ReadFrom(block.Body); err != nil {
		return nil, fmt.Errorf("armoured key: %w", err)
	}
	return readBinaryKeys(binary.Bytes())
}

func readBinaryKeys(data []byte) ([]key, error) {
	entities, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("OpenPGP keyring: %w", err)
	}
	if len(entities) == 0 {
		return nil, errors.New("no OpenPGP key in it")
	}
	var keys []key
	for _, e := range entities {
		keys = append(keys, keysOf(e)...)
	}
	return keys, nil
}

// keysOf returns the keys of e that may have signed something.
func keysOf(e *openpgp.Entity) []key {
	primary := newPrimary(e)
	keys := []key{primary}
	for i := range e.Subkeys {
		if sub, ok := newSubkey(&e.Subkeys[i], primary); ok {
			keys = append(keys, sub)
		}
	}
	return keys
}

const notForSigning = "key not meant for signing" // its subkeys may be

// The zero time asks go-crypto for what a self-signature says at any time: dates are checked when
// a signature is.
var anyTime time.Time

func newPrimary(e *openpgp.Entity) key {
	k := key{pub: e.PrimaryKey, primary: fingerprintOf(e.PrimaryKey)}
	self, err := e.PrimarySelfSignature(anyTime, nil)
	switch {
	case err != nil:
		k.useless = "key without a valid self-signature"
		return k
	case isRevoked(e):
		k.useless = "revoked key"
	case self.FlagsValid && !self.FlagSign:
		k.useless = notForSigning
	}
	k.expires = earliest(keyExpiry(e.PrimaryKey, self), signatureExpiry(self))
	if direct, err := e.LatestValidDirectSignature(anyTime, nil); err == nil {
		k.expires = earliest(k.expires, keyExpiry(e.PrimaryKey, direct))
	}
	return k
}

// isRevoked ignores the reason and date of a revocation, as gpg does.
func isRevoked(e *openpgp.Entity) bool {
	return slices.ContainsFunc(e.Revocations, func(r *packet.VerifiableSignature) bool {
		return e.PrimaryKey.VerifyRevocationSignature(r.Packet) == nil
	})
}

func newSubkey(s *openpgp.Subkey, primary key) (key, bool) {
	if !s.PublicKey.PubKeyAlgo.CanSign() {
		return key{}, false
	}
	k := key{pub: s.PublicKey, primary: primary.primary}
	binding, err := s.LatestValidBindingSignature(anyTime, nil)
	if err != nil || !binding.FlagsValid || !binding.FlagSign {
		return key{}, false
	}
	switch {
	case primary.useless != "" && primary.useless != notForSigning:
		k.useless = primary.useless
	case s.Revoked(binding, anyTime):
		k.useless = "revoked subkey"
	}
	k.expires = earliest(primary.expires, earliest(keyExpiry(s.PublicKey, binding), signatureExpiry(binding)))
	return k, true
}

// weakness tells why apt would not believe a key of this kind; "" if it would.
func weakness(pub *packet.PublicKey) string {
	switch pub.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := pub.BitLength(); err != nil || bits < minRSABits {
			return "RSA key of less than 2048 bits"
		}
	case packet.PubKeyAlgoDSA:
		return "DSA key"
	}
	return ""
}

func keyExpiry(pub *packet.PublicKey, self *packet.Signature) time.Time {
	return after(pub.CreationTime, self.KeyLifetimeSecs)
}

func signatureExpiry(sig *packet.Signature) time.Time {
	return after(sig.CreationTime, sig.SigLifetimeSecs)
}

// after returns the time that lies so many seconds later; the zero time stands for never.
func after(created time.Time, seconds *uint32) time.Time {
	if seconds == nil || *seconds == 0 {
		return time.Time{}
	}
	return created.Add(time.Duration(*seconds) * time.Second)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
