package vswitch_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/netnstest"
)

// internet is a daemon's host with an outside: kernels all, and the host's interface is all that leads there.
//
//	c 10.11.0.2 fd11::2 --- net --- main --- up0 (the host's)
//	                                          |  192.0.2.2/24  2001:db8:1::2/64
//	                                          |  192.0.2.1     2001:db8:1::1
//	                                         isp
//	                                          |  198.51.100.1  2001:db8:9::1
//	                                        server 198.51.100.9/24  2001:db8:9::9/64
type internet struct {
	lab                  *netnstest.Lab
	d                    *netnstest.Daemon
	host, isp, server, c *netnstest.Container
	firewall             string // the host's, and what its kernel is told of routing
}

var serverAddrs = []string{"198.51.100.9", "2001:db8:9::9"}

// firewall is of a host that lets in only what it asked for, and forwards nothing.
var firewall = []string{
	"add table inet fw",
	"add chain inet fw input { type filter hook input priority 0; policy drop; }",
	"add rule inet fw input ct state established,related accept",
	"add rule inet fw input iifname { lo, vsw0 } accept",
	"add rule inet fw input meta l4proto { icmp, ipv6-icmp } accept",
	"add rule inet fw input tcp dport { 2222, 8080 } accept",
	"add chain inet fw forward { type filter hook forward priority 0; policy drop; }",
}

// newInternet starts the daemon with a network and a container; flags are the daemon's.
func newInternet(t *testing.T, flags ...string) *internet {
	t.Helper()
	lab := netnstest.New(t)
	n := &internet{lab: lab, d: lab.NewDaemon(flags...), isp: lab.Container("isp"), server: lab.Container("server")}
	n.host = n.d.Host
	n.plugIn(t)
	n.cable(t, n.isp, "eth1", "198.51.100.1/24", "2001:db8:9::1/64", n.server, "eth0", serverAddrs[0]+"/24", serverAddrs[1]+"/64")
	n.isp.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	n.routeOut()
	for _, way := range []string{"198.51.100.1", "2001:db8:9::1"} {
		n.server.IP("route add default via " + way)
	}
	n.host.IP("link set lo up")
	for _, rule := range firewall {
		n.host.Run("nft", rule)
	}
	n.firewall = n.bystanders()
	n.d.Start()
	n.d.Must("add-network", "net", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	n.c = lab.Container("c")
	n.d.Join("net", "c", n.c)
	return n
}

// plugIn makes up0 of the host, with its addresses, and its cable to the ISP.
func (n *internet) plugIn(t *testing.T) {
	t.Helper()
	n.cable(t, n.host, "up0", "192.0.2.2/24", "2001:db8:1::2/64", n.isp, "eth0", "192.0.2.1/24", "2001:db8:1::1/64")
}

// routeOut gives the host its default routes.
func (n *internet) routeOut() {
	for _, way := range []string{"192.0.2.1", "2001:db8:1::1"} {
		n.host.IP("route replace default via " + way)
	}
}

// cable connects two interfaces, whose addresses are at once in use.
func (n *internet) cable(t *testing.T, a *netnstest.Container, aName, a4, a6 string, b *netnstest.Container, bName, b4, b6 string) {
	t.Helper()
	a.IP("link add " + aName + " type veth peer name " + bName + " netns " + b.Name)
	t.Cleanup(func() { _, _ = a.Try("ip", "link", "del", aName) })
	for _, end := range []struct {
		c     *netnstest.Container
		name  string
		addrs []string
	}{{a, aName, []string{a4, a6}}, {b, bName, []string{b4, b6}}} {
		end.c.Run("sysctl", "-qw", "net.ipv6.conf."+end.name+".accept_dad=0")
		end.c.IP("link set " + end.name + " up")
		for _, addr := range end.addrs {
			end.c.IP("addr add " + addr + " dev " + end.name + " nodad")
		}
	}
	n.lab.Eventually(aName+" and "+bName+" are settled", func() bool { return a.Settled(aName) && b.Settled(bName) })
}

// bystanders is what of the host an uplink has no business with: rules, routes, addresses, all sysctls of its network but those of the switch's devices.
func (n *internet) bystanders() string {
	var all strings.Builder
	for _, command := range []string{
		"nft list ruleset", "iptables-save", "ip6tables-save", "ip -4 route show table all", "ip -6 route show table all",
		"ip -4 rule", "ip -6 rule", "ip neigh show proxy", "ip -br addr show dev up0", "sysctl -e net",
	} {
		words := strings.Fields(command)
		out, err := n.host.Try(words[0], words[1:]...)
		all.WriteString("# " + command + "\n")
		for line := range strings.Lines(out) {
			setting, _, isSetting := strings.Cut(line, " = ")
			restless := strings.HasSuffix(setting, "_count") || strings.Contains(setting, "random") || strings.Contains(setting, "gc_min_interval")
			if ours := strings.Contains(setting, ".vs-") || strings.Contains(setting, ".vsw0."); !isSetting || !ours && !restless {
				all.WriteString(line)
			}
		}
		if err != nil {
			all.WriteString("not there\n")
		}
	}
	return all.String()
}

// expectUntracked fails the test where the host's kernel tracks a connection by one of the ports that are the switch's, or one of its pings.
func (n *internet) expectUntracked(t *testing.T) {
	t.Helper()
	for _, addr := range serverAddrs { // that is the host's own, and in the table
		if err := pinged(n.host, addr); err != nil {
			t.Errorf("the host's own ping to %s: %v", addr, err)
		}
	}
	tracked := n.host.Run("cat", "/proc/net/nf_conntrack")
	if !strings.Contains(tracked, "dst=198.51.100.9") || !strings.Contains(tracked, "dst=2001:0db8:0009:0000:0000:0000:0000:0009") {
		t.Errorf("the host's kernel does not track its own connections, so this proves nothing:\n%s", tracked)
	}
	echoes := make(map[int]bool) // the identifiers of the switch's
	for _, c := range conntrack(t, n.d) {
		if strings.HasPrefix(c.Proto, "icmp") && c.Translated != nil {
			echoes[int(c.Translated.SrcPort)] = true
		}
	}
	for line := range strings.Lines(tracked) {
		for _, word := range strings.Fields(line) {
			key, value, _ := strings.Cut(word, "=")
			number, err := strconv.Atoi(value)
			if err == nil && ((key == "sport" || key == "dport") && (number >= 61000 || number == 8080) || key == "id" && echoes[number]) {
				t.Errorf("the host's kernel tracks %s", line)
			}
		}
	}
}

// expectUntouched fails the test where the host is not as it was before the daemon came.
func (n *internet) expectUntouched(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(n.firewall, n.bystanders()); diff != "" {
		t.Errorf("the host was (-), and is (+)\n%s", diff)
	}
}
