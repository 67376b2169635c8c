package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Kind describes a peer that can be built.
type Kind struct {
	Name    string
	About   string
	Daemon  bool     // needs vswitchd and vsctl
	OVS     bool     // needs Open vSwitch
	Args    []string // more arguments of vswitchd
	Ports   int      // more ports than the two that are measured
	Routed  bool     // A and B are in different networks, with a router between
	Masq    bool     // which hides A behind its address in B's network: B is outside
	Publish bool     // which publishes B's ports at its address in A's network: A is outside
	Cable   bool     // a switched network, of which one side is behind a cable like that to an outside
	Bare    bool     // nothing switches: all that A sends goes to B
	V4Only  bool     // it carries no IPv6
	TCPOnly bool     // and nothing but TCP
	Tools   []Tool   // programs of others that it needs
	build   func(l *Lab, ctx context.Context, p *Peer) error
}

// Tool is a program of others, and the package of Debian that has it.
type Tool struct{ Program, Package string }

// manyConns lets the one network of a peer have all connections.
var manyConns = []string{"--max-network-connections=262144"}

// unmoved leaves all ports with the usual worker, where an uplink's always is: cutting super-frames up for a cable takes as long as a slow receiver.
var unmoved = []string{"--move-slow=off"}

var nft = []Tool{{"nft", "nftables"}}

