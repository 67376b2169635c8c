package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/ipam"

	"pgregory.net/rapid"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
	epoch  = time.Unix(1e9, 0)
)

// code returns the code of an *api.Error, "" for nil.
func code(err error) string {
	var e *api.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return "not an api.Error: " + err.Error()
}

func newPool(t testing.TB, s api.Subnet) *ipam.Pool {
	t.Helper()
	p, err := ipam.NewPool(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoolHandsOutInSequence(t *testing.T) {
	for _, c := range []struct {
		name   string
		subnet api.Subnet
		want   []string // all there are, when there are few
		more   bool
	}{
		{"gateway first", api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")}, []string{"10.0.0.2", "10.0.0.3"}, true},
		{"gateway in between", api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.2")}, []string{"10.0.0.1", "10.0.0.3"}, true},
		{"no gateway", api.Subnet{Prefix: prefix("10.0.0.0/30")}, []string{"10.0.0.1", "10.0.0.2"}, false},
		{"/29", api.Subnet{Prefix: prefix("10.0.0.0/29"), Gateway: addr("10.0.0.1")}, []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}, false},
		{"/31", api.Subnet{Prefix: prefix("10.0.0.0/31")}, []string{"10.0.0.0", "10.0.0.1"}, false},
		{"/31 with gateway", api.Subnet{Prefix: prefix("10.0.0.0/31"), Gateway: addr("10.0.0.0")}, []string{"10.0.0.1"}, false},
		{"/32", api.Subnet{Prefix: prefix("10.0.0.9/32")}, []string{"10.0.0.9"}, false},
		{"range", api.Subnet{Prefix: prefix("10.0.0.0/16"), Gateway: addr("10.0.0.1"), Range: prefix("10.0.5.0/31")}, []string{"10.0.5.0", "10.0.5.1"}, false},
		{"range at the start", api.Subnet{Prefix: prefix("10.0.0.0/16"), Gateway: addr("10.0.0.1"), Range: prefix("10.0.0.0/30")}, []string{"10.0.0.2", "10.0.0.3"}, false},
		{"range at the end", api.Subnet{Prefix: prefix("10.0.0.0/24"), Range: prefix("10.0.0.254/31")}, []string{"10.0.0.254"}, false},
		{"end of all addresses", api.Subnet{Prefix: prefix("255.255.255.254/31")}, []string{"255.255.255.254", "255.255.255.255"}, false},
		{"IPv6", api.Subnet{Prefix: prefix("fd00::/64"), Gateway: addr("fd00::1")}, []string{"fd00::2", "fd00::3"}, true},
		{"IPv6 without gateway", api.Subnet{Prefix: prefix("fd00::/126")}, []string{"fd00::1", "fd00::2", "fd00::3"}, false},
		{"/127", api.Subnet{Prefix: prefix("fd00::/127")}, []string{"fd00::", "fd00::1"}, false},
		{"/128", api.Subnet{Prefix: prefix("fd00::5/128")}, []string{"fd00::5"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, c.subnet)
			for i, want := range c.want {
				if got, err := p.Allocate(fmt.Sprint("p", i), epoch); err != nil || got != addr(want) {
					t.Fatalf("address %d is %v (%v), want %s", i, got, err, want)
				}
			}
			if _, err := p.Allocate("another", epoch); !c.more && code(err) != api.CodeExhausted {
				t.Errorf("another address: %v, want %s", err, api.CodeExhausted)
			}
		})
	}
}

func TestNewPoolErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		subnet api.Subnet
	}{
		{"gateway outside", api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.1.1")}},
		{"gateway is the network", api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.0")}},
		{"gateway is the broadcast", api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.255")}},
		{"gateway is anycast", api.Subnet{Prefix: prefix("fd00::/64"), Gateway: addr("fd00::")}},
		{"no room beside the gateway", api.Subnet{Prefix: prefix("10.0.0.1/32"), Gateway: addr("10.0.0.1")}},
		{"no room in the range", api.Subnet{Prefix: prefix("10.0.0.0/24"), Range: prefix("10.0.0.255/32")}},
		{"range is the gateway", api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.7"), Range: prefix("10.0.0.7/32")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ipam.NewPool(c.subnet); code(err) != api.CodeInvalid {
				t.Errorf("got %v, want %s", err, api.CodeInvalid)
			}
		})
	}
}

func TestPoolReserve(t *testing.T) {
	p := newPool(t, api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), Range: prefix("10.0.0.128/25")})
	for _, c := range []struct{ name, addr, code, object string }{
		{"outside the range", "10.0.0.5", "", ""},
		{"in the range", "10.0.0.130", "", ""},
		{"taken", "10.0.0.5", api.CodeConflict, "c1"},
		{"gateway", "10.0.0.1", api.CodeConflict, ipam.Gateway},
		{"outside", "10.0.1.5", api.CodeInvalid, ""},
		{"network", "10.0.0.0", api.CodeInvalid, ""},
		{"broadcast", "10.0.0.255", api.CodeInvalid, ""},
		{"other family", "fd00::1", api.CodeInvalid, ""},
		{"mapped", "::ffff:10.0.0.7", api.CodeInvalid, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := p.Reserve(addr(c.addr), "c1")
			if code(err) != c.code {
				t.Fatalf("got %v, want code %q", err, c.code)
			}
			var e *api.Error
			if errors.As(err, &e) && e.Object != c.object {
				t.Errorf("object is %q, want %q", e.Object, c.object)
			}
		})
	}
	if p.Owner(addr("10.0.0.5")) != "c1" || p.Owner(addr("10.0.0.6")) != "" {
		t.Error("owners are wrong")
	}
}

