package router

import (
	"net/netip"
	"sync"
)

// Echoes remembers the first fragments of echo requests to the router, so that the later fragments are answered too, and no
// others are: two routers would send each other fragments of anything for ever.
//
//	maps     (source, destination, identification) -> when its first fragment came
//	limit    64, the oldest goes; each is good for 15 s
type Echoes struct {
	mu   sync.Mutex
	ring [64]echo // guarded by mu
	next int      // guarded by mu
}

type echo struct {
	src, dst netip.Addr
	id       uint32
	until    int64
}

const echoLife = 15e9

// Note remembers a first fragment.
func (e *Echoes) Note(src, dst netip.Addr, id uint32, now int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ring[e.next] = echo{src, dst, id, now + echoLife}
	e.next = (e.next + 1) % len(e.ring)
}

// Noted tells whether the datagram's first fragment came lately.
func (e *Echoes) Noted(src, dst netip.Addr, id uint32, now int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.ring {
		if n := &e.ring[i]; n.src == src && n.dst == dst && n.id == id && now < n.until {
			return true
		}
	}
	return false
}