// Kinds are all peers, in the order in which reports show them.
var Kinds = []Kind{
	{Name: "bridge", About: "kernel bridge and two veth pairs", build: (*Lab).buildBridge},
	{Name: "veth", About: "one veth pair, no switch at all", build: (*Lab).buildVeth},
	{Name: "naive", About: "songgao/water, a goroutine per TAP, a map behind a mutex", build: (*Lab).buildNaive},
	{Name: "bare", About: "TAPs with offloads, and nothing but read and write between them: what a switch of one thread can't surpass", Bare: true, build: (*Lab).buildBare},
	{Name: "vswitch", About: "vswitchd with TAP ports", Daemon: true, build: (*Lab).buildTAP},
	{Name: "vswitch-veth", About: "vswitchd with veth ports", Daemon: true, build: (*Lab).buildVethPorts},
	{Name: "vswitch-nocoalesce", About: "vswitchd without its egress coalescer", Daemon: true, Args: []string{"--coalesce=off"}, build: (*Lab).buildTAP},
	{Name: "vswitch-halt", About: "vswitchd that lets idle cores halt", Daemon: true, Args: []string{"--keep-awake=off"}, build: (*Lab).buildTAP},
	{Name: "vswitch-nospin", About: "vswitchd that sleeps at once", Daemon: true, Args: []string{"--spin=0"}, build: (*Lab).buildTAP},
	{Name: "vswitch-nocache", About: "vswitchd that decides every frame anew", Daemon: true, Args: []string{"--flow-cache=off"}, build: (*Lab).buildTAP},
	{Name: "ovs-tap", About: "Open vSwitch, userspace datapath with TSO, on TAPs", OVS: true, build: (*Lab).buildOVSTAP},
	{Name: "ovs-afxdp", About: "Open vSwitch, userspace datapath, on AF_XDP", OVS: true, build: (*Lab).buildOVSXDP},
	{Name: "kernel-route", About: "the kernel's forwarding between two veth pairs", Routed: true, build: (*Lab).buildKernelRouter},
	{Name: "vswitch-route", About: "vswitchd that routes between two networks of a TAP port each", Daemon: true, Routed: true, build: (*Lab).buildTAP},
	{Name: "kernel-masquerade", About: "the same with an nftables rule that masquerades", Routed: true, Masq: true, Tools: nft, build: (*Lab).buildKernelRouter},
	{Name: "vswitch-masquerade", About: "vswitchd that masquerades one network towards another", Daemon: true, Routed: true, Masq: true, Args: manyConns, build: (*Lab).buildTAP},
	{
		Name: "vswitch-masquerade-nocoalesce", About: "the same without the egress coalescer", Daemon: true, Routed: true, Masq: true,
		Args: append([]string{"--coalesce=off"}, manyConns...), build: (*Lab).buildTAP,
	},
	{Name: "vswitch-uplink", About: "vswitchd that masquerades a TAP port towards a shared uplink", Daemon: true, Routed: true, Masq: true, build: (*Lab).buildUplink},
	{Name: "vswitch-cable-out", About: "vswitchd that switches to B behind a cable: what an uplink's costs at least", Daemon: true, Cable: true, Args: unmoved, build: (*Lab).buildCableToB},
	{Name: "vswitch-cable-in", About: "the same with A behind it", Daemon: true, Cable: true, Args: unmoved, build: (*Lab).buildCableToA},
	{Name: "ovs-masquerade", About: "Open vSwitch, userspace datapath with TSO, its own conntrack and NAT", OVS: true, Routed: true, Masq: true, build: (*Lab).buildOVSNAT},
	{Name: "pasta", About: "pasta: sockets of the host stand in for the container's", Routed: true, Masq: true, Tools: []Tool{{"pasta", "passt"}}, build: (*Lab).buildPasta},
	{Name: "slirp4netns", About: "slirp4netns: likewise, by libslirp", Routed: true, Masq: true, V4Only: true, Tools: []Tool{{"slirp4netns", "slirp4netns"}}, build: (*Lab).buildSlirp},
	{Name: "kernel-publish", About: "the kernel's forwarding with an nftables rule that publishes ports (DNAT)", Routed: true, Publish: true, Tools: nft, build: (*Lab).buildKernelRouter},
	{Name: "relay-publish", About: "a process that copies between two sockets, as docker-proxy does", Routed: true, Publish: true, TCPOnly: true, build: (*Lab).buildRelay},
	// Over IPv6 the pasta of Debian 12 accepts connections and passes nothing on.
	{Name: "pasta-publish", About: "pasta that publishes ports", Routed: true, Publish: true, V4Only: true, Tools: []Tool{{"pasta", "passt"}}, build: (*Lab).buildPasta},
	{Name: "vswitch-publish", About: "vswitchd that publishes a TAP port's ports at a shared uplink", Daemon: true, Routed: true, Publish: true, build: (*Lab).buildUplink},
	{Name: "host-alone", About: "no container: the host's own traffic, by an interface of its own", Routed: true, build: (*Lab).buildHostOnly},
	{Name: "host-shared", About: "the same where vswitchd shares the interface as an uplink", Daemon: true, Routed: true, build: (*Lab).buildHostOnly},
	{Name: "bridge-100", About: "kernel bridge with 100 more ports", Ports: 100, build: (*Lab).buildBridge},
	{Name: "vswitch-100", About: "vswitchd with 100 more TAP ports", Daemon: true, Ports: 100, build: (*Lab).buildTAP},
	{Name: "bridge-1000", About: "kernel bridge with 1000 more ports", Ports: 1000, build: (*Lab).buildBridge},
	{Name: "vswitch-1000", About: "vswitchd with 1000 more TAP ports", Daemon: true, Ports: 1000, build: (*Lab).buildTAP},
	{Name: "vswitch-workers2", About: "vswitchd with two workers", Daemon: true, Args: []string{"--workers", "2"}, build: (*Lab).buildTAP},
}

// Special tells whether the peer answers a question of its own, and is built only when it is asked for by name.
func (k Kind) Special() bool { return k.Ports > 0 || k.Routed || k.Cable || k.Bare }

// Peer is a network that stands: two containers and what switches between them.
type Peer struct {
	Kind
	A, B         string       // the containers' namespaces; clients run in A, servers in B
	Net4, Net6   netip.Prefix // of A
	Far4, Far6   netip.Prefix // of B: the same, unless the peer routes
	Many         bool         // B has ManyAddresses, from B4 on
	A4, A6       netip.Addr
	B4, B6       netip.Addr
	To4, To6     netip.Addr // by which A reaches B's servers: B's own addresses, unless the peer publishes their ports
	Switch       *Child     // the process that switches; nil when the kernel does
	Version      string     // of the daemon
	congestion   string     // what the containers' default was set to last
	switchSpace  string     // the namespace that the switch lives in, if it has one
	daemonSocket string
	attach       func(context.Context) error // connects a third container; nil when there is no way
	detach       func(context.Context) error
}

