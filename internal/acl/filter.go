package acl

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/internal/prefix"
)

// MaxRules is how many rules a network and its ports may have.
const MaxRules = 32768

// Names tells what the names in rules stand for at the moment. It knows what is asked for, also where it is gone or not there yet: such a
// port has no ID, or no addresses, and what names it rests.
type Names interface {
	// Port returns a port of any network; ok is false when there is none.
	Port(name string) (p Port, ok bool)
	// Network returns a network's subnets; ok is false when there is none.
	Network(name string) (subnets []netip.Prefix, ok bool)
}

// Port is what rules want to know of a port.
type Port struct {
	ID    packet.PortID // 0: it has no device at the moment, and its own rules rest
	Addrs []netip.Addr  // what @NAME stands for; none: it stands for nobody
}

// Config is what a network's frames are judged by.
type Config struct {
	Network string
	Rules   []Rule // the network's and its ports', in the order in which they were given
	NoICC   bool   // --icc=false: what goes from port to port is denied where no rule of direction in decides
}

// rule is a Rule at work.
type rule struct {
	Rule
	m        match
	onPort   bool // on a port, not on the network
	port     packet.PortID
	src, dst []netip.Prefix // what m.src and m.dst stand for; none: nobody, or anybody when those are empty
	count    *counter
}

// Snapshot is a network's rules, compiled. It never changes but for the counters.
type Snapshot struct {
	conf  Config
	ways  [2]*classifier // by Direction
	deep  bool
	state bool
	since int64 // when it became so, nanoseconds; 0: it always was
	opens bool  // a rule of direction in allows something, in spite of --icc=false: then ports have to find each other
	uses  map[ref]bool
	log   *limiter
}

// Filter holds what judges a network's frames.
//
//	writes   control verbs; each compiles all rules anew: 10,000 take about 0.1 s
//	reads    the slow path of any worker, through Snapshot
//	limits   MaxRules; log lines as in counter.go
//	safety   Set publishes a new immutable Snapshot and only then calls renew, see l2switch.Bridge
type Filter struct {
	renew func()
	snap  atomic.Pointer[Snapshot]
	log   limiter

	mu sync.Mutex // held while rules are compiled and published, so that the last to ask wins
}

// NewFilter makes a filter without rules. renew raises the generation that decisions lean on: the network's Bridge.Renew.
func NewFilter(renew func()) *Filter {
	f := &Filter{renew: renew, log: limiter{rate: NetworkLogRate, burst: NetworkLogBurst}}
	f.snap.Store(&Snapshot{ways: [2]*classifier{newClassifier(nil), newClassifier(nil)}, log: &f.log})
	return f
}

// Snapshot returns the rules of now. Load the generation before it.
func (f *Filter) Snapshot() *Snapshot { return f.snap.Load() }

// Set replaces all rules at now, in nanoseconds, or changes nothing and tells which rule is wrong. A rule that keeps its ID keeps its
// counters. Call it again when what a name stands for has changed, see UsesPort and UsesNetwork. now is 0 when no connection can be older than
// the rules, or none is known, as after a start.
func (f *Filter) Set(c Config, names Names, now int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := Compile(c, names)
	if err != nil {
		return err
	}
	was := f.snap.Load()
	if s.since = now; was.state {
		s.since = was.since
	}
	old := make(map[string]*counter)
	for r := range was.all() {
		old[r.ID] = r.count
	}
	for r := range s.all() {
		if n := old[r.ID]; n != nil {
			r.count = n
		}
	}
	s.log = &f.log
	f.snap.Store(s)
	f.renew()
	return nil
}

