package vswitch_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// routes lists "PREFIX via GATEWAY metric N" of a container's IPv4 and IPv6 routes that have a gateway.
func routes(t *testing.T, c *netnstest.Container) (list []string) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		var rows []struct {
			Dst     string `json:"dst"`
			Gateway string `json:"gateway"`
			Metric  int    `json:"metric"`
		}
		if err := json.Unmarshal([]byte(c.Run("ip", "-j", family, "route")), &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.Gateway != "" {
				list = append(list, fmt.Sprintf("%s via %s metric %d", r.Dst, r.Gateway, r.Metric))
			}
		}
	}
	return list
}

// TestInterface looks at what is in the container after add-port, by options.
func TestInterface(t *testing.T) {
	for _, tt := range []struct {
		name, flags       string
		ifname, mac       string
		mtu               int
		addrs             string
		routes            []string
		down, notAddrMACs bool
	}{
		{name: "defaults", flags: "", ifname: "eth0", mac: "02:42:0a:09:00:02", mtu: 1500, addrs: "10.9.0.2/24 fd00:9::2/64",
			routes: []string{"default via 10.9.0.1 metric 0", "default via fd00:9::1 metric 1024"}},
		{name: "addresses", flags: "--ip 10.9.0.77 --ip fd00:9::77", ifname: "eth0", mac: "02:42:0a:09:00:4d", mtu: 1500,
			addrs:  "10.9.0.77/24 fd00:9::77/64",
			routes: []string{"default via 10.9.0.1 metric 0", "default via fd00:9::1 metric 1024"}},
		{name: "names", flags: "--ifname lan-0.x --mac 0A-00-27-00-00-0B --default-route=no", ifname: "lan-0.x", mac: "0a:00:27:00:00:0b", mtu: 1500,
			addrs: "10.9.0.2/24 fd00:9::2/64"},
		{name: "routes", flags: "--route 192.168.7.0/24=10.9.0.9 --route fd01::/48=fd00:9::9 --metric 77 --mtu 1400", ifname: "eth0",
			mac: "02:42:0a:09:00:02", mtu: 1400, addrs: "10.9.0.2/24 fd00:9::2/64",
			routes: []string{"default via 10.9.0.1 metric 77", "192.168.7.0/24 via 10.9.0.9 metric 77",
				"fd01::/48 via fd00:9::9 metric 77", "default via fd00:9::1 metric 77"}},
		{name: "no address", flags: "--no-ip --mac 02:00:00:00:00:07", ifname: "eth0", mac: "02:00:00:00:00:07", mtu: 1500},
		{name: "no config", flags: "--no-config", ifname: "eth0", mac: "02:42:0a:09:00:02", mtu: 1500, down: true},
	} {
		for _, kind := range []string{"tap", "veth"} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				t.Parallel()
				lab := netnstest.New(t)
				d := lab.Daemon()
				d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
				c := lab.Container("c")
				d.Join("net1", "c", c, append([]string{"--type", kind}, strings.Fields(tt.flags)...)...)
				l := c.Link(tt.ifname)
				if l == nil || len(c.Links()) != 1 {
					t.Fatalf("interfaces are %+v", c.Links())
				}
				if l.MAC != tt.mac || l.MTU != tt.mtu || l.Up() == tt.down {
					t.Errorf("%s has MAC %s, MTU %d, up %v; want %s, %d, %v", l.Name, l.MAC, l.MTU, l.Up(), tt.mac, tt.mtu, !tt.down)
				}
				if got := strings.Join(l.Prefixes(), " "); got != tt.addrs {
					t.Errorf("addresses are %q, want %q", got, tt.addrs)
				}
				if got := routes(t, c); !slices.Equal(got, tt.routes) {
					t.Errorf("routes are %q, want %q", got, tt.routes)
				}
				if up := strings.Contains(c.IP("link show lo"), "LOOPBACK,UP"); up == tt.down {
					t.Errorf("lo is up: %v", up)
				}
				want := map[bool]string{false: api.StateUp, true: api.StateDown}[tt.down]
				if p := netnstest.Get[api.Show](d, "show").Ports[0]; p.Status.State != want || p.Status.Ifindex != l.Index {
					t.Errorf("the port is %s with ifindex %d, want %s, %d", p.Status.State, p.Status.Ifindex, want, l.Index)
				}
				d.Must("del-port", "c")
				if left := c.Links(); len(left) != 0 {
					t.Errorf("after del-port there is %+v", left)
				}
			})
		}
	}
}

