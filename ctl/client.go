package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"vswitch/internal/api"
)

// DefaultSocket is where the daemon listens unless it is told otherwise.
const DefaultSocket = "/run/vswitch/vswitchd.sock"

// ErrUnreachable is matched by errors of a daemon that did not answer: nobody listens on the socket, it may not be used, or the
// connection broke. In the last case, and after a timeout, a request that changes something may or may not have been carried out.
var ErrUnreachable = errors.New("daemon not reachable")

// Client calls the daemon. Its methods may be called from many goroutines at once; each ends with its context.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client of the daemon that listens on the unix socket at path. It does not connect yet.
func New(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{
		DialContext:        dial,
		DisableCompression: true,
		IdleConnTimeout:    10 * time.Second, // shorter than the daemon's, so that we never send on what it just closed
	}}}
}

// Close closes idle connections. The client may still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends a request with in as its body, unless it is nil, and reads the answer into out, unless it is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	answer, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	return c.read(ctx, answer, method, path, out)
}

// read reads an answer into out, unless it is nil, and closes it.
func (c *Client) read(ctx context.Context, answer *http.Response, method, path string, out any) (err error) {
	defer answer.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	} else {
		err = json.NewDecoder(answer.Body).Decode(out)
	}
	if err != nil {
		return c.misread(ctx, err, method, path)
	}
	return nil
}

// misread explains an error while an answer was read.
func (c *Client) misread(ctx context.Context, err error, method, path string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return api.Errorf(api.CodeInternal, "the daemon's answer to %s %s is not understood: %v; do its version and ours match?", method, path, err)
	}
	return c.broken(ctx, err)
}

// send sends a request and returns the answer, if it is a good one; the caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	if in == nil {
		return c.sendBody(ctx, method, path, query, nil, nil)
	}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return c.sendBody(ctx, method, path, query, bytes.NewReader(b), http.Header{"Content-Type": {"application/json"}})
}

// sendBody is send with a body as it is.
func (c *Client) sendBody(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "vswitch", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	maps.Copy(request.Header, header)
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if answer.StatusCode >= 200 && answer.StatusCode <= 299 {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, refused(answer)
}

// refused reads the problem document of an answer.
func refused(answer *http.Response) error {
	var e api.Error
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if kind == "application/problem+json" && json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&e) == nil && e.Code != "" {
		return &e
	}
	code := api.CodeInternal
	if answer.StatusCode == http.StatusServiceUnavailable {
		code = api.CodeUnavailable
	}
	unknown := api.Errorf(code, "the daemon answered %q and does not say why", answer.Status)
	unknown.Status = answer.StatusCode
	return unknown
}

// broken explains why there is no answer.
func (c *Client) broken(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it repeats the method and a made-up URL
		err = wrapped.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer on %s in time: raise the timeout or look at the daemon's log: %w", ErrUnreachable, c.socket, err)
	case ctx.Err() != nil:
		return fmt.Errorf("cancelled before the daemon answered: %w", ctx.Err())
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s may be used by root and the group vswitch only: %w", ErrUnreachable, c.socket, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it closed the connection on %s before it answered: look at its log", ErrUnreachable, c.socket)
	}
	return fmt.Errorf("%w at %s: is vswitchd running? %w", ErrUnreachable, c.socket, err)
}

// get is call for verbs that answer with a T.
func get[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (T, error) {
	var out T
	err := c.call(ctx, method, path, query, in, &out)
	return out, err
}

// named returns the path of one object. A name that no object can have is refused here: it could lead to another path.
func named(collection, kind, name string) (string, error) {
	if err := api.CheckName(kind, name); err != nil {
		return "", err
	}
	return collection + "/" + name, nil
}
