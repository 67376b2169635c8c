package link_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

func createVeth(t *testing.T, private, ns *link.Namespace) (link.Veth, func() error) {
	t.Helper()
	pair, undo, err := link.CreateVeth(private, link.VethConfig{
		Name: link.DeviceName(linktest.Name()), Target: ns, PeerName: "eth0", MAC: mac, MTU: 1400, TxQueueLen: 500,
	})
	if err != nil {
		t.Fatal(err)
	}
	return pair, undo
}

// newVeth makes a pair whose fds are the test's.
func newVeth(t *testing.T, private, ns *link.Namespace) link.Veth {
	t.Helper()
	pair, _ := createVeth(t, private, ns)
	t.Cleanup(func() { _ = link.Delete(private, pair.Index) })
	return pair
}

func TestVeth(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	pair, undo := createVeth(t, private, ns)
	ours, err := link.LookupIndex(private, pair.Index)
	if err != nil || ours.Up || ours.MTU != 65535 || ours.Name != pair.Name {
		t.Errorf("our end is %+v, %v", ours, err)
	}
	peer, err := link.Lookup(ns, "eth0")
	if err != nil || peer.Up || peer.MTU != 1400 || peer.MAC.String() != mac.String() || peer.Index != pair.PeerIndex() {
		t.Errorf("the other end is %+v, %v", peer, err)
	}
	_, _, err = link.CreateVeth(private, link.VethConfig{Name: linktest.Name(), Target: ns, PeerName: "eth0"})
	wantCode(t, err, api.CodeConflict, "interface eth0 already exists in namespace")
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	_, err = link.Lookup(ns, "eth0")
	wantCode(t, err, api.CodeNotFound, "eth0")
	_, err = link.LookupIndex(private, pair.Index)
	wantCode(t, err, api.CodeNotFound, "")
}

// TestDrop gives our end an address, so that the kernel's stack would take what the other end sends to it. The second
// datagram is sent after the drop program is gone: if it comes first, the first was dropped.
func TestDrop(t *testing.T) {
	for _, kind := range []string{link.DropClsact, link.DropTCX} {
		t.Run(kind, func(t *testing.T) { testDrop(t, kind) })
	}
}

func testDrop(t *testing.T, kind string) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	pair := newVeth(t, private, ns)
	defer unix.Close(pair.FD)
	if _, _, err := pair.Place(private, ns, link.PlaceConfig{IfName: "eth0", Addrs: left[:1]}); err != nil {
		t.Fatal(err)
	}
	if err := link.SetVethCarrier(private, pair.Index, true); err != nil {
		t.Fatal(err)
	}
	fd := addressable(t, private, pair, right[0])
	defer fd.Close()
	ours, err := link.LookupIndex(private, pair.Index)
	if err != nil {
		t.Fatal(err)
	}
	linktest.IP(t, "-n", ns.String(), "neigh", "add", "10.99.0.2", "lladdr", ours.MAC.String(), "dev", "eth0")
	detach := func() { inPrivate(t, private, "tc", "qdisc", "del", "dev", pair.Name, "clsact") }
	if kind == link.DropTCX {
		linktest.NeedsTCX(t)
		if err := pair.ReplaceClsact(private); err != nil {
			t.Fatal(err)
		}
		detach = func() { _ = unix.Close(pair.DropFD) }
	}
	if pair.Drop != kind {
		t.Errorf("dropped by %s; want %s", pair.Drop, kind)
	}
	send(t, ns, "first")
	detach()
	send(t, ns, "second")
	b := make([]byte, 100)
	n, _, err := fd.ReadFrom(b)
	if err != nil || string(b[:n]) != "second" {
		t.Errorf("the stack took %q, %v; want %q only", b[:n], err, "second")
	}
}

// addressable gives our end an address and opens a UDP socket on it.
func addressable(t *testing.T, private *link.Namespace, pair link.Veth, at netip.Prefix) (c net.PacketConn) {
	t.Helper()
	inPrivate(t, private, "ip", "addr", "add", at.String(), "dev", pair.Name)
	err := private.Do(func() (err error) {
		c, err = net.ListenPacket("udp", netip.AddrPortFrom(at.Addr(), 4789).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, ns *link.Namespace, text string) {
	t.Helper()
	err := ns.Do(func() error {
		c, err := net.Dial("udp", "10.99.0.2:4789")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inPrivate runs a command in a namespace that has no name.
func inPrivate(t *testing.T, ns *link.Namespace, name string, args ...string) {
	t.Helper()
	err := ns.Do(func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPeer: the other end is found wherever it was moved, under whatever name, unless nobody can name the namespace.
func TestPeer(t *testing.T) {
	private, first, second := linktest.Private(t), linktest.Namespace(t), linktest.Namespace(t)
	nameless := linktest.Private(t)
	w, err := link.NewWatcher(private)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	v, undo, err := link.CreateVeth(private, link.VethConfig{Name: linktest.Name(), Target: first, PeerName: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = undo() }()
	want := func(at *link.Namespace, name string) {
		t.Helper()
		ns, s, err := w.Peer(v.Index)
		if err != nil || ns.ID() != at.ID() || s.Name != name {
			t.Fatalf("found %+v in %v, %v; want %s in %s", s, ns, err, name, at)
		}
		_ = ns.Close()
	}
	want(first, "eth0")
	linktest.IP(t, "-n", first.String(), "link", "set", "eth0", "netns", second.String())
	linktest.IP(t, "-n", second.String(), "link", "set", "eth0", "name", "net7")
	want(second, "net7")
	s, err := link.Lookup(second, "net7")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := link.Place(second, s.Index, nameless, link.PlaceConfig{IfName: "net7"}); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.Peer(v.Index)
	wantCode(t, err, api.CodeNotFound, "neither mounted nor a process's")
}
