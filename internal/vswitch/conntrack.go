package vswitch

import (
	"context"
	"iter"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/nat"
)

// Connections lists those of the table of connections that the filter selects, in no order. The table is locked for some of them at a time,
// while nobody reads them: frames of new connections don't wait for the whole list, whoever reads it.
func (s *Switch) Connections(ctx context.Context, want api.ConnectionFilter) iter.Seq2[api.Connection, error] {
	return func(yield func(api.Connection, error) bool) {
		f, err := s.connectionFilter(&want)
		if err != nil {
			yield(api.Connection{}, err)
			return
		}
		describe := s.connectionsNamed()
		s.conns.List(&f, s.path.Now(), func(e *nat.Entry) bool {
			if err := ctx.Err(); err != nil {
				yield(api.Connection{}, err)
				return false
			}
			return yield(describe(e), nil)
		})
	}
}

// FlushConnections ends the connections that the filter selects: the next frame of each is decided anew, as the first of a new one.
func (s *Switch) FlushConnections(_ context.Context, want api.ConnectionFilter) (int, error) {
	f, err := s.connectionFilter(&want)
	if err != nil {
		return 0, err
	}
	return s.conns.Remove(&f), nil
}

// connectionFilter finds the numbers of what the filter names. None of them is 0, which would select all.
func (s *Switch) connectionFilter(want *api.ConnectionFilter) (nat.Filter, error) {
	f := nat.Filter{Proto: want.Proto, State: stateNamed(want.State), Src: want.Src, Dst: want.Dst, SrcPort: want.SrcPort, DstPort: want.DstPort,
		Translated: want.Translated}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if name := want.Network; name != "" {
		n := s.networks[name]
		if n == nil || n.number == 0 { // it is just being added
			return f, noNetwork(name)
		}
		f.Network = n.number
	}
	if name := want.Port; name != "" {
		e := s.ports[name]
		if e == nil {
			return f, noPort(name)
		}
		if f.Port = e.id; f.Port == 0 {
			return f, api.Errorf(api.CodeRefused, "port %s is on no network: it has no connections", name)
		}
	}
	if name := want.Router; name != "" {
		if f.Zone = s.zones[name]; f.Zone == 0 {
			return f, noRouter(name)
		}
	}
	return f, nil
}

// stateNamed returns the state of that name, or 0.
func stateNamed(name string) nat.State {
	return nat.State(slices.Index(api.ConnectionStates, name) + 1)
}

// connectionsNamed returns a function that describes connections with the names that networks, ports and routers have now.
func (s *Switch) connectionsNamed() func(*nat.Entry) api.Connection {
	port := s.nameOf()
	s.mu.RLock()
	defer s.mu.RUnlock()
	networks, routers := map[uint32]string{}, map[uint16]string{}
	for name, n := range s.networks {
		networks[n.number] = name
	}
	for _, l := range s.legs {
		networks[l.number] = l.name
	}
	for name, zone := range s.zones {
		routers[zone] = name
	}
	return func(e *nat.Entry) api.Connection {
		c := api.Connection{
			Router: routers[e.Orig.Zone], Network: networks[e.Network], Port: port(e.Port), Proto: api.ProtocolName(e.Orig.Proto),
			State: e.State.String(), Timeout: int(e.Expires.Seconds()), Age: int(e.Age.Seconds()), Idle: int(max(0, e.Idle).Seconds()),
			Original: tupleOf(&e.Orig),
		}
		if e.Peer != packet.PortID(0) {
			c.Peer = port(e.Peer)
		}
		if sent := e.Reply.Reverse(); sent != e.Orig {
			t := tupleOf(&sent)
			c.Translated = &t
		}
		return c
	}
}

func tupleOf(q *nat.Tuple) api.Tuple {
	return api.Tuple{Src: q.SrcAddr(), SrcPort: q.SrcPort, Dst: q.DstAddr(), DstPort: q.DstPort}
}
