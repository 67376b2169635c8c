package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ovsPrograms are what the peers of Open vSwitch need.
var ovsPrograms = []string{"ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl"}

const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// ovsInstalled reports what is missing of Open vSwitch.
func ovsInstalled() error {
	for _, program := range ovsPrograms {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s not found: install the package openvswitch-switch", program)
		}
	}
	if _, err := os.Stat(ovsSchema); err != nil {
		return fmt.Errorf("the schema of Open vSwitch's database: %w", err)
	}
	return nil
}

// buildOVSTAP:  A eth0 (TAP) -------- ovs-vswitchd, netdev datapath with TSO -------- (TAP) eth0 B
func (l *Lab) buildOVSTAP(ctx context.Context, p *Peer) error {
	vsctl, err := l.startOVS(ctx, p, "other_config:userspace-tso-enable=true")
	if err != nil {
		return err
	}
	if err := l.addOVSTAPs(ctx, p, vsctl); err != nil {
		return err
	}
	return l.configureBoth(ctx, p)
}

// addOVSTAPs gives the containers TAPs, ports 1 and 2 of the bridge.
func (l *Lab) addOVSTAPs(ctx context.Context, p *Peer, vsctl func(args ...string) error) error {
	for i, namespace := range []string{p.A, p.B} {
		tap := fmt.Sprintf("t%d", i)
		if err := vsctl("add-port", "br0", tap, "--", "set", "interface", tap, "type=tap", fmt.Sprintf("ofport_request=%d", i+1)); err != nil {
			return err
		}
		if err := ip(ctx, fmt.Sprintf("-n %s link set %s netns %s name eth0", p.switchSpace, tap, namespace)); err != nil {
			return err
		}
	}
	return nil
}

// buildOVSNAT:  A eth0 (TAP) -------- ovs-vswitchd: conntrack, NAT, MACs rewritten by flows -------- (TAP) eth0 B
//
// Nobody answers ARP for the gateway: the containers are told its MAC.
func (l *Lab) buildOVSNAT(ctx context.Context, p *Peer) error {
	const gateway = "02:00:00:00:00:01"
	vsctl, err := l.startOVS(ctx, p, "other_config:userspace-tso-enable=true")
	if err != nil {
		return err
	}
	if err := l.addOVSTAPs(ctx, p, vsctl); err != nil {
		return err
	}
	a, b := p.legs()
	if err := l.addresses(ctx, p, a, b); err != nil {
		return err
	}
	for _, side := range []leg{a, b} {
		for _, address := range []netip.Addr{side.v4, side.v6} {
			if err := ip(ctx, fmt.Sprintf("-n %s neighbor replace %v lladdr %s nud permanent dev eth0", side.namespace, address, gateway)); err != nil {
				return err
			}
		}
	}
	macA, errA := l.macOf(ctx, p.A)
	macB, errB := l.macOf(ctx, p.B)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	flows := "table=0,priority=0,actions=drop\n"
	for _, family := range []struct {
		name string
		as   netip.Addr
	}{{"ip", b.v4}, {"ipv6", b.v6}} {
		flows += fmt.Sprintf(`table=0,%[1]s,actions=ct(table=1,zone=1,nat)
table=1,%[1]s,in_port=1,ct_state=+trk+new,actions=ct(commit,zone=1,nat(src=%[2]v),table=2)
table=1,%[1]s,ct_state=+trk+est,actions=goto_table:2
table=2,%[1]s,in_port=1,actions=dec_ttl,mod_dl_src:%[3]s,mod_dl_dst:%[4]s,output:2
table=2,%[1]s,in_port=2,actions=dec_ttl,mod_dl_src:%[3]s,mod_dl_dst:%[5]s,output:1
`, family.name, family.as, gateway, macB, macA)
	}
	file := filepath.Join(l.dir, p.Name, "flows")
	if err := os.WriteFile(file, []byte(flows), 0o600); err != nil {
		return fmt.Errorf("write the flows of Open vSwitch: %w", err)
	}
	_, err = l.Output(ctx, "", "ovs-ofctl", "-O", "OpenFlow15", "replace-flows", "unix:"+filepath.Join(l.dir, p.Name, "br0.mgmt"), file)
	return err
}

