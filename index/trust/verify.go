// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Verdict is what the signatures of a Release file are worth. The package comment says which
// keys may judge which repository.
type Verdict int

const (
	// Unknown: none of the signatures can be judged, or counts: the key is not held or not one that may
	// sign this repository, it is expired, revoked or weak, or the signature is expired or made with SHA-1.
	Unknown Verdict = iota
	// Verified: a key that may judge this repository made a good signature, and none of them is Bad.
	Verified
	// Bad: a signature claims to be by a key that is held for this repository, and it is
	// cryptographically wrong: the text has been changed.
	Bad
)

func (v Verdict) String() string {
	switch v {
	case Unknown:
		return "unknown"
	case Verified:
		return "verified"
	case Bad:
		return "bad"
	}
	return fmt.Sprintf("Verdict(%d)", int(v))
}

// maxSignatures bounds the work: each by a key that is held costs a hash of the text. Debian has three.
const maxSignatures = 16

// VerifyClearsigned checks an InRelease file. base is the repository's URL without scheme, decoded
// ("deb.debian.org/debian"), suite what stands between "dists/" and "/InRelease", or for a flat repository ""
// or a directory with a slash at its end.
//
// plain is the signed text, and nothing else of body: without headers and signatures, with lines
// that end in "\n" and no newline at its end. The error, which wraps ErrShape, is for a body that is no
// InRelease file, says what it looks like, and does not depend on keys. Why a verdict is not Verified is logged.
func (t *Trust) VerifyClearsigned(base, suite string, body []byte) (plain []byte, v Verdict, err error) {
	plain, signatures, err := splitClearsigned(body)
	if err == nil {
		v, err = t.verify(base, suite, plain, signatures)
	}
	if err != nil {
		return nil, Unknown, fmt.Errorf("verifying InRelease of %s %s: %w", base, suite, err)
	}
	return plain, v, nil
}

// VerifyDetached checks a Release file by its Release.gpg, which apt demands to be armoured. For
// base, suite, verdict and error see VerifyClearsigned.
func (t *Trust) VerifyDetached(base, suite string, release, sig []byte) (Verdict, error) {
	err := LooksLikeRelease(release)
	if err != nil {
		return Unknown, fmt.Errorf("verifying Release of %s %s: %w", base, suite, err)
	}
	var v Verdict
	if len(sig) > MaxRelease {
		err = shapeError("more than %d bytes", MaxRelease)
	} else if err = checkSignatureLines(sig); err == nil {
		v, err = t.verify(base, suite, release, sig)
	}
	if err != nil {
		return Unknown, fmt.Errorf("verifying Release.gpg of %s %s: %w", base, suite, err)
	}
	return v, nil
}

func (t *Trust) verify(base, suite string, message, armoured []byte) (Verdict, error) {
	signatures, err := readSignatures(armoured)
	if err != nil {
		return Unknown, err
	}
	policies := t.policies(base, suite)
	total, reasons := Unknown, []string(nil)
	for _, sig := range signatures {
		v, reason := judge(policies, sig, message)
		total = max(total, v) // Bad outweighs Verified outweighs Unknown
		if v != Verified {
			reasons = append(reasons, fmt.Sprintf("%016X: %s", issuer(sig), reason))
		}
		if v == Bad {
			break
		}
	}
	t.log.LogAttrs(context.Background(), logLevels[total], "checked the signatures of a Release file",
		slog.String("base", base), slog.String("suite", suite),
		slog.String("verdict", total.String()), slog.Any("not_accepted", reasons))
	return total, nil
}

var logLevels = map[Verdict]slog.Level{Verified: slog.LevelDebug, Unknown: slog.LevelInfo, Bad: slog.LevelWarn}

func issuer(sig *packet.Signature) uint64 {
	if sig.IssuerKeyId == nil {
		return 0
	}
	return *sig.IssuerKeyId
}

// readSignatures reads all blocks. A signature of a kind that is not supported is left out.
func readSignatures(armoured []byte) ([]*packet.Signature, error) {
	var all []*packet.Signature
	for blocks := 0; ; blocks++ {
		_, after, found := bytes.Cut(armoured, []byte(beginSignature))
		if !found {
			return all, nil
		}
		if blocks == maxSignatures {
			return nil, shapeError("more than %d signatures", maxSignatures)
		}
		inner, rest, _ := bytes.Cut(after, []byte(endSignature))
		text := slices.Concat([]byte(beginSignature), inner, []byte(endSignature+"\n"))
		block, err := armor.Decode(bytes.NewReader(text))
		if err != nil {
			return nil, shapeError("unreadable signature: %v", err)
		}
		if all, err = appendSignatures(all, block.Body); err != nil {
			return nil, err
		}
		armoured = rest
	}
}