func TestPoolRests(t *testing.T) {
	p := newPool(t, api.Subnet{Prefix: prefix("10.0.0.0/29"), Gateway: addr("10.0.0.1")})
	for range 3 {
		p.Allocate("a", epoch) // .2, .3, .4
	}
	take := func(now time.Time, want string) {
		t.Helper()
		if got, err := p.Allocate("b", now); err != nil || got != addr(want) {
			t.Errorf("got %v (%v), want %s", got, err, want)
		}
	}
	p.Release(addr("10.0.0.3"), "a", epoch)
	take(epoch, "10.0.0.5") // .3 rests
	p.Release(addr("10.0.0.2"), "a", epoch.Add(30*time.Second))
	take(epoch.Add(ipam.Rest), "10.0.0.3")             // its minute is over; that of .2 isn't
	take(epoch.Add(ipam.Rest), "10.0.0.6")             // the last that was never used
	take(epoch.Add(ipam.Rest), "10.0.0.2")             // rather than none
	p.Release(addr("10.0.0.4"), "someone else", epoch) // not its own
	p.Release(addr("10.0.0.1"), ipam.Gateway, epoch)   // nor is this a port's
	if _, err := p.Allocate("b", epoch.Add(time.Hour)); code(err) != api.CodeExhausted {
		t.Errorf("got %v, want %s", err, api.CodeExhausted)
	}
	p.Release(addr("10.0.0.4"), "a", epoch.Add(time.Hour))
	if err := p.Reserve(addr("10.0.0.4"), "c"); err != nil {
		t.Errorf("a resting address that is asked for: %v", err)
	}
}

