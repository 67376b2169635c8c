package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"

	"vswitch/internal/api"
)

// reply writes the value of a verb.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, value any) {
	status := http.StatusOK
	if c, ok := value.(created); ok {
		status, value = http.StatusCreated, c.value
		w.Header().Set("Location", c.location)
	}
	setWriteDeadline(w, clientOf(r).answerTime())
	if value == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if l, ok := value.(streamed); ok {
		if err := l.write(w, func() { setWriteDeadline(w, clientOf(r).answerTime()) }); err != nil {
			s.problem(w, r, err)
		}
		return
	}
	body, err := encode(value)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) // a client that went away has no use for an error
}

// problem writes err as a problem document (RFC 9457).
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	e := s.explain(r, err)
	body, err := encode(e)
	if err != nil { // an Error has nothing that cannot be encoded
		panic(err)
	}
	if a, ok := w.(*answer); ok {
		a.err = e
	}
	setWriteDeadline(w, clientOf(r).answerTime())
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	w.Write(body)
}

// explain finds the api.Error in err, with the text of what wraps it. Anything else is our fault: it is logged in full and told in short.
func (s *Server) explain(r *http.Request, err error) *api.Error {
	var found *api.Error
	if errors.As(err, &found) && found != nil {
		e := api.Errorf(found.Code, "%s", err.Error())
		e.Object = found.Object
		if e.Status != 0 {
			return e
		}
	}
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return api.Errorf(api.CodeUnavailable, "the request was cancelled: the client went away or the daemon is stopping")
	}
	s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	return api.Errorf(api.CodeInternal, "%.200s (the daemon's log has more)", err.Error())
}

// encode returns v as JSON with a newline, for those who read it in a terminal.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// setWriteDeadline starts the time that the client has to take the answer. A ResponseWriter without deadlines (in tests) has no limit.
func setWriteDeadline(w http.ResponseWriter, within time.Duration) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(within))
}

// list makes a nil slice an empty one, so that JSON says [] and not null.
func list[T any](v []T, err error) (any, error) {
	if err == nil && v == nil {
		v = []T{}
	}
	return v, err
}

// streamed is an answer that is too long to be made as a whole.
type streamed interface {
	write(w http.ResponseWriter, more func()) error
}

// listing is a list that is made while it is written. It ends when the client goes away, or takes longer for a part than it may.
type listing[T any] iter.Seq2[T, error]

// write writes the list as JSON. more is called before each part. An error is that of the list, before anything was written; one that comes
// later cuts the connection.
func (l listing[T]) write(w http.ResponseWriter, more func()) error {
	const part = 64 << 10
	b, begun := []byte{'['}, false
	send := func() bool {
		if more(); !begun {
			begun = true
			w.Header().Set("Content-Type", "application/json")
		}
		_, err := w.Write(b)
		b = b[:0]
		return err == nil
	}
	first := true
	for row, err := range l {
		if err != nil && begun {
			panic(http.ErrAbortHandler)
		} else if err != nil {
			return err
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		line, err := json.Marshal(row)
		if err != nil { // plain types have nothing that cannot be encoded
			panic(err)
		}
		if b = append(b, line...); len(b) >= part && !send() {
			return nil
		}
	}
	b = append(b, "]\n"...)
	send()
	return nil
}