// TestWays names the same namespace in each way.
func TestWays(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	c := lab.Container("c")
	sleep := exec.Command("sleep", "1000")
	if err := c.Do(sleep.Start); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = sleep.Process.Signal(syscall.SIGKILL); _ = sleep.Wait() }
	t.Cleanup(end)
	pid := fmt.Sprint(sleep.Process.Pid)
	for i, way := range []string{
		"--netns " + c.Name, "--netns " + c.Path, "--pid " + pid, "--netns /proc/" + pid + "/ns/net", "--netns container:p0", "--netns " + pid,
	} {
		name := fmt.Sprint("p", i)
		d.Must(append([]string{"add-port", "net1", name, "--ifname", name, "--default-route=no"}, strings.Fields(way)...)...)
		if c.Link(name) == nil {
			t.Errorf("with %s the interface is not in the container", way)
		}
		d.Refused(1, "choose another with --ifname", append([]string{"add-port", "net1", "again", "--ifname", name}, strings.Fields(way)...)...)
	}
	if n := len(netnstest.Get[[]api.Port](d, "list-ports", "net1")); n != 6 {
		t.Errorf("%d ports are listed, want 6", n)
	}
	// A namespace without a name, known by a port of it only.
	hermit := exec.Command("sleep", "1000")
	hermit.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := hermit.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hermit.Process.Signal(syscall.SIGKILL); _ = hermit.Wait() })
	d.Must("add-port", "net1", "hermit", "--pid", fmt.Sprint(hermit.Process.Pid))
	d.Must("add-port", "net1", "hermit2", "--netns", "container:hermit", "--ifname", "eth1", "--default-route=no", "--type", "veth")
	_ = hermit.Process.Signal(syscall.SIGKILL)
	_ = hermit.Wait()
	d.Eventually("the ports of a dead process are gone", func() bool {
		return !strings.Contains(d.Must("list-ports"), "hermit")
	})
}

// TestStage takes a staged device by hand, as a container runtime does: the port follows it.
//
//	host vs-... ---> c eth5 10.9.0.3
func TestStage(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--subnet", subnet4)
			a, c := lab.Container("a"), lab.Container("c")
			d.Join("net1", "a", a)
			p := netnstest.Get[api.Port](d, "add-port", "net1", "staged", "--stage")
			if p.Status.State != api.StateStaged || p.MAC != "02:42:0a:09:00:03" {
				t.Errorf("the port is %+v", p)
			}
			if d.Host.Link(p.IfName) == nil {
				t.Fatalf("%s is not where the daemon runs", p.IfName)
			}
			if restart {
				d.Stop()
				d.Start()
			}
			d.Host.IP("link set " + p.IfName + " netns " + c.Name + " name eth5")
			c.IP("addr add 10.9.0.3/24 dev eth5")
			c.IP("link set eth5 up")
			a.Run("ping", "-q", "-c1", "-W10", "10.9.0.3")
			d.Eventually("the port is up in its new place", func() bool {
				p, err := d.Client.Port(t.Context(), "staged")
				return err == nil && p.Status.State == api.StateUp && p.IfName == "eth5"
			})
			d.Must("add-port", "net1", "beside", "--netns", "container:staged", "--ifname", "eth6", "--default-route=no")
			if c.Link("eth6") == nil {
				t.Error("container:staged is another namespace")
			}
			d.Kill()
			d.Start()
			a.Run("ping", "-q", "-c1", "-W10", "10.9.0.3")
			d.Must("del-port", "staged")
			if c.Link("eth5") != nil {
				t.Error("the interface is left after del-port")
			}
		})
	}
}