// An address that was free again and is then asked for is not handed out once more.
func TestPoolReserveOfFreed(t *testing.T) {
	p := newPool(t, api.Subnet{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")})
	for _, a := range addrs("10.0.0.2 10.0.0.3 10.0.0.4") {
		p.Allocate("a", epoch)
		p.Release(a, "a", epoch)
	}
	now := epoch.Add(ipam.Rest)
	p.Allocate("b", now) // .2
	if err := p.Reserve(addr("10.0.0.3"), "c"); err != nil {
		t.Fatal(err)
	}
	if a, err := p.Allocate("b", now); err != nil || a != addr("10.0.0.4") {
		t.Errorf("got %v (%v), want 10.0.0.4", a, err)
	}
}

// naive is a pool that looks at each address in turn.
type naive struct {
	first, last netip.Addr // of the range
	owner       map[netip.Addr]string
	until       map[netip.Addr]time.Time // resting
	order       []netip.Addr             // of release
}

func (n *naive) free(a netip.Addr, now time.Time) bool {
	until, rests := n.until[a]
	return n.owner[a] == "" && (!rests || !until.After(now))
}

func (n *naive) want(now time.Time) netip.Addr {
	for a := n.first; !n.last.Less(a); a = a.Next() {
		if n.free(a, now) {
			return a
		}
	}
	for _, a := range n.order { // the longest resting
		if n.owner[a] == "" && !a.Less(n.first) && !n.last.Less(a) {
			return a
		}
	}
	return netip.Addr{}
}

func (n *naive) wake(a netip.Addr) {
	delete(n.until, a)
	for i := range n.order {
		if n.order[i] == a {
			n.order = append(n.order[:i:i], n.order[i+1:]...)
			return
		}
	}
}

func poolEqualsNaive(t *rapid.T) {
	p, err := ipam.NewPool(api.Subnet{Prefix: prefix("10.0.0.0/27"), Gateway: addr("10.0.0.10"), Range: prefix("10.0.0.8/29")})
	if err != nil {
		t.Fatal(err)
	}
	n := &naive{addr("10.0.0.8"), addr("10.0.0.15"), map[netip.Addr]string{addr("10.0.0.10"): ipam.Gateway}, map[netip.Addr]time.Time{}, nil}
	now := epoch
	any := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(6, 17).Draw(t, "address"))})
	})
	t.Repeat(map[string]func(*rapid.T){
		"allocate": func(t *rapid.T) {
			for range rapid.IntRange(1, 6).Draw(t, "how many") {
				want := n.want(now)
				got, err := p.Allocate("p", now)
				if got != want || (err == nil) != want.IsValid() {
					t.Fatalf("got %v (%v), want %v", got, err, want)
				}
				if want.IsValid() {
					n.wake(want)
					n.owner[want] = "p"
				}
			}
		},
		"reserve": func(t *rapid.T) {
			a := any.Draw(t, "a")
			if err := p.Reserve(a, "q"); (err == nil) != (n.owner[a] == "") {
				t.Fatalf("reserve %v, owned by %q: %v", a, n.owner[a], err)
			} else if err == nil {
				n.wake(a)
				n.owner[a] = "q"
			}
		},
		"release": func(t *rapid.T) {
			for range rapid.IntRange(1, 8).Draw(t, "how many") {
				a, who := any.Draw(t, "a"), rapid.SampledFrom([]string{"p", "p", "q", "", ipam.Gateway}).Draw(t, "owner")
				p.Release(a, who, now)
				if (who == "p" || who == "q") && n.owner[a] == who {
					delete(n.owner, a)
					n.until[a] = now.Add(ipam.Rest)
					n.order = append(n.order, a)
				}
			}
		},
		"reserve and release": func(t *rapid.T) {
			a := any.Draw(t, "a")
			if p.Reserve(a, "q") == nil {
				n.wake(a)
				p.Release(a, "q", now)
				n.until[a] = now.Add(ipam.Rest)
				n.order = append(n.order, a)
			}
		},
		"step": func(t *rapid.T) {
			now = now.Add(time.Duration(rapid.IntRange(10, 90).Draw(t, "seconds")) * time.Second)
		},
		"": func(t *rapid.T) {
			for i := byte(1); i <= 20; i++ {
				a := netip.AddrFrom4([4]byte{10, 0, 0, i})
				if p.Owner(a) != n.owner[a] {
					t.Fatalf("%v is owned by %q, want %q", a, p.Owner(a), n.owner[a])
				}
			}
		},
	})
}

func TestPoolEqualsNaive(t *testing.T) { rapid.Check(t, poolEqualsNaive) }

func FuzzPoolEqualsNaive(f *testing.F) { f.Fuzz(rapid.MakeFuzz(poolEqualsNaive)) }

func TestPoolConcurrent(t *testing.T) {
	p := newPool(t, api.Subnet{Prefix: prefix("10.0.0.0/16"), Gateway: addr("10.0.0.1")})
	var mu sync.Mutex
	seen := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				a, err := p.Allocate(fmt.Sprint(w, i), epoch)
				mu.Lock()
				if err != nil || seen[a] {
					t.Errorf("%v was handed out twice (%v)", a, err)
				}
				seen[a] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func BenchmarkPoolAllocate(b *testing.B) {
	for _, s := range []string{"10.0.0.0/8", "fd00::/64"} {
		b.Run(s, func(b *testing.B) {
			p := newPool(b, api.Subnet{Prefix: prefix(s)})
			for range b.N {
				if _, err := p.Allocate("p", epoch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Churn in a pool where 10000 addresses are taken.
func BenchmarkPoolChurn(b *testing.B) {
	p := newPool(b, api.Subnet{Prefix: prefix("10.0.0.0/8")})
	for range 10000 {
		p.Allocate("p", epoch)
	}
	for i := range b.N {
		now := epoch.Add(time.Duration(i) * time.Second)
		a, _ := p.Allocate("p", now)
		p.Release(a, "p", now)
	}
}