// macOf returns the MAC of a container's eth0.
func (l *Lab) macOf(ctx context.Context, namespace string) (string, error) {
	out, err := l.Output(ctx, namespace, "cat", "/sys/class/net/eth0/address")
	return strings.TrimSpace(string(out)), err
}

// buildOVSXDP:  A eth0 ======== p0 (AF_XDP) ovs-vswitchd, netdev datapath (AF_XDP) p1 ======== eth0 B
//
// The containers' ends leave no checksum and no segmentation to offload: XDP sees frames before either is done.
func (l *Lab) buildOVSXDP(ctx context.Context, p *Peer) error {
	vsctl, err := l.startOVS(ctx, p)
	if err != nil {
		return err
	}
	for device, namespace := range map[string]string{"p0": p.A, "p1": p.B} {
		in := "-n " + p.switchSpace
		for _, command := range []string{
			in + " link add " + device + " numrxqueues 1 numtxqueues 1 type veth peer name eth0 numrxqueues 1 numtxqueues 1 netns " + namespace,
			in + " link set " + device + " up",
		} {
			if err := ip(ctx, command); err != nil {
				return err
			}
		}
		if _, err := l.Output(ctx, namespace, "ethtool", "-K", "eth0", "tx", "off"); err != nil {
			return err
		}
		if err := vsctl("add-port", "br0", device, "--", "set", "interface", device, "type=afxdp"); err != nil {
			return err
		}
	}
	return l.configureBoth(ctx, p)
}

// startOVS starts a database and a switch of their own in a namespace of their own, with one bridge, and returns how to
// configure it.
func (l *Lab) startOVS(ctx context.Context, p *Peer, config ...string) (vsctl func(args ...string) error, err error) {
	if p.switchSpace, err = l.namespace(ctx, p.Name+"-sw"); err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, p.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make Open vSwitch's directory: %w", err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	database := "unix:" + in("db.sock")
	env := []string{"OVS_RUNDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_DBDIR=" + dir}
	start := func(argv ...string) (*Child, error) {
		child, err := l.Start(context.Background(), p.switchSpace, env, append(argv, "--no-chdir", "-vconsole:err")...)
		if err != nil {
			return nil, err
		}
		l.onClose("stop "+argv[0]+" of "+p.Name, func(context.Context) error { child.Kill(); return nil })
		go child.drain()
		return child, nil
	}
	if _, err := l.Output(ctx, "", "ovsdb-tool", "create", in("conf.db"), ovsSchema); err != nil {
		return nil, err
	}
	if _, err := start("ovsdb-server", in("conf.db"), "--remote=p"+database, "--unixctl="+in("ovsdb.ctl")); err != nil {
		return nil, err
	}
	vsctl = func(args ...string) error {
		_, err := l.Output(ctx, "", append([]string{"ovs-vsctl", "--db=" + database, "--timeout=20"}, args...)...)
		return err
	}
	if err := await(ctx, func() bool { _, err := os.Stat(in("db.sock")); return err == nil }); err != nil {
		return nil, fmt.Errorf("wait for the database of Open vSwitch: %w", err)
	}
	err = vsctl("--no-wait", "init")
	for _, c := range config {
		err = errors.Join(err, vsctl("--no-wait", "set", "Open_vSwitch", ".", c))
	}
	if err != nil {
		return nil, err
	}
	if p.Switch, err = start("ovs-vswitchd", database, "--unixctl="+in("vswitchd.ctl")); err != nil {
		return nil, err
	}
	version, err := l.Output(ctx, "", "ovs-vswitchd", "--version")
	if err != nil {
		return nil, err
	}
	p.Version = firstLine(version)
	return vsctl, vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail-mode=standalone")
}

// await waits until something holds.
func await(ctx context.Context, holds func() bool) error {
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