// Compile makes a snapshot of its own, as to try rules out. The error is an *api.Error whose Object is the ID of the rule at fault.
func Compile(c Config, names Names) (*Snapshot, error) {
	if len(c.Rules) > MaxRules {
		return nil, api.Errorf(api.CodeExhausted, "network %s would have %d rules; the limit is %d: one rule takes prefixes and lists of ports",
			c.Network, len(c.Rules), MaxRules)
	}
	s := &Snapshot{conf: c, uses: make(map[ref]bool), log: &limiter{rate: NetworkLogRate, burst: NetworkLogBurst}}
	s.conf.Rules = nil
	var ways [2][]*rule
	ids := make(map[string]bool, len(c.Rules))
	for i := range c.Rules {
		r, err := s.resolve(&c.Rules[i], names)
		if err == nil && (r.ID == "" || ids[r.ID]) {
			err = invalid("its ID %q is empty or another rule's", r.ID)
		}
		if err != nil {
			return nil, blame(&c.Rules[i], err)
		}
		ids[r.ID] = true
		ways[r.m.dir] = append(ways[r.m.dir], r)
		refuses := r.m.action != Allow && r.m.mayBeIP()
		s.state = s.state || refuses
		s.deep = s.deep || refuses || r.m.asksIP()
		s.opens = s.opens || r.m.dir == In && r.m.action == Allow
	}
	s.state = s.state || c.NoICC && s.opens
	s.deep = s.deep || s.state
	for d := range ways {
		slices.SortStableFunc(ways[d], func(a, b *rule) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(place(a), place(b)))
		})
		s.ways[d] = newClassifier(ways[d])
	}
	return s, nil
}

// place puts rules of a port before those of its network.
func place(r *rule) int {
	if r.onPort {
		return 0
	}
	return 1
}

// blame names the rule in an error.
func blame(r *Rule, err error) error {
	e := api.Errorf(api.CodeInvalid, "%.400s: %s", r.name(), err)
	e.Object = r.ID
	return e
}

// resolve reads a rule and finds what its names stand for.
func (s *Snapshot) resolve(in *Rule, names Names) (*rule, error) {
	m, err := read(in)
	if err != nil {
		return nil, err
	}
	r := &rule{Rule: m.canonical(in), m: *m, count: newCounter()}
	if err := s.owner(r, names); err != nil {
		return nil, err
	}
	if r.src, err = s.peer("--src", m.src, names); err != nil {
		return nil, err
	}
	r.dst, err = s.peer("--dst", m.dst, names)
	return r, err
}

func (s *Snapshot) owner(r *rule, names Names) error {
	on := r.m.on
	if on.kind != api.KindPort && on.name == s.conf.Network {
		if _, both := names.Port(on.name); both && on.kind == "" {
			return invalid("a port and the network are both named %s: write port:%s or network:%s", on.name, on.name, on.name)
		}
		return nil
	}
	p, ok := names.Port(on.name)
	if !ok || on.kind == api.KindNetwork {
		return invalid("%s is neither network %s nor a port of it; see 'vsctl list-ports'", on.name, s.conf.Network)
	}
	r.onPort, r.port = true, p.ID
	s.uses[ref{api.KindPort, on.name}] = true
	return nil
}

// peer returns the prefixes that a rule's source or destination stands for.
func (s *Snapshot) peer(option string, p peer, names Names) ([]netip.Prefix, error) {
	if p.prefix.IsValid() {
		return []netip.Prefix{p.prefix}, nil
	}
	if p.any() {
		return nil, nil
	}
	n := p.ref
	port, isPort := names.Port(n.name)
	subnets, isNetwork := names.Network(n.name)
	isPort, isNetwork = isPort && n.kind != api.KindNetwork, isNetwork && n.kind != api.KindPort
	switch {
	case isPort && isNetwork:
		return nil, invalid("%s @%s: a port and a network have this name; write @port:%s or @network:%s", option, n.name, n.name, n.name)
	case isPort:
		s.uses[ref{api.KindPort, n.name}] = true
		return hosts(port.Addrs), nil
	case isNetwork:
		s.uses[ref{api.KindNetwork, n.name}] = true
		return masked(subnets), nil
	}
	return nil, invalid("%s @%s: there is no such port or network; see 'vsctl list-ports' and 'vsctl list-networks'", option, n)
}

func hosts(addrs []netip.Addr) (all []netip.Prefix) {
	for _, a := range addrs {
		all = append(all, prefix.Host(a))
	}
	return all
}

func masked(prefixes []netip.Prefix) (all []netip.Prefix) {
	for _, p := range prefixes {
		all = append(all, p.Masked())
	}
	return all
}
