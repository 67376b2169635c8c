package vswitch

import (
	"sync"

	"vswitch/internal/api"
)

// interfaceClaims say whose an interface is: it is shared by one uplink at a time, also while auto follows the host's default route.
type interfaceClaims struct {
	mu sync.Mutex
	by map[string]int // id of the uplink -> index of the interface
}

// claim returns what takes an interface for an uplink, instead of the one it had; 0: none.
func (c *interfaceClaims) claim(id string) func(index int) error {
	return func(index int) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for other, at := range c.by {
			if index != 0 && at == index && other != id {
				return api.Errorf(api.CodeRefused, "another uplink shares the interface already")
			}
		}
		if c.by == nil {
			c.by = make(map[string]int)
		}
		c.by[id] = index
		return nil
	}
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
