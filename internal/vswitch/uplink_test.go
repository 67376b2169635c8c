package vswitch_test

import (
	"net"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestUplink: after add-uplink auto a container reaches the outside by the host's address, in both families, with the kernels' own stacks at
// all ends; the host's own traffic goes on, and nothing of the host is changed. After del-uplink the host is as it was.
func TestUplink(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	u := netnstest.Get[api.Uplink](n.d, "show", "uplink", "auto")
	if u.Status.State != api.UplinkUp || u.Status.Interface != "up0" || len(u.Status.Addresses) != 2 {
		t.Fatalf("the uplink is %+v", u)
	}
	for i, addr := range serverAddrs {
		if err := pinged(n.c, addr); err != nil {
			t.Errorf("ping to %s: %v\n%s", addr, err, n.d.Must("drops"))
		}
		if err := pinged(n.c, addr, "-s", "4000"); err != nil {
			t.Errorf("ping in fragments to %s: %v\n%s", addr, err, n.d.Must("drops"))
		}
		if err := netnstest.Datagrams(n.c, n.server, addr, 1472, 3000, 20000); err != nil {
			t.Errorf("UDP in fragments to %s: %v", addr, err)
		}
		if got, want := seenAs(t, n.c, n.server, addr), []string{"192.0.2.2", "2001:db8:1::2"}[i]; got != want {
			t.Errorf("the container is seen as %s by %s, want %s", got, addr, want)
		}
		if err := netnstest.Stream(n.c, n.server, addr, 8<<20); err != nil {
			t.Errorf("TCP to %s: %v", addr, err)
		}
		if err := netnstest.Datagrams(n.c, n.server, addr, 1, 100, 1400); err != nil {
			t.Errorf("UDP to %s: %v", addr, err)
		}
		if err := netnstest.Stream(n.host, n.server, addr, 1<<20); err != nil {
			t.Errorf("the host's own TCP to %s: %v", addr, err)
		}
		for _, size := range []string{"56", "4000"} { // copies of fragments and errors are the switch's, and the host's as ever
			if err := pinged(n.host, addr, "-s", size); err != nil {
				t.Errorf("the host's own ping of %s bytes to %s: %v", size, addr, err)
			}
		}
		if got := dial(n.host, "udp", net.JoinHostPort(addr, "9"), "refused"); got != "refused" {
			t.Errorf("the host's own datagram to %s, where nobody listens: %q", addr, got)
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
	n.expectUntouched(t)
	n.expectUntracked(t)
	n.d.Must("del-uplink", "auto")
	if pinged(n.c, serverAddrs[0], "-W", "1") == nil {
		t.Error("the outside answers although there is no uplink")
	}
	n.expectUntouched(t)
}

// devices lists the interfaces of the switch in the host's namespace.
func (n *internet) devices() (list []string) {
	for _, l := range n.host.Links() {
		if strings.HasPrefix(l.Name, "vs-") {
			list = append(list, l.Name)
		}
	}
	return list
}

// TestUplinkSteps: an uplink that could not be added leaves nothing, also when the daemon was killed on the way.
func TestUplinkSteps(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Allow("failpoint transaction.shared")
	for _, kind := range []string{"error", "kill"} {
		n.d.Stop()
		n.d.Env = []string{"VSWITCH_FAILPOINT=transaction.shared:" + kind}
		n.d.Start()
		if kind == "error" {
			n.d.Refused(1, "failpoint", "add-uplink", "up0", "--nat-ports", "50000-50999")
		} else if r := n.d.Vsctl("add-uplink", "up0", "--nat-ports", "50000-50999"); r.Code != 3 {
			t.Fatalf("exit code %d, %q", r.Code, r.Err)
		} else if err := n.d.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the daemon ended with %v", err)
		}
		if kind == "kill" {
			if got := strings.TrimSpace(n.host.Run("sysctl", "-n", "net.ipv4.ip_local_reserved_ports")); got != "50000-50999" {
				t.Errorf("reserved ports are %q when the daemon was killed", got)
			}
			n.d.Env = nil
			n.d.Start()
		}
		if list := n.devices(); len(list) > 0 {
			t.Errorf("%s: %q are left", kind, list)
		}
		if list := netnstest.Get[[]api.Uplink](n.d, "list-uplinks"); len(list) > 0 {
			t.Errorf("%s: there is an uplink: %+v", kind, list)
		}
		n.expectUntouched(t)
	}
	n.d.Must("add-uplink", "up0", "--nat-ports", "50000-50999")
	n.d.Stop()
	n.d.Env = []string{"VSWITCH_FAILPOINT=transaction.committed:kill"}
	n.d.Start()
	if r := n.d.Vsctl("del-uplink", "up0"); r.Code != 3 {
		t.Fatalf("exit code %d, %q", r.Code, r.Err)
	} else if err := n.d.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the daemon ended with %v", err)
	}
	n.d.Env = nil
	n.d.Start()
	if list := n.devices(); len(list) > 0 {
		t.Errorf("killed while the uplink was deleted: %q are left", list)
	}
	n.expectUntouched(t)
	n.d.Must("add-uplink", "up0", "--nat-ports", "50000-50999")
	n.d.Kill()
	if out, err := n.d.Teardown(); err != nil {
		t.Fatalf("teardown: %v%s", err, out)
	}
	if list := n.devices(); len(list) > 0 {
		t.Errorf("after teardown %q are left", list)
	}
	n.expectUntouched(t)
}

// TestUplinkRefuses: each error says what was wrong, and what to do.
func TestUplinkRefuses(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.host.IP("tuntap add tun0 mode tun")
	t.Cleanup(func() { n.host.IP("link del tun0") })
	n.host.IP("link add br0 type bridge")
	n.cable(t, n.host, "en9", "203.0.113.1/30", "2001:db8:3::1/64", n.isp, "eth9", "203.0.113.2/30", "2001:db8:3::2/64")
	n.host.IP("link set en9 master br0")
	for _, c := range []struct {
		words string
		line  string
	}{
		{"the host has no interface nosuch", "add-uplink nosuch"},
		{"can't be shared: it is the host's loopback", "add-uplink lo"},
		{"has no Ethernet header", "add-uplink tun0"},
		{"is a member of the bridge br0, which has the addresses; share br0 instead", "add-uplink en9"},
		{`no router "lab"`, "add-uplink up0 --router lab"},
		{"uplink name \"a b\" is not allowed", "add-uplink up0 --name a%b"},
		{"no uplink \"wan\"; 'vsctl list-uplinks' names those there are", "del-uplink wan"},
		{`no uplink "wan"`, "show uplink wan"},
	} {
		args := strings.Fields(c.line)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "%", " ")
		}
		n.d.Refused(1, c.words, args...)
	}
	n.d.Refused(2, "use a port from 1 to 65535, or a range", "add-uplink", "up0", "--nat-ports", "70000")
	n.d.Refused(2, "use shared", "add-uplink", "up0", "--mode", "private")
	n.d.Refused(2, "INTERFACE is missing", "add-uplink")
	n.d.Must("add-uplink", "up0", "--name", "wan")
	n.d.Refused(1, "uplink wan already exists", "add-uplink", "br0", "--name", "wan")
	n.d.Refused(1, "uplink wan uses interface up0 already: delete that first", "add-uplink", "up0")
	n.d.Refused(1, "uplink wan uses interface up0 already: delete that first", "add-uplink", "auto")
	n.d.Refused(1, "is the device of uplink wan, and leads nowhere else", "add-uplink", n.devices()[0])
	n.d.Refused(1, "otherwise", "add-uplink", "up0", "--name", "wan", "--metric", "7", "--may-exist")
	n.d.Must("add-uplink", "up0", "--name", "wan", "--may-exist")
	n.d.Must("del-uplink", "none", "--if-exists")
	n.d.Must("--dry-run", "--", "del-uplink", "wan", "--", "add-uplink", "up0", "--name", "other")
	n.d.Must("del-uplink", "wan", "--", "add-uplink", "up0", "--name", "other")
	if err := pinged(n.c, serverAddrs[0]); err != nil {
		t.Errorf("after one uplink took another's place: %v", err)
	}
}
