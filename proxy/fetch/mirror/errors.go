// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// ErrStalled says that a mirror sent nothing for as long as [Config.FirstByte] or [Config.Stall] allows.
var ErrStalled = errors.New("the mirror has gone silent")

// ErrClosed says that the [Client] was closed.
var ErrClosed = errors.New("the mirror client is closed")

// Error is every error of [Client.RoundTrip] and of the bodies it returns.
type Error struct {
	// Op is what failed: "request" (it was refused unsent), "dial", "first byte" (of the answer) or "body".
	Op string
	// URL is the address asked for, without its password.
	URL string
	// Err is the cause.
	Err error
}

func (e *Error) Error() string { return "mirror: " + e.Op + ": " + e.URL + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func failure(op string, u *url.URL, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, URL: u.Redacted(), Err: err}
}

// cut makes of any fault in the middle of a body one that says the body broke off, so that callers need to
// know one error only to resume.
func cut(err error) error {
	if err == nil || err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	for _, told := range []error{ErrStalled, ErrClosed, context.Canceled, context.DeadlineExceeded, http.ErrBodyReadAfterClose} {
		if errors.Is(err, told) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
}

// Reasons why a connection ends.
var (
	errIdle        = errors.New("idle for too long")
	errUnsolicited = errors.New("the mirror sent bytes that nobody had asked for")
	errTimeout408  = errors.New("the mirror gave up waiting for a request")
	errNotKept     = errors.New("the connection is not kept open")
	errAbandoned   = errors.New("the rest of a body was not wanted")
)

// protocolError is an answer that is not HTTP, or breaks a bound.
type protocolError struct{ err error }

func (e *protocolError) Error() string { return "malformed answer: " + e.err.Error() }
func (e *protocolError) Unwrap() error { return e.err }