// mtu is that of every container's interface. Peers with different ones could not be compared.
const mtu = 1500

// Build makes a peer's network. number is different for every peer of the lab: it picks the addresses, so that daemons that
// run at the same time do not meet.
func (l *Lab) Build(ctx context.Context, kind Kind, number int) (*Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second+time.Duration(kind.Ports)*200*time.Millisecond)
	defer cancel()
	p := &Peer{Kind: kind}
	p.Net4, p.Net6 = subnets(77, 0x77, number)
	p.Far4, p.Far6 = p.Net4, p.Net6
	if kind.Routed {
		p.Far4, p.Far6 = subnets(78, 0x78, number)
	}
	p.A4, p.A6 = host(p.Net4, 2), host(p.Net6, 2)
	p.B4, p.B6 = host(p.Far4, 3), host(p.Far6, 3)
	p.To4, p.To6 = p.B4, p.B6
	if kind.Publish {
		p.To4, p.To6 = host(p.Net4, 1), host(p.Net6, 1)
	}
	var err error
	if p.A, err = l.namespace(ctx, kind.Name+"-a"); err != nil {
		return nil, err
	}
	if p.B, err = l.namespace(ctx, kind.Name+"-b"); err != nil {
		return nil, err
	}
	if err := kind.build(l, ctx, p); err != nil {
		return nil, fmt.Errorf("build peer %s: %w", kind.Name, err)
	}
	if p.Many = kind.Routed && !kind.Publish; p.Many {
		if err := l.addMany(ctx, p); err != nil {
			return nil, fmt.Errorf("build peer %s: %w", kind.Name, err)
		}
	}
	for _, namespace := range []string{p.A, p.B} {
		if err := l.checkMTU(ctx, namespace); err != nil {
			return nil, fmt.Errorf("build peer %s: %w", kind.Name, err)
		}
	}
	return p, nil
}

// ManyAddresses is how many addresses servers have where they have many.
const ManyAddresses = 16

// addMany gives B the addresses that follow its own.
func (l *Lab) addMany(ctx context.Context, p *Peer) error {
	var commands []string
	a := p.B4
	for range ManyAddresses - 1 {
		a = a.Next()
		commands = append(commands, fmt.Sprintf("address add %v/24 dev eth0", a))
	}
	return ipBatch(ctx, p.B, commands...)
}

// subnets returns 10.SECOND4.NUMBER.0/24 and fdSECOND6:0:0:NUMBER::/64.
func subnets(second4, second6 byte, number int) (v4, v6 netip.Prefix) {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second4, byte(number), 0}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: second6, 7: byte(number)}), 64)
}

// host returns the nth address of a subnet.
func host(subnet netip.Prefix, n byte) netip.Addr {
	b := subnet.Addr().AsSlice()
	b[len(b)-1] = n
	a, _ := netip.AddrFromSlice(b)
	return a
}

