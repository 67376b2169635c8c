package vswitch_test

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestHostRestart: what goes on between host and containers doesn't notice that the daemon was stopped, killed, or killed with its keeper.
func TestHostRestart(t *testing.T) {
	t.Parallel()
	lab, d, a, b := withHost(t)
	streams := []*stream{startStream(t, d.Host, a, "10.11.0.2"), startStream(t, a, d.Host, "fd83:585c:c419::6"), startStream(t, b, d.Host, "192.0.2.2")}
	index := func() string { return strings.SplitN(d.Host.Run("ip", "-o", "link", "show", "vsw0"), ":", 2)[0] }
	was, routes := index(), routesOf(d.Host, "vsw0")
	for name, end := range map[string]func(){"SIGTERM": d.Stop, "SIGKILL": d.Kill} {
		for _, s := range streams {
			s.goesOn(lab)
		}
		end()
		if got := routesOf(d.Host, "vsw0"); !slices.Equal(got, routes) {
			t.Errorf("%s: routes while the daemon is away: %q", name, got)
		}
		d.Start()
		for _, s := range streams {
			s.goesOn(lab)
		}
		if got := index(); got != was {
			t.Errorf("%s: vsw0 is another", name)
		}
	}
	meets(t, d, a, b)
}

// TestHostWithoutKeeper: when daemon and keeper are killed, the interface is found again, also under another name.
func TestHostWithoutKeeper(t *testing.T) {
	t.Parallel()
	_, d, a, _ := withHost(t)
	d.Kill()
	killKeeper(t, d)
	d.Host.Rename("vsw0", "lost0")
	d.Start()
	d.Eventually("the host listens", func() bool { return d.Host.Listens("vsw0") })
	for _, addr := range []string{"10.11.0.2", "fd11::2"} {
		if err := pinged(d.Host, addr); err != nil {
			t.Error(err)
		}
	}
	if err := pinged(a, "192.0.0.6"); err != nil {
		t.Error(err)
	}
	if d.Host.Link("lost0") != nil || d.Host.Link("vsw0") == nil {
		t.Errorf("interfaces %v", d.Host.Run("ip", "-br", "link"))
	}
}

// TestHostPortMeddledWith: what the host's owner does to vsw0 is put right or said, and never costs more than a look.
func TestHostPortMeddledWith(t *testing.T) {
	t.Parallel()
	lab, d, a, b := withHost(t)
	d.Allow("host port")
	state := func(want, problem string) {
		t.Helper()
		lab.Eventually("host port "+want+" "+problem, func() bool {
			h := shown(d)
			return h.State == want && (problem == "") == (len(h.Problems) == 0) && strings.Contains(strings.Join(h.Problems, "\n"), problem)
		})
	}
	whole := func() bool { return d.Host.Link("vsw0") != nil && len(routesOf(d.Host, "vsw0")) == 4 }
	back := func(what string) { // routes may be there before the address that they are used with, and what the data plane knows of it
		t.Helper()
		lab.Eventually(what, func() bool {
			return whole() && pinged(d.Host, "10.11.0.2", "-W", "1") == nil && pinged(d.Host, "fd11::2", "-W", "1") == nil
		})
	}
	d.Host.IP("link set vsw0 down")
	state(api.StateDown, "interface vsw0 is down: set it up with 'ip link set vsw0 up'")
	if out, err := a.Try("ping", "-n", "-c", "1", "-W", "10", "192.0.2.2"); err == nil || !strings.Contains(out+err.Error(), "nreachable") {
		t.Errorf("ping while it is down: %s%v", out, err)
	}
	d.Host.IP("link set vsw0 up")
	state(api.StateUp, "")
	back("what IPv6 lost while it was down comes back")
	meets(t, d, a, b)
	d.Host.Rename("vsw0", "other0")
	lab.Eventually("the new name is shown", func() bool { return shown(d).Interface == "other0" })
	meets(t, d, a, b)
	d.Host.Rename("other0", "vsw0")
	d.Host.IP("link set vsw0 address 02:00:00:00:00:77")
	lab.Eventually("the new MAC is heeded", func() bool { return pinged(a, "192.0.2.2", "-W", "1") == nil })
	for range 3 {
		d.Host.IP("link del vsw0")
		lab.Eventually("it is made anew", whole)
		state(api.StateUp, "")
		meets(t, d, a, b)
	}
	d.Host.IP("link set vsw0 netns " + a.Name)
	lab.Eventually("it is made anew", whole)
	state(api.StateUp, "")
	if a.Link("vsw0") != nil {
		t.Error("what was moved away is left there")
	}
	d.Stop()
	d.Host.IP("link set vsw0 netns " + a.Name)
	d.Start()
	state(api.StateUp, "")
	meets(t, d, a, b)
	if a.Link("vsw0") != nil {
		t.Error("what was moved away meanwhile is left there")
	}
	for _, addr := range []string{"192.0.0.6/31", "fd83:585c:c419::6/127"} {
		d.Host.IP("addr del " + addr + " dev vsw0")
	}
	lab.Eventually("addresses come back", func() bool { return len(d.Host.Link("vsw0").Addrs) == 2 })
	back("routes come back")
	lab.Eventually("addresses are shown", func() bool { return len(shown(d).Addresses) == 2 })
	meets(t, d, a, b)
	time.Sleep(time.Second)
	idle := cpuTime(t, d)
	time.Sleep(2 * time.Second)
	if used := cpuTime(t, d) - idle; used > 200*time.Millisecond {
		t.Errorf("the idle daemon used %v of 2 s", used)
	}
}

