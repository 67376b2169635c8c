package datapath

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// What comes out of a ring is what went in, in order and whole, whatever the sizes, while both sides are at work.
func TestRing(t *testing.T) {
	r, err := newRing()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	const frames = 20000
	size := func(i int) int { return 60 + i*i*7919%(packet.MaxFrame-60) }
	var pusher sync.WaitGroup
	pusher.Go(func() {
		f := packet.NewFrame(make([]byte, packet.BufSize))
		b := make([]byte, packet.MaxFrame)
		for i := range frames {
			n := size(i)
			if i%3 > 0 {
				n = 60 + n%200
			}
			binary.BigEndian.PutUint32(b, uint32(i))
			binary.BigEndian.PutUint32(b[n-4:], ^uint32(i))
			f.Load([]byte{1, 2, 3}, b[:n])
			f.Segs = i
			for !r.push(f) {
				r.empty()
				runtime.Gosched() // one core may be all there is
			}
		}
	})
	for i := range frames {
		f := r.front()
		for f == nil {
			runtime.Gosched()
			f = r.front()
		}
		b := f.Bytes()
		n := size(i)
		if i%3 > 0 {
			n = 60 + n%200
		}
		if f.Segs != i || len(b) != n || binary.BigEndian.Uint32(b) != uint32(i) || binary.BigEndian.Uint32(b[n-4:]) != ^uint32(i) ||
			!bytes.Equal(f.Vnet()[:3], []byte{1, 2, 3}) {
			t.Fatalf("frame %d came out as %d with %d bytes, want %d", i, f.Segs, len(b), n)
		}
		r.pop()
	}
	pusher.Wait()
	if !r.empty() {
		t.Error("something is left")
	}
}

// A ring holds so many frames or bytes and no more, and takes again what was taken out.
func TestRingLimits(t *testing.T) {
	r, err := newRing()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	small, large := packettest.UDP(), packettest.UDP(packettest.Size(60000), packettest.GSO(1000))
	for _, tt := range []struct {
		f    *packet.Frame
		want int
	}{{small, ringFrames}, {large, ringBytes / (60000 + packet.Headroom)}} {
		for range 3 {
			n := 0
			for r.push(tt.f) {
				n++
			}
			if n > tt.want || n < tt.want-1 { // a gap at the end of the memory may cost one
				t.Errorf("%d frames of %d bytes fit, want %d", n, tt.f.Len(), tt.want)
			}
			for range n {
				r.pop()
			}
			if !r.empty() || r.front() != nil {
				t.Error("something is left")
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { r.push(small); r.pop() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