// configure gives the container's eth0 its addresses and sets it up.
func (l *Lab) configure(ctx context.Context, namespace string, v4, v6 netip.Addr) error {
	for _, command := range []string{
		fmt.Sprintf("-n %s address add %v/24 dev eth0", namespace, v4),
		fmt.Sprintf("-n %s address add %v/64 dev eth0 nodad", namespace, v6),
		fmt.Sprintf("-n %s link set eth0 mtu %d up", namespace, mtu),
	} {
		if err := ip(ctx, command); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) configureBoth(ctx context.Context, p *Peer) error {
	if err := l.configure(ctx, p.A, p.A4, p.A6); err != nil {
		return err
	}
	return l.configure(ctx, p.B, p.B4, p.B6)
}

func (l *Lab) checkMTU(ctx context.Context, namespace string) error {
	out, err := l.Output(ctx, "", "ip", "-n", namespace, "-o", "link", "show", "eth0")
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("mtu %d ", mtu); !strings.Contains(string(out), want) {
		return fmt.Errorf("eth0 in %s has not %sas with the other peers: %s", namespace, want, strings.TrimSpace(string(out)))
	}
	return nil
}

// buildVeth:  A eth0 ======== eth0 B
func (l *Lab) buildVeth(ctx context.Context, p *Peer) error {
	if err := ip(ctx, fmt.Sprintf("-n %s link add eth0 type veth peer name eth0 netns %s", p.A, p.B)); err != nil {
		return err
	}
	return l.configureBoth(ctx, p)
}

// buildBridge:  A eth0 ======== p0 br0 p1 ======== eth0 B
func (l *Lab) buildBridge(ctx context.Context, p *Peer) error {
	var err error
	if p.switchSpace, err = l.namespace(ctx, p.Name+"-sw"); err != nil {
		return err
	}
	in := "-n " + p.switchSpace
	for _, command := range []string{
		in + " link add br0 type bridge",
		in + " link set br0 up",
		in + " link add p0 type veth peer name eth0 netns " + p.A,
		in + " link add p1 type veth peer name eth0 netns " + p.B,
		in + " link set p0 master br0 up",
		in + " link set p1 master br0 up",
	} {
		if err := ip(ctx, command); err != nil {
			return err
		}
	}
	if err := l.bridgeWithoutNetfilter(ctx, p.switchSpace); err != nil {
		return err
	}
	if err := l.configureBoth(ctx, p); err != nil {
		return err
	}
	if err := l.attachToBridge(ctx, p); err != nil {
		return err
	}
	return l.growBridge(ctx, p)
}

// buildNaive:  A eth0 (TAP) -------- pump -------- (TAP) eth0 B
func (l *Lab) buildNaive(ctx context.Context, p *Peer) error {
	return l.buildPump(ctx, p, "naive-pump")
}

func (l *Lab) buildBare(ctx context.Context, p *Peer) error { return l.buildPump(ctx, p, "bare-pump") }

func (l *Lab) buildPump(ctx context.Context, p *Peer, command string) error {
	var err error
	if p.switchSpace, err = l.namespace(ctx, p.Name+"-sw"); err != nil {
		return err
	}
	// The pump lives as long as the lab, not as long as this call.
	p.Switch, err = l.Start(context.Background(), p.switchSpace, nil, l.Bench, command, "vb0", "vb1")
	if err != nil {
		return err
	}
	l.onClose("stop the "+command, func(context.Context) error { p.Switch.Kill(); return nil })
	if line, err := p.Switch.Line(); err != nil || line != "ready" {
		return fmt.Errorf("%s is not ready: %q: %w", command, line, err)
	}
	for tap, namespace := range map[string]string{"vb0": p.A, "vb1": p.B} {
		if err := ip(ctx, fmt.Sprintf("-n %s link set %s netns %s name eth0", p.switchSpace, tap, namespace)); err != nil {
			return err
		}
	}
	return l.configureBoth(ctx, p)
}

func (l *Lab) buildTAP(ctx context.Context, p *Peer) error { return l.buildDaemon(ctx, p, "tap") }
func (l *Lab) buildVethPorts(ctx context.Context, p *Peer) error {
	return l.buildDaemon(ctx, p, "veth")
}

// Available reports why a peer cannot be built with these programs, or nil.
func (k Kind) Available(programs Programs) error {
	if k.OVS {
		if err := ovsInstalled(); err != nil {
			return fmt.Errorf("peer %s: %w", k.Name, err)
		}
	}
	for _, tool := range k.Tools {
		if _, err := exec.LookPath(tool.Program); err != nil {
			return fmt.Errorf("peer %s: %s not found: install the package %s", k.Name, tool.Program, tool.Package)
		}
	}
	if !k.Daemon {
		return nil
	}
	for _, path := range []string{programs.Vswitchd, programs.Vsctl} {
		if found, err := os.Stat(path); err != nil {
			return fmt.Errorf("peer %s needs a program: %w", k.Name, err)
		} else if found.IsDir() || found.Mode()&0o111 == 0 {
			return fmt.Errorf("peer %s needs a program: %s cannot be executed", k.Name, path)
		}
	}
	return nil
}