// TestHostPortMadeAnew: whenever it is deleted, the next one carries frames, also when it looks like the one before.
func TestHostPortMadeAnew(t *testing.T) {
	t.Parallel()
	lab, d, _, _ := withHost(t)
	d.Allow("host port") // which may be asked just when it goes
	for range 5 {
		d.Host.IP("link del vsw0")
		for _, addr := range []string{"10.11.0.2", "fd11::2"} {
			lab.Eventually(addr+" answers", func() bool { return pinged(d.Host, addr, "-W", "1") == nil })
		}
	}
}

// TestHostPortNameTaken: an interface of that name is somebody's. The daemon does without until it is gone.
func TestHostPortNameTaken(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--host-port=vsw0")
	d.Allow("host port")
	d.Host.IP("link set lo up")
	d.Host.IP("link add vsw0 type veth peer vsw1")
	d.Start()
	const problem = "the host has another interface vsw0; name the host port otherwise with --host-port"
	if h := shown(d); h.State != api.StateError || !slices.Equal(h.Problems, []string{problem}) {
		t.Errorf("shown is %+v", h)
	}
	d.Must("add-network", "a", "--subnet", "10.11.0.0/24")
	c := lab.Container("c")
	d.Join("a", "c", c)
	d.Host.IP("link del vsw0")
	lab.Eventually("the host port comes", func() bool { return pinged(d.Host, "10.11.0.2", "-W", "1") == nil })
}