func appendSignatures(all []*packet.Signature, block io.Reader) ([]*packet.Signature, error) {
	packets := packet.NewReader(block)
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, shapeError("unreadable signature: %v", err)
		}
		sig, ok := p.(*packet.Signature)
		if !ok {
			return nil, shapeError("a %T among the signatures", p)
		}
		if len(all) == maxSignatures {
			return nil, shapeError("more than %d signatures", maxSignatures)
		}
		all = append(all, sig)
	}
}

// judge asks the policies until one of them knows.
func judge(policies []*policy, sig *packet.Signature, message []byte) (v Verdict, reason string) {
	for _, p := range policies {
		if v, reason = p.judge(sig, message); v != Unknown {
			return v, reason
		}
	}
	return Unknown, reason
}

// policy says who may sign.
type policy struct {
	ring keyring
	only []string // fingerprints as in SignedBy; empty: all keys of the ring
}

func (p *policy) judge(sig *packet.Signature, message []byte) (Verdict, string) {
	reason := "no key for it is held"
	for _, k := range p.ring[issuer(sig)] {
		if sig.IssuerFingerprint != nil && !bytes.Equal(sig.IssuerFingerprint, k.pub.Fingerprint) {
			continue
		}
		if why := weakness(k.pub); why != "" {
			reason = why
			continue
		}
		err := check(k.pub, sig, message)
		if wrong := pgperrors.SignatureError(""); errors.As(err, &wrong) {
			return Bad, err.Error()
		}
		if err != nil {
			reason = err.Error()
			continue
		}
		if reason = p.objection(k, sig); reason == "" {
			return Verified, ""
		}
	}
	return Unknown, reason
}

// check does the cryptography alone.
func check(pub *packet.PublicKey, sig *packet.Signature, message []byte) error {
	var h, text hash.Hash
	h, err := sig.PrepareVerify()
	if err != nil {
		return err
	}
	switch sig.SigType {
	case packet.SigTypeBinary:
		text = h
	case packet.SigTypeText:
		text = openpgp.NewCanonicalTextHash(h)
	default:
		return fmt.Errorf("signature type %#x is not for documents", sig.SigType)
	}
	text.Write(message)
	return pub.VerifySignature(h, sig)
}

// objection tells why a cryptographically correct signature does not count; "" if it does.
func (p *policy) objection(k key, sig *packet.Signature) string {
	// Dates of creation do not matter, as with gpgv's --ignore-time-conflict: to a machine without a
	// clock keys and signatures come from the future.
	now := time.Now()
	switch {
	case !p.allows(k):
		return "key is not among the fingerprints of Signed-By"
	case k.useless != "":
		return k.useless
	case !k.expires.IsZero() && now.After(k.expires):
		return "expired key"
	case sig.Hash == crypto.SHA1 || sig.Hash == crypto.MD5 || sig.Hash == crypto.RIPEMD160:
		return "made with the weak hash " + sig.Hash.String()
	case !signatureExpiry(sig).IsZero() && now.After(signatureExpiry(sig)):
		return "expired signature"
	case slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.IsCritical }):
		return "critical notation that is not known here"
	}
	return ""
}

func (p *policy) allows(k key) bool {
	if len(p.only) == 0 {
		return true
	}
	return slices.ContainsFunc(p.only, func(fingerprint string) bool {
		exact, bang := strings.CutSuffix(fingerprint, "!")
		return exact == k.fingerprint() || !bang && exact == k.primary
	})
}

// site is a suite of a repository of ours, and who may sign it.
type site struct {
	base, root string
	explicit   bool // it has a Signed-By
	policy     *policy
}

func sitesOf(sources []Source, keys *keyrings) []site {
	var sites []site
	for _, s := range sources {
		sites = append(sites, site{s.Base(), rootOf(s.Base(), unquote(s.Suite)), !s.SignedBy.isZero(), keys.policy(s.SignedBy)})
	}
	return sites
}

// policies returns whose signatures count for a suite: by our sources for it (where apt lets
// those with Signed-By speak for those without), else by our sources for its repository, else every key held.
func (t *Trust) policies(base, suite string) []*policy {
	base = cleanPath(base)
	root := rootOf(base, suite)
	var explicit, same, near []*policy
	for _, s := range t.sites {
		switch {
		case s.root == root && s.explicit:
			explicit = appendNew(explicit, s.policy)
		case s.root == root:
			same = appendNew(same, s.policy)
		case s.base == base:
			near = appendNew(near, s.policy)
		}
	}
	for _, found := range [][]*policy{explicit, same, near} {
		if len(found) > 0 {
			return found
		}
	}
	return []*policy{t.held()}
}

func appendNew(list []*policy, p *policy) []*policy {
	if slices.Contains(list, p) {
		return list
	}
	return append(list, p)
}
