package mem_test

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	"vswitch/internal/port"
	"vswitch/internal/port/mem"
)

func newPort(t testing.TB, options ...mem.Option) *mem.Port {
	t.Helper()
	p, err := mem.New("c1", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newFrame() *packet.Frame { return packet.NewFrame(make([]byte, packet.BufSize)) }

func readable(t *testing.T, p *mem.Port) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(p.FD()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func TestReadInOrderWhileReadable(t *testing.T) {
	p := newPort(t)
	f := newFrame()
	if readable(t, p) || !errors.Is(p.Read(f), port.ErrAgain) {
		t.Fatal("a new port has something to read")
	}
	vnet := bytes.Repeat([]byte{7}, packet.VnetLen)
	p.Inject(vnet, []byte("first frame"))
	p.Inject(nil, []byte("second"))
	for _, want := range []string{string(vnet) + "first frame", string(make([]byte, 12)) + "second"} {
		if !readable(t, p) {
			t.Fatal("not readable with frames queued")
		}
		if err := p.Read(f); err != nil {
			t.Fatal(err)
		}
		if got := string(f.WithVnet()); got != want || f.Borrowed {
			t.Errorf("read %q, want %q", got, want)
		}
	}
	if readable(t, p) || !errors.Is(p.Read(f), port.ErrAgain) {
		t.Error("still readable after the last frame")
	}
}

func TestLendingSpoilsTheFrameBefore(t *testing.T) {
	p := newPort(t, mem.Lending())
	p.Inject(nil, []byte("first frame"))
	p.Inject(nil, []byte("second"))
	f, before := newFrame(), newFrame()
	p.Read(before)
	if !before.Borrowed || string(before.Bytes()) != "first frame" {
		t.Fatalf("read %q, borrowed %v", before.Bytes(), before.Borrowed)
	}
	p.Inject(nil, []byte("third"))
	if string(before.Bytes()) != "first frame" {
		t.Error("lent memory changed before the next Read")
	}
	p.Read(f)
	if string(f.Bytes()) != "second" || string(before.Bytes()) == "first frame" {
		t.Errorf("read %q, and the one before is still %q", f.Bytes(), before.Bytes())
	}
}

func TestWriteAndNext(t *testing.T) {
	p := newPort(t)
	f := newFrame()
	f.Load(nil, []byte("hello"))
	if got := p.Next(0); got != nil {
		t.Fatal("a new port wrote something")
	}
	if got := p.Next(time.Millisecond); got != nil {
		t.Fatal("a new port wrote something")
	}
	go p.Write(f)
	if got := p.Next(time.Minute); got == nil || string(got.Bytes()) != "hello" {
		t.Fatalf("got %v", got)
	}
	p.Write(f)
	p.Write(f)
	if n := len(p.Sent()); n != 2 {
		t.Errorf("%d frames sent, want 2", n)
	}
	p.Write(f)
	if n := p.Discard(); n != 1 || p.Next(0) != nil {
		t.Errorf("%d frames discarded, want 1", n)
	}
}

func TestErrors(t *testing.T) {
	f := newFrame()
	f.Load(nil, []byte("hello"))
	partial, super, unknown := newFrame(), newFrame(), newFrame()
	partial.Load([]byte{packet.VnetNeedsCsum}, []byte("hello"))
	super.Load([]byte{packet.VnetNeedsCsum, packet.GSOTCPv4 | packet.GSOECN}, []byte("hello"))
	unknown.Load([]byte{0, 3}, []byte("hello"))

	for _, c := range []struct {
		name          string
		prepare       func(*mem.Port)
		frame         *packet.Frame
		write, inject error
	}{
		{"up", func(*mem.Port) {}, f, nil, nil},
		{"full", func(p *mem.Port) { p.Write(f); p.Write(f); p.Inject(nil, nil); p.Inject(nil, nil) }, f, port.ErrFull, port.ErrFull},
		{"down", func(p *mem.Port) { p.SetDown(true) }, f, port.ErrDown, port.ErrDown},
		{"up again", func(p *mem.Port) { p.SetDown(true); p.SetDown(false) }, f, nil, nil},
		{"killed", func(p *mem.Port) { p.Kill() }, f, port.ErrGone, port.ErrGone},
		{"closed", func(p *mem.Port) { p.Close(); p.Close(); p.Kill() }, f, port.ErrGone, port.ErrGone},
		{"checksum offload", func(*mem.Port) {}, partial, nil, nil},
		{"no checksum offload", func(p *mem.Port) { p.SetOffload(0) }, partial, port.ErrRefused, nil},
		{"TSO", func(*mem.Port) {}, super, nil, nil},
		{"no TSO", func(p *mem.Port) { p.SetOffload(port.OffloadCsum | port.OffloadUSO) }, super, port.ErrRefused, nil},
		{"unknown GSO type", func(*mem.Port) {}, unknown, port.ErrRefused, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPort(t, mem.Queue(2))
			c.prepare(p)
			if err := p.Write(c.frame); !errors.Is(err, c.write) {
				t.Errorf("Write: %v, want %v", err, c.write)
			}
			if err := p.Inject(nil, nil); !errors.Is(err, c.inject) {
				t.Errorf("Inject: %v, want %v", err, c.inject)
			}
			if drops, _, _ := p.KernelDrops(); (drops == 1) != errors.Is(c.inject, port.ErrFull) {
				t.Errorf("%d drops counted", drops)
			}
		})
	}
}

func TestKillIsSeenByReader(t *testing.T) {
	p := newPort(t)
	p.Inject(nil, []byte("lost"))
	p.Kill()
	if !readable(t, p) {
		t.Error("not readable")
	}
	if err := p.Read(newFrame()); !errors.Is(err, port.ErrGone) {
		t.Errorf("Read: %v, want ErrGone", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	for name, options := range map[string][]mem.Option{"copying": nil, "lending": {mem.Lending()}} {
		t.Run(name, func(t *testing.T) {
			const n = 2000
			p := newPort(t, append(options, mem.Queue(16))...)
			var wg sync.WaitGroup
			wg.Go(func() { // the device
				for sent := 0; sent < n; {
					if err := p.Inject(nil, []byte{byte(sent), byte(sent >> 8)}); err == nil {
						sent++
					} else if !errors.Is(err, port.ErrFull) {
						t.Error(err)
					} else {
						runtime.Gosched() // one core may be all there is
					}
				}
			})
			wg.Go(func() { // the switch sends each frame back
				f := newFrame()
				for done := 0; done < n; {
					if p.Read(f) != nil {
						runtime.Gosched()
						continue
					}
					for p.Write(f) != nil {
						runtime.Gosched()
					}
					done++
				}
			})
			for i := range n {
				f := p.Next(time.Minute)
				if f == nil || !bytes.Equal(f.Bytes(), []byte{byte(i), byte(i >> 8)}) {
					t.Fatalf("frame %d: %v", i, f)
				}
			}
			wg.Wait()
		})
	}
}

func TestNoAllocations(t *testing.T) {
	p, lending := newPort(t), newPort(t, mem.Lending())
	f, frame := newFrame(), make([]byte, 60)
	turn := func(p *mem.Port) func() {
		return func() {
			p.Inject(nil, frame)
			p.Read(f)
			p.Write(f)
			p.Discard()
		}
	}
	for range mem.QueueLen + 1 { // warm all slots
		turn(p)()
		turn(lending)()
	}
	if n := testing.AllocsPerRun(100, turn(p)); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if n := testing.AllocsPerRun(100, turn(lending)); n != 0 {
		t.Errorf("lending: %v allocations a turn", n)
	}
}

func BenchmarkReadWrite(b *testing.B) {
	p := newPort(b)
	f, frame := newFrame(), make([]byte, 60)
	for b.Loop() {
		p.Inject(nil, frame)
		p.Read(f)
		p.Write(f)
		p.Discard()
	}
}
