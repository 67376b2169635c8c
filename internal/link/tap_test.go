package link_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	"vswitch/internal/port"
)

var mac = net.HardwareAddr{0x02, 0x42, 10, 99, 0, 1}

func createTAP(t *testing.T, private *link.Namespace) (link.TAP, func() error) {
	t.Helper()
	dev, undo, err := link.CreateTAP(private, link.TAPConfig{Name: linktest.Name(), MAC: mac, MTU: 1400})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = undo() })
	return dev, undo
}

func placeTAP(t *testing.T, private, ns *link.Namespace, dev link.TAP, c link.PlaceConfig) link.State {
	t.Helper()
	s, _, err := link.Place(private, dev.Index, ns, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTAPOffload(t *testing.T) {
	dev, _ := createTAP(t, linktest.Private(t))
	want := port.OffloadAll
	if !linktest.Kernel(6, 2) {
		want &^= port.OffloadUSO
	}
	if dev.Offload != want {
		t.Errorf("offload is %04b; want %04b, as this kernel has it", dev.Offload, want)
	}
	if flags, _ := unix.FcntlInt(uintptr(dev.FD), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
		t.Error("the fd blocks")
	}
}

func TestTAPUndo(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, undo := createTAP(t, private)
	placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0"})
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	_, err := link.Lookup(ns, "eth0")
	wantCode(t, err, api.CodeNotFound, "interface eth0: not in network namespace "+ns.String())
	if err := undo(); err != nil {
		t.Errorf("second undo: %v", err)
	}
}

func TestWhereIs(t *testing.T) {
	private, ns, other := linktest.Private(t), linktest.Namespace(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	is := func(want *link.Namespace, name string) {
		t.Helper()
		ns, s, err := link.WhereIs(dev.FD)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if ns.ID() != want.ID() || s.Name != name {
			t.Errorf("it is %s in %v; want %s in %v", s.Name, ns, name, want)
		}
	}
	is(private, dev.Name)
	placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0", NoConfig: true})
	is(ns, "eth0")
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "name", "net1", "netns", other.String())
	is(other, "net1")
	adopted, err := link.AdoptTAP(dev.FD)
	if err != nil || adopted.Name != "net1" || adopted.Offload != dev.Offload {
		t.Errorf("adopted %+v, %v", adopted, err)
	}
	linktest.IP(t, "-n", other.String(), "link", "del", "net1")
	if _, _, err := link.WhereIs(dev.FD); !errors.Is(err, port.ErrGone) {
		t.Errorf("after its end: %v; want %v", err, port.ErrGone)
	}
}

func TestTAPDiesWithNamespace(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	p := linktest.TAP(t, private, ns)
	linktest.Kill(t, ns)
	linktest.Eventually(t, "EPOLLERR", func() bool {
		fds := []unix.PollFd{{Fd: int32(p.FD()), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 10)
		return fds[0].Revents&unix.POLLERR != 0
	})
	linktest.Eventually(t, "EBADFD, after what was still queued", func() bool {
		_, err := unix.Read(p.FD(), make([]byte, packet.BufSize))
		return err == unix.EBADFD
	})
}

func TestReopenTAP(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _, err := link.CreateTAP(private, link.TAPConfig{Name: linktest.Name(), MAC: mac})
	if err != nil {
		t.Fatal(err)
	}
	placed := placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0", Addrs: left})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := link.ReopenTAP(ctx, ns, "eth0"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("while another holds it: %v; want %v", err, unix.EBUSY)
	}
	_ = unix.Close(dev.FD)
	again, err := link.ReopenTAP(t.Context(), ns, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again.FD)
	defer link.DeleteTAP(again.FD)
	if again.Index != placed.Index || again.Offload != dev.Offload {
		t.Errorf("reopened %+v; want index %d and offload %04b", again, placed.Index, dev.Offload)
	}
	s, err := link.Lookup(ns, "eth0")
	if err != nil || !s.Up || s.MAC.String() != mac.String() {
		t.Errorf("state is %+v, %v", s, err)
	}
	_, err = link.ReopenTAP(t.Context(), ns, "eth7")
	wantCode(t, err, api.CodeNotFound, "eth7")
	_, err = link.ReopenTAP(t.Context(), ns, "lo")
	wantCode(t, err, api.CodeRefused, "no TAP")
}

func TestKernelDrops(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	s := placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0", Addrs: []netip.Prefix{left[0]}})
	h := strings.Fields("-n " + ns.String() + " neigh add 10.99.0.9 lladdr 02:00:00:00:00:09 dev eth0")
	linktest.IP(t, h...)
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "txqueuelen", "2")
	err := ns.Do(func() error {
		c, err := net.Dial("udp", "10.99.0.9:9")
		if err != nil {
			return err
		}
		defer c.Close()
		for range 100 {
			if _, err := c.Write([]byte("nobody reads")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, tx, err := link.KernelDrops(ns, s.Index); err != nil || tx < 90 {
		t.Errorf("dropped %d, %v; want most of 100", tx, err)
	}
}
