package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/machine"
)

// Limits of the clients of one socket. docs/api.md states them.
const (
	maxClients = 64                     // connections served at a time, fewer where few files may be open
	filesEach  = 8                      // of the limit of open files, for each of them
	forRoot    = maxClients / 8         // of them only root gets
	maxPerUser = maxClients / 2         // of one user who is not root
	maxStreams = maxClients / 2         // of them streams of events; the shares above are halved, too
	maxRefused = 64                     // connections above it that wait for their 503
	settled    = 100 * time.Millisecond // a connection that waits for its client for less isn't closed for another
	roomTime   = time.Second            // that a connection waits for its place
)

// clients is a listener that keeps the connections of one socket within their limits.
//
// A connection has one of three states:
//
//	waiting     for its client: for a request, the rest of one, or that an answer is taken
//	working     a verb runs for it
//	streaming   events
//
// When all places are taken, a new connection gets that of the one that waits for its client longest: those who connect and
// then say nothing, say it slowly or take nothing lock nobody out. While all work, it waits, and so do others behind it in the
// queue of the socket. Who still finds no place, or uses up the share of his user, is answered 503.
type clients struct {
	net.Listener
	readOnly bool
	places   int // of maxClients
	meter    *metrics

	mu      sync.Mutex
	open    map[*client]struct{} // guarded by mu; those that have a place
	refused []*client            // guarded by mu; those that wait for their 503, oldest first
}

func (s *Server) clients(l net.Listener, readOnly bool) *clients {
	places := maxClients
	if files, err := machine.OpenFiles(); err == nil {
		places = min(places, max(2, files/filesEach))
	}
	return &clients{Listener: l, readOnly: readOnly, places: places, meter: s.metrics, open: make(map[*client]struct{})}
}

// client is a connection with what is known of its other end.
type client struct {
	net.Conn
	of      *clients
	peer    Peer
	refusal string // why it gets no place; "" when it has one

	state   state     // guarded by of.mu
	waiting time.Time // guarded by of.mu; since when
}

type state uint8

const (
	waiting state = iota
	working
	streaming
)

// share is a number of places, and who shares them.
type share struct {
	places int
	among  func(*client) bool
	full   string // what is said when they are taken
}

// shares returns those in which a connection of the peer has to find a place; streams have half of each.
func (l *clients) shares(p Peer, streams bool) []share {
	part, what := l.places, "clients are connected"
	if streams {
		part, what = l.places*maxStreams/maxClients, "streams of events are open"
	}
	all := share{part, func(*client) bool { return true }, fmt.Sprintf("%d %s, which is the limit: try again later", part, what)}
	if p.root() {
		return []share{all}
	}
	one, users := part*maxPerUser/maxClients, part*(maxClients-forRoot)/maxClients
	return []share{
		{one, func(c *client) bool { return !c.peer.root() && c.peer.UID == p.UID },
			fmt.Sprintf("%d %s by user %d, which is a user's share: close some", one, what, p.UID)},
		{users, func(c *client) bool { return !c.peer.root() },
			fmt.Sprintf("%d %s by users, and the rest is root's: try again later", users, what)},
		all,
	}
}

// Accept returns the next connection, as a *client.
func (l *clients) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if lacksFiles(err) && l.makeRoom() {
				continue
			}
			return nil, err // of lacking files: net/http tries again a little later
		}
		c := &client{Conn: conn, of: l, peer: peerOf(conn), waiting: time.Now()}
		if c.refusal = l.admit(c); c.refusal != "" {
			l.refuse(c)
		}
		return c, nil
	}
}

func lacksFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// makeRoom closes the connection that waits longest, so that its file descriptor is free.
func (l *clients) makeRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.evictLocked(func(*client) bool { return true }, 0)
}

