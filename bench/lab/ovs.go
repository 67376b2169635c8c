package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ovsPrograms are what the peers of Open vSwitch need.
var ovsPrograms = []string{"ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"}

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
	for tap, namespace := range map[string]string{"t0": p.A, "t1": p.B} {
		if err := vsctl("add-port", "br0", tap, "--", "set", "interface", tap, "type=tap"); err != nil {
			return err
		}
		if err := ip(ctx, fmt.Sprintf("-n %s link set %s netns %s name eth0", p.switchSpace, tap, namespace)); err != nil {
			return err
		}
	}
	return l.configureBoth(ctx, p)
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
	if err := await(ctx, in("db.sock")); err != nil {
		return nil, err
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

// await waits for a file.
func await(ctx context.Context, path string) error {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
