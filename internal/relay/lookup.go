package relay

import (
	"errors"
	"net/netip"
	"sync"

	"vswitch/internal/bpf"
)

// Lookup listens on any number of ports by one socket of each protocol and family, which a program in the kernel gives what comes to them. Its
// methods are safe for concurrent use.
type Lookup struct {
	sockets []*Listener
	program *bpf.Lookup

	mu    sync.Mutex
	ports map[Place]*bpf.PortSet // of all addresses, by protocol and family; guarded by mu, like the rest
	dirty map[Place]bool         // those that the program does not have yet
}

// OpenLookup makes one without ports, in the namespace that nsFD is of, where the relay's sockets are. An error says when the kernel has no
// such programs: Linux before 5.9.
func (r *Relay) OpenLookup(nsFD int) (*Lookup, error) {
	l := &Lookup{ports: make(map[Place]*bpf.PortSet), dirty: make(map[Place]bool)}
	var fds [4]int
	for i := range fds {
		p := Place{Proto: []string{"tcp", "udp"}[i%2], Addr: []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[i/2]}
		in, err := r.Listen(p)
		if err == nil {
			l.sockets = append(l.sockets, in)
			err = in.raw.Control(func(fd uintptr) { fds[i] = int(fd) })
		}
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.ports[p] = new(bpf.PortSet)
	}
	var err error
	if l.program, err = bpf.NewLookup(nsFD, fds); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Set begins or ends to listen on a range of ports of p, whose first is p.Port, with the next Flush.
func (l *Lookup) Set(p Place, last uint16, on bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Addr.IsUnspecified() {
		all := Place{Proto: p.Proto, Addr: p.Addr}
		set := l.ports[all]
		for n := int(p.Port); n <= int(last); n++ {
			if on {
				set.Add(uint16(n))
			} else {
				set.Remove(uint16(n))
			}
		}
		l.dirty[all] = true
		return nil
	}
	for n := int(p.Port); n <= int(last); n++ {
		if err := l.program.SetAddr(p.Addr, p.Proto == "udp", uint16(n), on); err != nil {
			for n--; on && n >= int(p.Port); n-- {
				_ = l.program.SetAddr(p.Addr, p.Proto == "udp", uint16(n), false)
			}
			return err
		}
	}
	return nil
}

// Flush makes all that was set be so.
func (l *Lookup) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.dirty {
		if err := l.program.SetPorts(p.Addr.Is6(), p.Proto == "udp", l.ports[p]); err != nil {
			return err
		}
		delete(l.dirty, p)
	}
	return nil
}

// Close ends all of it.
func (l *Lookup) Close() (err error) {
	if l.program != nil {
		err = l.program.Close()
	}
	for _, in := range l.sockets {
		err = errors.Join(err, in.Close())
	}
	return err
}