// admit gives c a place. It returns why there is none.
func (l *clients) admit(c *client) (refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shares(c.peer, false) {
		for end := c.waiting.Add(roomTime); l.countLocked(s.among) >= s.places; {
			if l.evictLocked(s.among, settled) {
				continue
			}
			if s.places < l.places || time.Now().After(end) {
				return s.full
			}
			l.mu.Unlock()
			time.Sleep(time.Millisecond) // a verb takes some of these
			l.mu.Lock()
		}
	}
	l.open[c] = struct{}{}
	l.meter.clients.Add(1)
	return ""
}

func (l *clients) countLocked(among func(*client) bool) (n int) {
	for c := range l.open {
		if among(c) {
			n++
		}
	}
	return n
}

// evictLocked closes the connection among these that waits for its client longest, if it does for that long.
func (l *clients) evictLocked(among func(*client) bool, least time.Duration) bool {
	var oldest *client
	for c := range l.open {
		if c.state == waiting && among(c) && (oldest == nil || c.waiting.Before(oldest.waiting)) {
			oldest = c
		}
	}
	if oldest == nil || time.Since(oldest.waiting) < least {
		return false
	}
	l.meter.evicted.Inc()
	l.leaveLocked(oldest)
	oldest.Conn.Close()
	return true
}

// refuse notes a connection that is answered 503 at its first request. Those that never send one don't gather: the oldest gets
// its answer unasked.
func (l *clients) refuse(c *client) {
	l.meter.refused.Inc()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, c)
	if len(l.refused) > min(maxRefused, l.places) {
		oldest := l.refused[0]
		l.leaveLocked(oldest)
		oldest.SetWriteDeadline(time.Now().Add(time.Millisecond)) // a fresh socket's buffer has room for it
		io.WriteString(oldest.Conn, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		oldest.Conn.Close()
	}
}

// hangUp closes connections that wait for their client, until drained is closed: they must not delay the end.
func (l *clients) hangUp(drained <-chan struct{}) {
	everybody := func(*client) bool { return true }
	tick := time.NewTicker(settled / 10)
	defer tick.Stop()
	for {
		l.mu.Lock()
		for l.evictLocked(everybody, settled) {
		}
		for len(l.refused) > 0 {
			c := l.refused[0]
			l.leaveLocked(c)
			c.Conn.Close()
		}
		l.mu.Unlock()
		select {
		case <-drained:
			return
		case <-tick.C:
		}
	}
}

// leaveLocked takes c off the books.
func (l *clients) leaveLocked(c *client) {
	if _, ok := l.open[c]; ok {
		delete(l.open, c)
		l.meter.clients.Add(-1)
	}
	l.refused = slices.DeleteFunc(l.refused, func(r *client) bool { return r == c })
}

// Close closes the connection and gives its place to the next one.
func (c *client) Close() error {
	c.of.mu.Lock()
	c.of.leaveLocked(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite ends the answer, so that a client that still sends can read it: net/http then waits for a while before it closes.
func (c *client) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// The methods from here on take a nil client: tests call the handler without a connection.

func (c *client) looksOnly() bool { return c != nil && c.of.readOnly }

func (c *client) bodyLimit() int64 {
	if c.looksOnly() {
		return maxLook
	}
	return maxBody
}

func (c *client) answerTime() time.Duration {
	if c.looksOnly() {
		return lookTime
	}
	return writeTime
}

// during runs a verb, for which the connection is not closed to make room.
func (c *client) during(verb func()) {
	c.enter(working)
	defer c.enter(waiting)
	verb()
}

// stream begins a stream, unless there are too many; end ends it.
func (c *client) stream() (end func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	for _, s := range c.of.shares(c.peer, true) {
		if c.of.countLocked(func(o *client) bool { return o.state == streaming && s.among(o) }) >= s.places {
			return nil, api.Errorf(api.CodeUnavailable, "%s", s.full)
		}
	}
	c.state = streaming
	return func() { c.enter(waiting) }, nil
}

func (c *client) enter(s state) {
	if c == nil {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.state, c.waiting = s, time.Now()
}
