package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Codes of errors: stable, for programs. Each goes with one HTTP status.
const (
	CodeInvalid     = "invalid"            // 400 the request is malformed or contradicts itself
	CodeReadOnly    = "read_only"          // 403 the socket answers looks only
	CodeNotFound    = "not_found"          // 404 no such network, port, entry or path
	CodeConflict    = "conflict"           // 409 name, address or interface taken; object in use
	CodeExhausted   = "exhausted"          // 409 no address, pool or slot left
	CodeRefused     = "refused"            // 422 well-formed, but the kernel or the host's state does not allow it
	CodeTooLarge    = "too_large"          // 413 body over 1 MiB
	CodeUnsupported = "unsupported"        // 501 the kernel lacks what it needs
	CodeMethod      = "method_not_allowed" // 405 the path exists, but not with this method
	CodeInternal    = "internal"           // 500 our fault
	CodeUnavailable = "unavailable"        // 503 starting, stopping, or too many clients
)

// Error is an answer to a bad request: what was wrong and what to do. It is the problem document of RFC 9457.
type Error struct {
	Code   string `json:"code"`
	Title  string `json:"title"`            // short, the same for each code
	Status int    `json:"status"`           // HTTP status
	Detail string `json:"detail"`           // this case: what was wrong, and what to do
	Object string `json:"object,omitempty"` // who stands in the way
}

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

var codes = map[string]struct {
	status int
	title  string
}{
	CodeInvalid:     {400, "invalid request"},
	CodeReadOnly:    {403, "read-only socket"},
	CodeNotFound:    {404, "not found"},
	CodeConflict:    {409, "conflict"},
	CodeExhausted:   {409, "exhausted"},
	CodeRefused:     {422, "refused"},
	CodeTooLarge:    {413, "too large"},
	CodeUnsupported: {501, "unsupported"},
	CodeMethod:      {405, "method not allowed"},
	CodeInternal:    {500, "internal error"},
	CodeUnavailable: {503, "unavailable"},
}

// Errorf makes an Error of the given code.
func Errorf(code, format string, args ...any) *Error {
	c := codes[code]
	return &Error{Code: code, Title: c.title, Status: c.status, Detail: fmt.Sprintf(format, args...)}
}

// HasCode tells whether err is an Error of that code, or wraps one.
func HasCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// Codes returns all codes, sorted.
func Codes() []string { return slices.Sorted(maps.Keys(codes)) }
