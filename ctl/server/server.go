package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of a request. docs/api.md states them.
const (
	maxBody    = 1 << 20          // bytes of a request's body
	maxLook    = 64 << 10         // bytes of it on the read-only socket
	maxSmall   = 64 << 10         // bytes of it that are always taken
	maxLarge   = 8                // larger ones that are taken at a time
	maxDepth   = 32               // nested arrays and objects in it
	maxHeader  = 16 << 10         // bytes of a request's header
	maxLooks   = 4                // requests answered at a time on the read-only socket
	headerTime = 5 * time.Second  // to receive a header
	bodyTime   = 10 * time.Second // to receive a body
	writeTime  = 10 * time.Second // to send an answer, or one event
	lookTime   = 2 * time.Second  // to send an answer on the read-only socket
	idleTime   = 30 * time.Second // between two requests of a connection
	drainTime  = 10 * time.Second // for requests in flight when the server stops
)

// Server answers the control API for one Backend. Make it with New.
type Server struct {
	backend Backend
	events  *Events
	log     *slog.Logger
	routes  []route
	handler http.Handler
	metrics *metrics
	bodies  chan struct{} // holds one for each large body
	looks   chan struct{} // holds one for each request that is answered on the read-only socket
}

// New makes a server. It listens nowhere yet: see Serve and Handler.
func New(b Backend, events *Events, log *slog.Logger) *Server {
	s := &Server{backend: b, events: events, log: log.With("component", "ctl"), looks: make(chan struct{}, maxLooks), bodies: make(chan struct{}, maxLarge)}
	s.metrics = newMetrics(b)
	s.routes = s.table()
	s.handler = s.mux()
	return s
}

// servingKey finds in a request's context the context that was given to Serve: streams end with it, other requests are drained.
type servingKey struct{}

// Serve answers requests on l until ctx ends; then it closes l, ends the event streams, lets requests in flight finish for up to 10 s
// and returns. What is not done by then is cancelled and cut off, and the error says so. A failing listener is an error too.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.listen(ctx, s.clients(l, false))
}

// ServeReadOnly is Serve for those who may look only: a request that would change something is refused. It may run beside Serve;
// its clients have limits of their own, so that they take no place from those who may do more.
func (s *Server) ServeReadOnly(ctx context.Context, l net.Listener) error {
	return s.listen(ctx, s.clients(l, true))
}

func (s *Server) listen(ctx context.Context, l *clients) error {
	base, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx))
	defer cancel()
	hs := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       connContext,
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(l) }()
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("serve the control socket: %w", err), hs.Close())
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(base, drainTime)
	defer stop()
	drained := make(chan struct{})
	go l.hangUp(drained)
	err := hs.Shutdown(drain)
	close(drained)
	<-failed
	if err != nil {
		cancel()
		return errors.Join(fmt.Errorf("drain the control socket: requests were cut off after %v: %w", drainTime, err), hs.Close())
	}
	return nil
}
