// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// A Source is a place where a transfer can get a file's bytes.
//
// Ask requests the bytes from offset on and returns at once; the returned
// function waits for the answer. Requests leave in the order of the calls, so
// that what apt waits for first comes first. The wait function must be called
// exactly once; ending ctx makes it return. Its errors:
//   - [*StatusError]: the source answered, but not with the file
//   - [ErrDiffers]: the source has another file under that name
//   - anything else: the source could not be reached, or broke; worth another try
//
// The caller closes the body.
type Source interface {
	// Kind is the word for X-Apt-Dht-Source.
	Kind() string
	// String names the place for logs and errors.
	String() string
	Ask(ctx context.Context, want *Want, offset int64) (wait func() (*Body, error))
}

// Body is a source's answer: the bytes from the offset asked for to the end.
type Body struct {
	io.ReadCloser
	Head Head
}

// ErrDiffers: the source's file is not the one that is wanted, which its size
// showed before its first byte.
var ErrDiffers = errors.New("the mirror has a different file under this name")

// errWrong marks bytes that did not have the digest wanted.
var errWrong = errors.New("wrong bytes")

// StatusError is an answer other than the file. A 404 is final for apt.
type StatusError struct {
	URL    string
	Code   int
	Header http.Header
	Body   []byte // at most maxErrorBody of it
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the mirror answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// Temporary tells whether the same question may be answered otherwise soon.
func (e *StatusError) Temporary() bool {
	return e.Code >= 500 || e.Code == http.StatusTooManyRequests || e.Code == http.StatusRequestTimeout
}

// maxErrorBody bounds what is kept of an error page, in bytes.
const maxErrorBody = 64 << 10