// TestHostAddressTaken: an address that the host has elsewhere, or a way to, isn't taken; the host port works without.
func TestHostAddressTaken(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--host-port=vsw0")
	d.Allow("host port")
	for _, line := range []string{"link set lo up", "addr add 192.0.0.7/32 dev lo", "addr add 198.51.100.1/32 dev lo", "-6 route add fd83:585c::/32 dev lo"} {
		d.Host.IP(line)
	}
	d.Start()
	want := []string{
		"address 192.0.0.7 belongs to another interface of the host; give the host port another address with --host-ip",
		"address fd83:585c:c419::6 is in fd83:585c::/32, to which the host has a route; give the host port another address with --host-ip",
	}
	if h := shown(d); h.State != api.StateUp || !slices.Equal(h.Problems, want) {
		t.Errorf("shown is %+v", h)
	}
	d.Must("add-network", "a", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	c := lab.Container("c")
	d.Join("a", "c", c)
	if err := pinged(c, "198.51.100.1"); err != nil {
		t.Error(err)
	}
	d.Stop()
	d.Start("--host-ip", "192.0.0.4", "--host-ip", "fd00:77::4")
	for _, addr := range []string{"192.0.0.4", "fd00:77::4"} {
		d.Eventually("--host-ip "+addr+" answers", func() bool { return pinged(c, addr, "-W", "1") == nil })
	}
	if h := shown(d); len(h.Problems) > 0 || !slices.Equal(h.Addresses, addresses("192.0.0.4", "fd00:77::4")) {
		t.Errorf("shown is %+v", h)
	}
}

// TestHostOff: the switch for it, at the first start and at a later one; and other names.
func TestHostOff(t *testing.T) {
	t.Parallel()
	_, d, a, _ := withHost(t)
	d.Stop()
	d.Start("--host-port=off")
	if d.Host.Link("vsw0") != nil || shown(d) != nil {
		t.Errorf("there still is a host port: %+v", shown(d))
	}
	if pinged(a, "192.0.0.6", "-W", "1") == nil {
		t.Error("the host answers")
	}
	d.Stop()
	d.Start("--host-port=zero")
	if err := pinged(a, "192.0.0.6"); err != nil || d.Host.Link("zero") == nil {
		t.Errorf("with another name: %v", err)
	}
	d.Kill()
	d.Start("--host-port=one")
	if err := pinged(a, "192.0.0.6"); err != nil || d.Host.Link("zero") != nil || d.Host.Link("one") == nil {
		t.Errorf("with a third name: %v", err)
	}
	d.Must("del-network", "neta", "--force", "--", "del-network", "netb", "--force")
	d.Stop()
	if d.Host.Link("one") != nil {
		t.Error("a host port is left where there is nothing to reach")
	}
	for _, flags := range [][]string{{"--host-port=a/b"}, {"--host-ip=127.0.0.1"}, {"--host-ip=169.254.1.1"}, {"--host-ip=192.0.0.2", "--host-ip=192.0.0.4"}} {
		if err := d.TryStart(flags...); err == nil {
			t.Errorf("started with %v", flags)
		}
	}
}

// TestHostUntouched: rule set, sysctls, routes and rules of the host are to the byte what they were, but for vsw0's.
func TestHostUntouched(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--host-port=vsw0")
	d.Host.IP("link set lo up")
	look := func(without string) []string {
		var all []string
		for _, args := range [][]string{{"sysctl", "-e", "net"}, {"ip", "-4", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
			{"ip", "rule"}, {"ip", "-6", "rule"}, {"ip", "-o", "addr"}} {
			all = append(all, strings.Split(d.Host.Run(args[0], args[1:]...), "\n")...)
		}
		if _, err := exec.LookPath("nft"); err == nil {
			all = append(all, d.Host.Run("nft", "list", "ruleset"))
		}
		return slices.DeleteFunc(all, func(l string) bool {
			return without != "" && strings.Contains(l, without) || strings.Contains(l, "gc_min_interval") || strings.Contains(l, "random")
		})
	}
	before := look("")
	d.Start()
	d.Must("add-network", "a", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	c := lab.Container("c")
	d.Join("a", "c", c)
	if err := netnstest.Stream(d.Host, c, "10.11.0.2", 1<<20); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, look("vsw0")); diff != "" {
		t.Errorf("while it works:\n%s", diff)
	}
	d.Kill()
	if out, err := d.Teardown(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if diff := cmp.Diff(before, look("")); diff != "" {
		t.Errorf("after --teardown:\n%s", diff)
	}
}

// TestHostPortSteps: a host port that could not be made leaves nothing and is tried again; one that was cut off is completed by the next start.
func TestHostPortSteps(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--host-port=vsw0")
	d.Allow("failpoint host.")
	d.Host.IP("link set lo up")
	d.Start()
	d.Must("add-network", "a", "--subnet", "10.11.0.0/24")
	c := lab.Container("c")
	d.Join("a", "c", c)
	for _, step := range []string{"host.made", "host.up", "host.kept"} {
		for _, kind := range []string{"kill", "error"} {
			d.Stop()
			d.Host.IP("link del vsw0")
			d.Env = []string{"VSWITCH_FAILPOINT=" + step + ":" + kind}
			if err := d.TryStart(); (err != nil) != (kind == "kill") {
				t.Fatalf("%s: %v", step, err)
			}
			if kind == "error" {
				if h := shown(d); h.State != api.StateError || !slices.Equal(h.Problems, []string{"failpoint " + step}) {
					t.Errorf("%s: shown is %+v", step, h)
				}
				lab.Eventually("nothing is left between two attempts", func() bool { return len(d.Host.Links()) == 0 })
				d.Stop()
			}
			d.Env = nil
			d.Start()
			if err := pinged(d.Host, "10.11.0.2"); err != nil {
				t.Errorf("after %s of %s: %v", kind, step, err)
			}
			if h := shown(d); h.State != api.StateUp || len(h.Problems) > 0 {
				t.Errorf("after %s of %s: shown is %+v", kind, step, h)
			}
			if n := len(d.Host.Links()); n != 1 {
				t.Errorf("after %s of %s: %d interfaces", kind, step, n)
			}
		}
	}
}

// parked is how many frames the router lets wait for a neighbor, of which it knows none after a restart.
const parked = 3

// TestHostQueues: what is sent while the daemon is away waits, in both directions; nobody is told that there is no way.
func TestHostQueues(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	meets(t, d, a, b)
	for _, x := range []struct {
		from, to *netnstest.Container
		addr     string
	}{{d.Host, a, "10.11.0.2"}, {d.Host, b, "fd12::2"}, {a, d.Host, "192.0.2.2"}, {b, d.Host, "fd83:585c:c419::6"}} {
		rx := x.to.UDP(net.JoinHostPort(x.addr, "0"))
		var tx net.Conn
		err := x.from.Do(func() (err error) {
			tx, err = net.Dial("udp", rx.LocalAddr().String())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Close()
		d.Kill()
		for i := range parked {
			if _, err := tx.Write([]byte{byte(i)}); err != nil {
				t.Errorf("datagram %d to %s: %v", i, x.addr, err)
			}
		}
		d.Start()
		if err := rx.SetReadDeadline(time.Now().Add(netnstest.Patience)); err != nil {
			t.Fatal(err)
		}
		for i := range parked {
			var buf [8]byte
			if n, err := rx.Read(buf[:]); err != nil || n != 1 || buf[0] != byte(i) {
				t.Fatalf("datagram %d to %s: %d bytes %v, %v\n%s", i, x.addr, n, buf, err, d.Must("drops"))
			}
		}
		if _, err := tx.Write([]byte{0}); err != nil { // an ICMP error would be told here
			t.Errorf("to %s: %v", x.addr, err)
		}
	}
}
