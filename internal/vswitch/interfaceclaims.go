package vswitch

import (
	"cmp"
	"sync"

	"vswitch/internal/api"
	"vswitch/internal/link"
)

// interfaceClaims say whose an interface is: it is shared by one uplink at a time, also while auto follows the host's default route.
type interfaceClaims struct {
	mu sync.Mutex
	by map[string]int // id of the uplink -> index of the interface
}

// claim takes an interface for an uplink, instead of the one it had; 0: none. Where another one has it, that one's id is returned.
func (c *interfaceClaims) claim(id string, index int) (holder string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other, at := range c.by {
		if index != 0 && at == index && other != id {
			return other
		}
	}
	if c.by == nil {
		c.by = make(map[string]int)
	}
	c.by[id] = index
	return ""
}

func (c *interfaceClaims) release(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, id)
}

// of returns the index of the interface that the uplink has, or 0.
func (c *interfaceClaims) of(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[id]
}

// claimInterface returns what takes an interface of the host for an uplink, unless another uplink has it or it is the switch's own.
func (s *Switch) claimInterface(id string) func(index int) error {
	return func(index int) error {
		if what := s.ownDevice(link.State{Index: index}); what != "" {
			return api.Errorf(api.CodeRefused, "that is %s", what)
		}
		if holder := s.claimed.claim(id, index); holder != "" {
			return api.Errorf(api.CodeRefused, "uplink %s uses that interface already", cmp.Or(s.uplinkName(holder), "another one"))
		}
		return nil
	}
}

func (s *Switch) uplinkName(id string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, u := range s.uplinks {
		if u.ID == id {
			return name
		}
	}
	return ""
}

// ownDevice says what an interface of the host is to the switch; "" when it is none of its own. What would leave by one as by an uplink
// would come back.
func (s *Switch) ownDevice(st link.State) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st.Index == 0 {
		return ""
	}
	if st.Index == s.hostPort.state.Index {
		return "the host's own port to the networks"
	}
	if e := s.places[place{s.host.ID(), st.Index}]; e != nil {
		return "port " + e.port.Name + " of the switch itself"
	}
	for name, u := range s.uplinks {
		if st.Name == link.DeviceName(u.ID) {
			return "the device of uplink " + name
		}
	}
	return ""
}
