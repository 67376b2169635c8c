package ipam

import (
	"container/heap"
	"net/netip"
	"slices"
	"sync"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/prefix"
)

// Pool hands out the addresses of one subnet.
//
//	maps     address -> owner, the name of a port
//	writes   and reads control verbs
//	limits   the addresses of the subnet, or of its range
//	ageing   an address given back rests for Rest, so that caches of others forget its last owner
//	memory   by the addresses in use, not by the size of the subnet: a /8 and a /64 are the same to it
//	safety   one mutex
//
// Addresses below next were handed out once; those of them that are free again are in freed. Thus the first free address is
// found in O(log n) without a look at all others.
type Pool struct {
	subnet api.Subnet
	// Handed out on their own are addresses from first to last; others of the subnet can be reserved.
	first, last netip.Addr

	mu      sync.Mutex
	leases  map[netip.Addr]string // owner, or "" of an address at rest
	resting []rest                // in the order of release
	next    netip.Addr            // first that was not yet handed out; invalid behind the last address there is
	freed   addrHeap              // the free ones below next
}

type rest struct {
	addr  netip.Addr
	until time.Time
}

// Rest is how long an address that was given back is not handed out again, as long as there are others.
const Rest = time.Minute

// Gateway is the owner of a subnet's gateway address. No port can have this name.
const Gateway = "the gateway"

// NewPool makes the pool of a subnet; without a Gateway none is reserved, without a Range the whole prefix is handed out.
// Errors are *api.Error with CodeInvalid: the gateway lies outside or is no interface's address, or no address is left for a
// port.
func NewPool(s api.Subnet) (*Pool, error) {
	p := &Pool{subnet: s, leases: map[netip.Addr]string{}}
	p.first, p.last = Usable(s.Prefix)
	if s.Gateway.IsValid() {
		if err := p.check("gateway", s.Gateway); err != nil {
			return nil, err
		}
		p.leases[s.Gateway] = Gateway
	}
	within := s.Prefix
	if s.Range.IsValid() {
		within = s.Range
		p.first = later(p.first, s.Range.Addr())
		p.last = earlier(p.last, prefix.Last(s.Range))
	}
	p.next = p.first
	if p.first.Compare(p.last) > 0 || p.first == p.last && p.first == s.Gateway {
		return nil, api.Errorf(api.CodeInvalid, "%v is too small: it has no address for a port beside the gateway, the network and the broadcast address", within)
	}
	return p, nil
}

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return a
	}
	return b
}

// check refuses addresses that no interface of the subnet may have.
func (p *Pool) check(what string, a netip.Addr) error {
	if !p.subnet.Prefix.Contains(a) {
		return api.Errorf(api.CodeInvalid, "%s %v is not within subnet %v", what, a, p.subnet.Prefix)
	}
	if first, last := Usable(p.subnet.Prefix); a.Less(first) || last.Less(a) {
		return api.Errorf(api.CodeInvalid, "%s %v is the network, broadcast or anycast address of subnet %v: use %v to %v", what, a, p.subnet.Prefix, first, last)
	}
	return nil
}

// Allocate hands out the first free address to owner. The error is an *api.Error with CodeExhausted.
func (p *Pool) Allocate(owner string, now time.Time) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake(now)
	a, ok := p.firstFree()
	if !ok {
		a, ok = p.longestResting()
	}
	if !ok {
		what := "subnet " + p.subnet.Prefix.String()
		if p.subnet.Range.IsValid() {
			what = "IP range " + p.subnet.Range.String()
		}
		return netip.Addr{}, api.Errorf(api.CodeExhausted, "%s has no free address left: delete ports that are not needed, name an address outside the range, or make a network with a larger subnet", what)
	}
	p.leases[a] = owner
	return a, nil
}

// wake ends the rest of those whose time has come.
func (p *Pool) wake(now time.Time) {
	for len(p.resting) > 0 && !p.resting[0].until.After(now) {
		p.endRest()
	}
}

// endRest frees the address that has rested longest.
func (p *Pool) endRest() {
	p.free(p.resting[0].addr)
	p.resting = p.resting[1:]
}

// free ends the lease of a.
func (p *Pool) free(a netip.Addr) {
	delete(p.leases, a)
	if passed := !p.next.IsValid() || a.Less(p.next); passed && !a.Less(p.first) {
		heap.Push(&p.freed, a)
	}
}

func (p *Pool) firstFree() (netip.Addr, bool) {
	if len(p.freed) > 0 {
		return heap.Pop(&p.freed).(netip.Addr), true
	}
	for p.next.IsValid() && !p.last.Less(p.next) {
		a := p.next
		p.next = a.Next()
		if _, taken := p.leases[a]; !taken {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// longestResting cuts a rest short: a port that comes is worth more than the caches of those who knew the one that went.
func (p *Pool) longestResting() (netip.Addr, bool) {
	for len(p.resting) > 0 {
		p.endRest()
		if a, ok := p.firstFree(); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Reserve gives owner the address a, from the range or not, resting or not: the one a user asked for, or one that a port had
// before a restart. Errors are *api.Error: CodeInvalid when the subnet has no such address for a port, CodeConflict when it
// is taken, with the owner as Object.
func (p *Pool) Reserve(a netip.Addr, owner string) error {
	if err := p.check("address", a); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	holder, leased := p.leases[a]
	if holder != "" {
		return taken(a, holder)
	}
	if leased {
		p.resting = slices.DeleteFunc(p.resting, func(r rest) bool { return r.addr == a })
	} else if i := slices.Index(p.freed, a); i >= 0 {
		heap.Remove(&p.freed, i)
	}
	p.leases[a] = owner
	return nil
}

func taken(a netip.Addr, holder string) error {
	by := "port " + holder
	if holder == Gateway {
		by = Gateway
	}
	err := api.Errorf(api.CodeConflict, "address %v is taken by %s: choose another one, or leave it out to get the next free", a, by)
	err.Object = holder
	return err
}

// undo ends the lease of an address that nobody has seen: it needs no rest.
func (p *Pool) undo(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free(a)
}

// Release takes the address back from owner; it then rests. When owner doesn't have it, nothing happens.
func (p *Pool) Release(a netip.Addr, owner string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leases[a] != owner || owner == "" || owner == Gateway {
		return
	}
	p.wake(now)
	p.leases[a] = ""
	p.resting = append(p.resting, rest{a, now.Add(Rest)})
}

// Owner returns who has the address, or "".
func (p *Pool) Owner(a netip.Addr) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leases[a]
}

// addrHeap has the lowest address on top.
type addrHeap []netip.Addr

func (h addrHeap) Len() int           { return len(h) }
func (h addrHeap) Less(i, j int) bool { return h[i].Less(h[j]) }
func (h addrHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *addrHeap) Push(a any)        { *h = append(*h, a.(netip.Addr)) }
func (h *addrHeap) Pop() any {
	a := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return a
}
