package netnstest

import (
	"fmt"
	"strings"
)

// Plug says how a container is connected.
type Plug struct {
	Label    string // of the port
	MAC      string
	IPs      []string // with prefix length
	Access   int      // VLAN; 0: untagged
	Trunk    []int    // VLANs carried tagged
	Native   int      // trunk: VLAN of untagged frames; 0: none
	Isolated bool
}

// Fabric connects containers: a network of vswitch, or the kernel's bridge. The interface in the container is eth0.
type Fabric interface {
	Plug(c *Container, p Plug)
}

// Network is a network of a daemon as a Fabric. Flags go to each add-port.
type Network struct {
	Daemon *Daemon
	Name   string
	Flags  []string
}

var _ Fabric = Network{}

// Plug adds a port.
func (n Network) Plug(c *Container, p Plug) {
	n.Daemon.lab.t.Helper()
	flags := append([]string{"--mac", p.MAC, "--default-route=no"}, n.Flags...)
	for _, ip := range p.IPs {
		flags = append(flags, "--ip", Host(ip))
	}
	if len(p.IPs) == 0 {
		flags = append(flags, "--no-ip")
	}
	if p.Access != 0 {
		flags = append(flags, "--vlan", fmt.Sprint(p.Access))
	}
	if len(p.Trunk) > 0 {
		flags = append(flags, "--trunk", strings.Trim(strings.ReplaceAll(fmt.Sprint(p.Trunk), " ", ","), "[]"))
	}
	if p.Native != 0 {
		flags = append(flags, "--native", fmt.Sprint(p.Native))
	}
	if p.Isolated {
		flags = append(flags, "--isolated")
	}
	n.Daemon.Join(n.Name, p.Label, c, flags...)
}

// KernelBridge is a bridge of the kernel in a namespace of its own, as a Fabric of veths.
type KernelBridge struct {
	VLANs bool // the kernel filters VLANs (CONFIG_BRIDGE_VLAN_FILTERING)
	c     *Container
	mtu   int
	ports int
}

var _ Fabric = (*KernelBridge)(nil)

// KernelBridge makes one.
func (l *Lab) KernelBridge(mtu int) *KernelBridge {
	l.t.Helper()
	b := &KernelBridge{c: l.Container("bridge"), mtu: mtu}
	b.c.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	b.c.IP("link add br0 type bridge mcast_snooping 0")
	_, err := b.c.Try("ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1", "vlan_default_pvid", "0")
	b.VLANs = err == nil
	b.c.IP("link set br0 up")
	l.bridges = append(l.bridges, b)
	return b
}

// Plug connects a veth.
func (b *KernelBridge) Plug(c *Container, p Plug) {
	c.lab.t.Helper()
	b.ports++
	port := fmt.Sprintf("p%d", b.ports)
	b.c.IP(fmt.Sprintf("link add %s mtu %d type veth peer name eth0 mtu %d address %s netns %s", port, b.mtu, b.mtu, p.MAC, c.Name))
	b.c.IP("link set " + port + " master br0 up")
	if b.VLANs {
		b.member(port, p)
	}
	if p.Isolated {
		b.c.Run("bridge", "link", "set", "dev", port, "isolated", "on")
	}
	for _, ip := range p.IPs {
		nodad := ""
		if strings.Contains(ip, ":") {
			nodad = "nodad"
		}
		c.IP("addr add " + ip + " dev eth0 " + nodad)
	}
	c.IP("link set lo up")
	c.IP("link set eth0 up")
	c.lab.Eventually(port+" forwards", func() bool {
		return strings.Contains(b.c.Run("bridge", "link", "show", "dev", port), "state forwarding")
	})
}

// member sets the VLANs of a port. VLAN 1 stands for the untagged one.
func (b *KernelBridge) member(port string, p Plug) {
	vlan := func(v int, how string) {
		b.c.Run("bridge", strings.Fields(fmt.Sprintf("vlan add dev %s vid %d %s", port, v, how))...)
	}
	for _, v := range p.Trunk {
		vlan(v, "")
	}
	switch {
	case p.Native != 0:
		vlan(p.Native, "pvid untagged")
	case p.Access != 0:
		vlan(p.Access, "pvid untagged")
	case len(p.Trunk) == 0:
		vlan(1, "pvid untagged")
	}
}

// close takes the veths away.
func (b *KernelBridge) close() {
	for i := range b.ports {
		_, _ = b.c.Try("ip", "link", "del", fmt.Sprintf("p%d", i+1))
	}
}
