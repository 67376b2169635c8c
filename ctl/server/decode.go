package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vswitch/internal/api"
)

// maxHead is how much of a body the log quotes.
const maxHead = 300

// buffer reads the whole body of r, within its limits of size and time, so that nothing after it waits for the client. That goes for
// requests that need no body too: net/http would read it after the answer, without a limit of time. Of one that says that it is too
// large nothing is read. A large one takes one of few places, until release: bodies must not fill the memory.
func (s *Server) buffer(a *answer, r *http.Request) (release func(), err error) {
	release = func() {}
	if r.Body == nil || r.Body == http.NoBody {
		r.Body = http.NoBody
		return release, nil
	}
	conn, limit := http.NewResponseController(a.ResponseWriter), clientOf(r).bodyLimit()
	if r.ContentLength > limit {
		conn.SetReadDeadline(time.Now())
		a.Header().Set("Connection", "close")
		return release, tooLarge(limit)
	}
	in := http.MaxBytesReader(a.ResponseWriter, r.Body, limit)
	conn.SetReadDeadline(time.Now().Add(bodyTime)) // a ResponseWriter without deadlines (in tests) has no limit
	body, err := io.ReadAll(io.LimitReader(in, maxSmall))
	if err == nil && len(body) == maxSmall {
		var rest []byte
		if release, err = s.large(); err != nil {
			a.Header().Set("Connection", "close")
			return release, err
		}
		conn.SetReadDeadline(time.Now().Add(bodyTime))
		rest, err = io.ReadAll(in)
		body = append(body, rest...)
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return release, tooLarge(limit)
	case err != nil:
		a.Header().Set("Connection", "close")
		return release, api.Errorf(api.CodeInvalid, "the body could not be read: %.200s", err)
	}
	conn.SetReadDeadline(time.Time{})
	a.head = string(body[:min(len(body), maxHead)])
	r.Body = io.NopCloser(bytes.NewReader(body))
	return release, nil
}

// large waits for a place for a large body.
func (s *Server) large() (release func(), err error) {
	select {
	case s.bodies <- struct{}{}:
		return func() { <-s.bodies }, nil
	case <-time.After(bodyTime):
		return func() {}, api.Errorf(api.CodeUnavailable, "%d bodies of more than %d bytes are on their way, which is the limit: try again later", maxLarge, maxSmall)
	}
}

func tooLarge(limit int64) error {
	return api.Errorf(api.CodeTooLarge, "the body is over %d bytes, which is the limit: send less", limit)
}

// decode reads the body of r, which buffer has read, into v.
func decode(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return unmarshal(body, v)
}

// unmarshal reads exactly one JSON object into v. It refuses what v has no field for, and whatever follows the object.
func unmarshal(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return api.Errorf(api.CodeInvalid, "the body is empty: send a JSON object")
	}
	if err := checkShape(body); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return explainJSON(err)
	}
	return nil
}

// checkShape reads over body: it must be one object, nested no deeper than maxDepth, with nothing behind it.
func checkShape(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for depth, first := 0, true; first || depth > 0; first = false {
		t, err := d.Token()
		if err != nil {
			return explainJSON(err)
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if first && t != json.Delim('{') {
			return api.Errorf(api.CodeInvalid, "the body is not a JSON object: it starts with %.40q", bytes.TrimSpace(body))
		}
		if depth > maxDepth {
			return api.Errorf(api.CodeInvalid, "the body is nested more than %d deep", maxDepth)
		}
	}
	if rest := bytes.TrimSpace(body[d.InputOffset():]); len(rest) > 0 {
		return api.Errorf(api.CodeInvalid, "the body goes on after its JSON object: %.40q", rest)
	}
	return nil
}

// explainJSON says in the words of the API what encoding/json found.
func explainJSON(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	var own *api.Error
	key, unknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	switch {
	case errors.As(err, &own):
		return own
	case unknown:
		return api.Errorf(api.CodeInvalid, "unknown key %.100s in the body: look for a misspelling or a newer version of the API", key)
	case errors.As(err, &kind) && kind.Field != "":
		return api.Errorf(api.CodeInvalid, "key %.100q in the body is a JSON %.100s where %s is wanted", kind.Field, kind.Value, kind.Type)
	case errors.As(err, &syntax):
		return api.Errorf(api.CodeInvalid, "the body is not JSON: %.200s at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return api.Errorf(api.CodeInvalid, "the body is not JSON: it ends too early")
	}
	return api.Errorf(api.CodeInvalid, "the body has a bad value: %.200s", err)
}

// boolean reads a query parameter that is true or false; fallback stands for an absent one.
func boolean(r *http.Request, name string, fallback bool) (bool, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return fallback, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, api.Errorf(api.CodeInvalid, "query parameter %s is %.40q: use true or false", name, s)
	}
	return b, nil
}

// number reads a query parameter that is an unsigned number of at most that many bits; an absent one is 0.
func number(r *http.Request, name string, bits int) (uint64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		return 0, api.Errorf(api.CodeInvalid, "query parameter %s is %.40q: use a number from 0 to %d", name, s, ^uint64(0)>>(64-bits))
	}
	return n, nil
}
