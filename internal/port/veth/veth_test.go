package veth_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	"vswitch/internal/port"
	"vswitch/internal/port/veth"
)

func newFrame() *packet.Frame { return packet.NewFrame(make([]byte, packet.BufSize)) }

// far is a packet socket on the other end, through which tests send and receive what they like, with a 10-byte vnet header.
type far int

func newFar(t *testing.T, ns *link.Namespace, index int) far {
	t.Helper()
	var fd int
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			t.Fatal(err)
		}
	}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	return far(fd)
}

func (s far) send(t *testing.T, vnet packet.VnetHeader, frame []byte) {
	t.Helper()
	if _, err := unix.Write(int(s), append(bytes.Clone(vnet[:10]), frame...)); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next frame of our test's EtherTypes; namespaces talk IPv6 of their own accord.
func (s far) receive(t *testing.T) (vnet packet.VnetHeader, frame []byte) {
	t.Helper()
	b := make([]byte, 1<<17)
	linktest.Eventually(t, "a frame at the other end", func() bool {
		n, err := unix.Read(int(s), b)
		if err != nil || !bytes.Equal(b[10:16], frames.dst) {
			return false
		}
		vnet, frame = b[:10], b[10:n]
		return true
	})
	return vnet, frame
}

// read returns the next frame of the test from the port.
func read(t *testing.T, p *veth.Veth, f *packet.Frame) {
	t.Helper()
	linktest.Eventually(t, "a frame at the port", func() bool {
		err := p.Read(f)
		if err != nil && !errors.Is(err, port.ErrAgain) {
			t.Fatal(err)
		}
		return err == nil && bytes.Equal(f.Bytes()[:6], frames.dst)
	})
}

var frames = struct{ dst, src []byte }{unhex("02 00 00 00 00 bb"), unhex("02 00 00 00 00 aa")}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// tcp makes an IPv4 TCP segment of payload bytes behind the tags; its TCP checksum is the pseudo-header's.
func tcp(tags []byte, payload int) []byte {
	b := append(append(bytes.Clone(frames.dst), frames.src...), tags...)
	ip := unhex("45 00 00 00 00 01 40 00 40 06 00 00 0a 63 00 01 0a 63 00 02")
	binary.BigEndian.PutUint16(ip[2:], uint16(40+payload))
	binary.BigEndian.PutUint16(ip[10:], ^packet.Fold(packet.Sum(ip, 0)))
	segment := unhex("03 e8 07 d0 00 00 00 01 00 00 00 02 50 10 10 00 00 00 00 00")
	pseudo := packet.PseudoSum(ip[12:16], ip[16:20], packet.ProtoTCP, 20+payload)
	binary.BigEndian.PutUint16(segment[16:], packet.Fold(pseudo))
	b = append(append(append(b, 8, 0), ip...), segment...)
	return append(b, bytes.Repeat([]byte{0x5a}, payload)...)
}

// TestFrames sends frames with and without tags both ways and wants them unchanged, their offload work with them.
func TestFrames(t *testing.T) {
	for _, short := range []bool{false, true} {
		for _, c := range []struct {
			name, tags string
			payload    int // more than a segment's is a super-frame
		}{
			{"untagged", "", 100},
			{"untagged super-frame", "", 30000},
			{"802.1Q", "8100 6064", 100},
			{"802.1Q priority tag", "8100 e000", 100},
			{"802.1Q super-frame", "8100 0064", 30000},
			{"802.1ad", "88a8 0065", 100},
			{"802.1ad over 802.1Q", "88a8 0065 8100 0064", 100},
			{"802.1ad over 802.1Q super-frame", "88a8 0065 8100 0064", 30000},
		} {
			name := c.name
			if short {
				name += ", short vnet header"
			}
			t.Run(name, func(t *testing.T) {
				testFrame(t, short, unhex(c.tags), c.payload)
			})
		}
	}
}

func testFrame(t *testing.T, short bool, tags []byte, payload int) {
	p, remote := pair(t, short)
	sent := tcp(tags, payload)
	start := uint16(14 + len(tags) + 20)
	vnet := packet.VnetHeader(make([]byte, packet.VnetLen))
	vnet.Set(packet.VnetNeedsCsum, packet.GSONone, 0, 0, start, 16)
	if payload > 1460 {
		vnet.Set(packet.VnetNeedsCsum, packet.GSOTCPv4, start+20, 1000, start, 16)
	}
	f := newFrame()
	remote.send(t, vnet, sent)
	read(t, p, f)
	check(t, "read", vnet, sent, f.Vnet(), f.Bytes())
	if r := f.Parse(); r != packet.DropNone {
		t.Errorf("parsed as %v", r)
	}

	if err := p.Write(f); err != nil {
		t.Fatal(err)
	}
	gotVnet, got := remote.receive(t)
	// The other end's socket has its outermost tag in metadata that this test does not look at.
	if len(tags) > 0 {
		sent = append(bytes.Clone(sent[:12]), sent[16:]...)
		vnet.SetCsumStart(start - 4)
		if h := vnet.HdrLen(); h != 0 {
			vnet.SetHdrLen(h - 4)
		}
	}
	check(t, "written", vnet, sent, gotVnet, got)
}

func check(t *testing.T, what string, wantVnet packet.VnetHeader, want []byte, vnet packet.VnetHeader, frame []byte) {
	t.Helper()
	if !bytes.Equal(frame, want) {
		t.Errorf("%s: %d bytes: %x...; want %d: %x...", what, len(frame), frame[:min(64, len(frame))], len(want), want[:64])
	}
	if !bytes.Equal(vnet[:10], wantVnet[:10]) {
		t.Errorf("%s: vnet header %x; want %x", what, vnet[:10], wantVnet[:10])
	}
	if len(vnet) > 10 && vnet[10]|vnet[11] != 0 {
		t.Errorf("%s: num_buffers is %x; want 0", what, vnet[10:])
	}
}

func pair(t *testing.T, short bool) (*veth.Veth, far) {
	t.Helper()
	private, ns := linktest.Private(t), linktest.Namespace(t)
	p, dev := linktest.Veth(t, private, ns)
	if short {
		if err := unix.SetsockoptInt(p.FD(), unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(uintptr(p.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = veth.New("short", fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
	}
	if uso := p.Offload()&port.OffloadUSO != 0; uso == short {
		t.Errorf("offload is %04b", p.Offload())
	}
	return p, newFar(t, ns, dev.PeerIndex())
}

func TestZeroAllocations(t *testing.T) {
	p, remote := pair(t, false)
	f := newFrame()
	var vnet [packet.VnetLen]byte
	b := append(vnet[:10], tcp(unhex("8100 0064"), 100)...)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := unix.Write(int(remote), b); err != nil {
			t.Fatal(err)
		}
		if p.Read(f) != nil || p.Write(f) != nil {
			t.Fatal("a frame got lost")
		}
		for p.Read(f) == nil {
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations; want 0", allocs)
	}
}

func TestDownAndGone(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	p, dev := linktest.Veth(t, private, ns)
	f, frame := newFrame(), newFrame()
	frame.Load(nil, tcp(nil, 100))
	setOurs(t, private, dev.Name, "down")
	for err := p.Read(f); !errors.Is(err, port.ErrDown); err = p.Read(f) {
		if err != nil {
			t.Fatalf("read while down: %v; want %v", err, port.ErrDown)
		}
	}
	for err := p.Read(f); !errors.Is(err, port.ErrAgain); err = p.Read(f) { // once told, it gives what had come before
		if err != nil {
			t.Fatalf("second read while down: %v; want %v", err, port.ErrAgain)
		}
	}
	if err := p.Write(frame); !errors.Is(err, port.ErrDown) {
		t.Errorf("write while down: %v; want %v", err, port.ErrDown)
	}
	setOurs(t, private, dev.Name, "up")
	if err := p.Write(frame); err != nil {
		t.Errorf("write while up again: %v", err)
	}
	if err := link.Delete(private, dev.Index); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(frame); !errors.Is(err, port.ErrGone) {
		t.Errorf("write after the end: %v; want %v", err, port.ErrGone)
	}
	for err := p.Read(f); !errors.Is(err, port.ErrGone); err = p.Read(f) {
		if err != nil {
			t.Fatalf("read after the end: %v; want %v", err, port.ErrGone)
		}
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func setOurs(t *testing.T, private *link.Namespace, name, state string) {
	t.Helper()
	if err := private.Do(func() error { linktest.IP(t, "link", "set", name, state); return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestKernelDrops(t *testing.T) {
	p, remote := pair(t, false)
	if err := unix.SetsockoptInt(p.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	var vnet [packet.VnetLen]byte
	frame := tcp(nil, 1000)
	for range 50 {
		remote.send(t, vnet[:], frame)
	}
	first, _, err := p.KernelDrops()
	if err != nil || first < 40 {
		t.Errorf("dropped %d, %v; want most of 50", first, err)
	}
	if again, _, _ := p.KernelDrops(); again < first {
		t.Errorf("the counter went back from %d to %d", first, again)
	}
}

// TestConcurrentWrite lets many workers write at once, for the race detector.
func TestConcurrentWrite(t *testing.T) {
	for _, short := range []bool{false, true} {
		p, _ := pair(t, short)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				f := newFrame()
				f.Load(nil, tcp(nil, 100))
				for range 100 {
					if err := p.Write(f); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
}

func TestNewRefusesOthers(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := veth.New("p", fd); err == nil {
		t.Error("a UDP socket was taken")
	}
}
