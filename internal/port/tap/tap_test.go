package tap_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	"vswitch/internal/port"
	"vswitch/internal/port/tap"
)

// socketPort makes a port of one end of a packet-keeping socket pair, which needs no root.
func socketPort(t testing.TB, kind int) (*tap.Tap, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := tap.New("p", fds[0], port.OffloadAll)
	t.Cleanup(func() {
		_ = p.Close()
		_ = unix.Close(fds[1])
	})
	return p, fds[1]
}

func newFrame() *packet.Frame { return packet.NewFrame(make([]byte, packet.BufSize)) }

func TestSizes(t *testing.T) {
	p, far := socketPort(t, unix.SOCK_SEQPACKET)
	if err := unix.SetsockoptInt(far, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20); err != nil {
		t.Fatal(err)
	}
	f := newFrame()
	if err := p.Read(f); !errors.Is(err, port.ErrAgain) {
		t.Fatalf("empty: %v; want %v", err, port.ErrAgain)
	}
	for _, c := range []struct {
		size int
		err  error
		drop packet.DropReason
	}{
		{packet.VnetLen - 1, port.ErrRefused, 0},
		{packet.VnetLen, nil, packet.DropRunt},
		{packet.VnetLen + 13, nil, packet.DropRunt},
		{packet.VnetLen + 60, nil, packet.DropNone},
		{packet.BufSize, nil, packet.DropOversize}, // fills the whole space and is cut
	} {
		if _, err := unix.Write(far, make([]byte, c.size)); err != nil {
			t.Fatal(err)
		}
		if err := p.Read(f); !errors.Is(err, c.err) {
			t.Errorf("%d bytes: %v; want %v", c.size, err, c.err)
			continue
		}
		if c.err == nil && f.Parse() != c.drop {
			t.Errorf("%d bytes: parsed as %v; want %v", c.size, f.Parse(), c.drop)
		}
	}
}

func TestZeroAllocations(t *testing.T) {
	p, far := socketPort(t, unix.SOCK_SEQPACKET)
	f, b := newFrame(), make([]byte, packet.VnetLen+60)
	allocs := testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(far, b)
		if p.Read(f) != nil || !errors.Is(p.Read(f), port.ErrAgain) || p.Write(f) != nil {
			t.Fatal("a frame got lost")
		}
		_, _ = unix.Read(far, b)
	})
	if allocs != 0 {
		t.Errorf("%v allocations; want 0", allocs)
	}
}

func TestClose(t *testing.T) {
	p, _ := socketPort(t, unix.SOCK_SEQPACKET)
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if f := newFrame(); !errors.Is(p.Read(f), port.ErrGone) || !errors.Is(p.Write(f), port.ErrGone) {
		t.Error("a closed port is not gone")
	}
}

func TestDevice(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	p := linktest.TAP(t, private, ns, netip.MustParsePrefix("10.98.0.1/24"))
	if p.Offload() != port.OffloadAll || p.Name() != ns.String() {
		t.Errorf("%s offloads %04b", p.Name(), p.Offload())
	}
	f := newFrame()
	for p.Read(f) == nil { // what IPv6 says when an interface comes up
	}
	f.Load(nil, make([]byte, 60))
	if err := p.Write(f); err != nil {
		t.Errorf("up: %v", err)
	}
	f.Load([]byte{packet.VnetNeedsCsum, 0, 0, 0, 0, 0, 0xff, 0xff}, make([]byte, 60))
	if err := p.Write(f); !errors.Is(err, port.ErrRefused) {
		t.Errorf("false vnet header: %v; want %v", err, port.ErrRefused)
	}
	f.Load(nil, make([]byte, 60))
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "down")
	if err := p.Write(f); !errors.Is(err, port.ErrDown) {
		t.Errorf("down: %v; want %v", err, port.ErrDown)
	}
	for p.Read(f) == nil {
	}
	if err := p.Read(f); !errors.Is(err, port.ErrAgain) {
		t.Errorf("read while down: %v; want %v", err, port.ErrAgain)
	}
	linktest.IP(t, "-n", ns.String(), "link", "del", "eth0")
	if err := p.Write(f); !errors.Is(err, port.ErrGone) {
		t.Errorf("write to a deleted device: %v; want %v", err, port.ErrGone)
	}
	if err := p.Read(f); !errors.Is(err, port.ErrGone) {
		t.Errorf("read of a deleted device: %v; want %v", err, port.ErrGone)
	}
}

func BenchmarkRead(b *testing.B) {
	linktest.Root(b)
	private := linktest.Private(b)
	dev, undo, err := link.CreateTAP(private, link.TAPConfig{Name: linktest.Name()})
	if err != nil {
		b.Fatal(err)
	}
	defer undo()
	f, p := newFrame(), tap.New("p", dev.FD, dev.Offload)
	for b.Loop() { // the floor: what a look at an empty device costs
		if !errors.Is(p.Read(f), port.ErrAgain) {
			b.Fatal(os.ErrInvalid)
		}
	}
}

// gate counts what it is told.
type gate struct{ served, drained int }

func (g *gate) Served(drained bool) {
	g.served++
	if drained {
		g.drained++
	}
}

func (g *gate) Refused() uint64 { return 7 }

// A gate before the device is told of reading, and what it refused is lost on the way to us. Without one, nothing is.
func TestGate(t *testing.T) {
	p := tap.New("t", -1, 0)
	p.Served(true)
	if rx, _, err := p.KernelDrops(); rx != 0 || err != nil {
		t.Errorf("without a gate: %d dropped, %v", rx, err)
	}
	var g gate
	p.SetGate(&g)
	p.Served(true)
	p.Served(false)
	if rx, _, err := p.KernelDrops(); rx != 7 || err != nil || g != (gate{2, 1}) {
		t.Errorf("%d dropped, %v, want 7; told %+v", rx, err, g)
	}
}
