package netlab_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
)

// While several workers decide frames, everything changes. What is in their caches after each change would not be decided in another way.
func TestWholeChangesUnderLoad(t *testing.T) {
	const enough = 3 // frames that the cache decided, with each seed
	hits, rounds := uint64(0), 0
	for seed := range uint64(3) {
		lab := netlab.New(t, netlab.Workers(3), netlab.NoCoalesce())
		w := &wholeTwins{twins: twins{t: t, r: rand.New(rand.NewPCG(seed, 6)), labs: [2]*netlab.Lab{lab}}, seen: map[string]bool{}, asked: map[string]bool{}}
		w.furnish()
		frames := make([]sending, 64)
		for i := range frames {
			name := w.pick()
			src, o := w.ends(name)
			frames[i] = sending{name, w.build(src.Is4(), false, o...)}
		}
		var gate sync.RWMutex // held by who wants to send alone
		var done atomic.Bool
		var senders sync.WaitGroup
		ports := lab.Ports()
		for i := range uint64(2) {
			senders.Go(func() {
				for r := rand.New(rand.NewPCG(seed, i)); !done.Load(); time.Sleep(200 * time.Microsecond) {
					gate.RLock()
					for range 16 {
						s := frames[r.IntN(len(frames))]
						at := slices.IndexFunc(ports, func(p *netlab.Port) bool { return p.Name == s.name })
						_ = ports[at].TrySend(s.f.Vnet(), s.f.Bytes()) // its queue may be full, and it may be gone
					}
					gate.RUnlock()
				}
			})
		}
		stop := func() { done.Store(true); senders.Wait() }
		defer stop()
		wanted := hits + enough
		for start := time.Now(); time.Since(start) < 600*time.Millisecond || hits < wanted && time.Since(start) < 30*time.Second; rounds++ {
			w.change()
			time.Sleep(time.Millisecond)
			gate.Lock()
			for range 8 {
				hits += w.again(frames[w.r.IntN(len(frames))])
			}
			for _, p := range lab.Ports() {
				if w.says(p.Name); rounds%8 > 0 {
					break
				}
			}
			gate.Unlock()
		}
		stop()
		if hits < wanted {
			t.Errorf("not %d frames were decided by the cache in 30 s: this proves nothing", enough)
		}
	}
	t.Logf("%d frames in %d rounds", hits, rounds)
}

// again sends a datagram twice, by the cache as it is and by an empty one, and tells whether that was used.
func (w *wholeTwins) again(s sending) (hits uint64) {
	lab := w.labs[0]
	f := s.f.Clone()
	if !w.has(s.name) || f.Parse() != packet.DropNone || f.Key.Proto == packet.ProtoTCP { // whose flags change connections
		return 0
	}
	counts := func() (n uint64) {
		for _, c := range lab.Path().WorkerCounters() {
			n += c.FlowHits
		}
		return n
	}
	var got [2]string
	for i := range got {
		lab.Advance(100 * time.Millisecond) // so that errors are told again
		lab.Discard()
		before, hit := lab.Drops(), counts()
		lab.Find(s.name).Send(s.f)
		for r, n := range lab.Drops() {
			if n != before[r] {
				got[i] += fmt.Sprint(r, " ")
			}
		}
		for _, p := range lab.Ports() {
			for _, b := range p.Take() {
				got[i] += fmt.Sprintf("%s %x\n", p.Name, b)
			}
		}
		if i == 0 {
			hits = counts() - hit
		}
		lab.Path().FlushFlows()
	}
	if hits > 0 && got[0] != got[1] {
		w.fail("%s sends %+v:\nfrom the cache\n%s\ndecided anew\n%s", s.name, f.Key, got[0], got[1])
	}
	return hits
}
