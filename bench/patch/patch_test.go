package patch_test

import (
	"os/exec"
	"testing"

	"vswitch/bench/patch"
	"vswitch/internal/link/linktest"
)

// TestJoin: two stations reach each other through a joint, over IPv4 and IPv6, and no longer when it is gone.
//
//	a eth0 ==== p0 (joint) p1 ==== eth0 b
func TestJoin(t *testing.T) {
	linktest.Root(t)
	a, b, middle := linktest.Namespace(t), linktest.Namespace(t), linktest.Namespace(t)
	for i, ns := range []string{a.String(), b.String()} {
		port := []string{"p0", "p1"}[i]
		linktest.IP(t, "-n", middle.String(), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns)
		linktest.IP(t, "-n", middle.String(), "link", "set", port, "up")
		linktest.IP(t, "-n", ns, "address", "add", []string{"198.51.100.1/24", "198.51.100.2/24"}[i], "dev", "eth0")
		linktest.IP(t, "-n", ns, "address", "add", []string{"2001:db8::1/64", "2001:db8::2/64"}[i], "dev", "eth0", "nodad")
		linktest.IP(t, "-n", ns, "link", "set", "eth0", "up")
	}
	var p *patch.Patch
	if err := middle.Do(func() (err error) {
		p, err = patch.Join("p0", "p1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ping := func(to string) error {
		return exec.Command("ip", "netns", "exec", a.String(), "ping", "-c", "1", "-W", "1", to).Run()
	}
	for _, to := range []string{"198.51.100.2", "2001:db8::2"} {
		if err := ping(to); err != nil {
			t.Errorf("ping %s through a joint: %v", to, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if ping("198.51.100.2") == nil {
		t.Error("ping gets through where the joint was")
	}
	if _, err := patch.Join("nothing", "lo"); err == nil {
		t.Error("joined an interface that isn't there")
	}
}
