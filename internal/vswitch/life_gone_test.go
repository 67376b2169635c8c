package vswitch_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

var portTypes = []string{"tap", "veth"}

// pingAlways pings the address all the time, whether it answers or not, until the test ends.
func pingAlways(t *testing.T, from *netnstest.Container, addr string) {
	t.Helper()
	cmd := exec.Command("ping", "-q", "-i0.001", addr)
	if err := from.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// freed: the port is gone with an event, and its name and address can be had again.
func freed(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon, from *netnstest.Container, typ string) {
	t.Helper()
	waitEvent(t, lab, d, "port.gone", "b")
	d.Refused(1, "no port", "del-port", "b")
	c := lab.Container("c")
	d.Join("net1", "b", c, "--type", typ, "--ip", b4)
	ping(lab, from, b4)
	d.Must("del-port", "b")
	calm(t, lab, d)
}

// TestNamespaceDeleted: under traffic, and while the daemon is away.
//
//	a eth0 ===ping===> net1 --- eth0 b, whose namespace goes
func TestNamespaceDeleted(t *testing.T) {
	for _, typ := range portTypes {
		for name, away := range map[string]func(*netnstest.Daemon){"up": nil, "stopped": (*netnstest.Daemon).Stop, "killed": (*netnstest.Daemon).Kill} {
			t.Run(typ+" "+name, func(t *testing.T) {
				t.Parallel()
				lab := netnstest.New(t)
				d := lab.Daemon()
				a, b := pairOf(lab, d, "tap", typ)
				pingAlways(t, a, b4)
				ping(lab, a, b4)
				if away != nil {
					away(d)
				}
				b.Delete()
				if away != nil {
					d.Start()
				}
				freed(t, lab, d, a, typ)
			})
		}
	}
}

// TestNamespaceReplaced: another namespace of the same name is not the container that had the port.
func TestNamespaceReplaced(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon("--fdstore", "none")
			a, b := pairOf(lab, d, "tap", typ)
			d.Kill()
			// The old one lives on under another path: the kernel won't give its number to the new one.
			keep := b.Path + "-old"
			for _, args := range [][]string{{"mount", "--bind", b.Path, keep}, {"umount", b.Path}, {"rm", b.Path}, {"ip", "netns", "add", b.Name}} {
				if args[0] == "mount" {
					if err := os.WriteFile(keep, nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v %s", args, err, out)
				}
			}
			d.Start()
			if len(b.Links()) != 0 {
				t.Error("the new namespace was given the port")
			}
			ping(lab, a, b4) // it is found where it is
			if got := portOf(t, d, "b").Status.State; got != api.StateUp {
				t.Errorf("state %s", got)
			}
			if out, err := exec.Command("ip", "netns", "del", filepath.Base(keep)).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			freed(t, lab, d, a, typ)
		})
	}
}

// TestReboot: nothing is left but the state.
func TestReboot(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Allow("the keeper went away")
	a, b := pairOf(lab, d, "tap", "veth")
	killKeeper(t, d)
	d.Kill()
	a.Delete()
	b.Delete()
	d.Start()
	for _, name := range []string{"a", "b"} {
		if got := events(t, d, name); !slices.Equal(got, []string{"port.gone"}) {
			t.Errorf("events of %s: %v", name, got)
		}
	}
	x, y := lab.Container("x"), lab.Container("y")
	d.Join("net1", "a", x, "--ip", a4)
	d.Join("net1", "b", y, "--ip", b4)
	ping(lab, x, b4)
}

// TestInterfaceDeleted: somebody in the container deletes eth0 under traffic.
func TestInterfaceDeleted(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, "tap", typ)
			pingAlways(t, a, b4)
			ping(lab, a, b4)
			b.IP("link del eth0")
			freed(t, lab, d, a, typ)
		})
	}
}

// TestInterfaceChanged: eth0 is set down and up, renamed and moved by its owner, under traffic from both sides.
//
//	a eth0 <===ping===> net1 --- eth0 b -> net9 b -> net9 elsewhere
func TestInterfaceChanged(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, "tap", typ)
			elsewhere := lab.Container("elsewhere")
			pingAlways(t, a, b4)
			ping(lab, a, b4)
			state := func(want string) {
				t.Helper()
				lab.Eventually("state "+want, func() bool { return portOf(t, d, "b").Status.State == want })
				calm(t, lab, d)
			}
			b.IP("link set eth0 down")
			state(api.StateDown)
			b.IP("link set eth0 name net9")
			b.IP("link set net9 up")
			state(api.StateUp)
			if got := portOf(t, d, "b").IfName; got != "net9" {
				t.Errorf("interface is called %s, want net9", got)
			}
			ping(lab, a, b4)
			if typ == "tap" { // the new name is known to a start that has to look for it
				d.Allow("the keeper went away")
				killKeeper(t, d)
			}
			d.Kill()
			d.Start()
			ping(lab, a, b4)

			b.IP("link set net9 netns " + elsewhere.Name)
			elsewhere.IP("addr add " + b4 + "/24 dev net9")
			elsewhere.IP("link set net9 up")
			ping(lab, a, b4)
			waitEvent(t, lab, d, "port.moved", "b")
			calm(t, lab, d)
			p := portOf(t, d, "b")
			if p.Netns.Spec != elsewhere.Name || p.Status.State != api.StateUp || p.Status.Error != "" {
				t.Errorf("moved to %+v, status %+v", p.Netns, p.Status)
			}
			d.Kill()
			d.Start()
			ping(lab, a, b4)
			elsewhere.Delete()
			waitEvent(t, lab, d, "port.gone", "b")
			calm(t, lab, d)
		})
	}
}

// TestProcessDies: the process whose namespace was asked for ends before its port is made, and while it is.
func TestProcessDies(t *testing.T) {
	for _, typ := range portTypes {
		for _, point := range []string{"add.planned", "attach.created", "attach.kept", "attach.placed"} {
			t.Run(typ+" "+point, func(t *testing.T) {
				t.Parallel()
				lab := netnstest.New(t)
				d := lab.NewDaemon()
				fifo := filepath.Join(filepath.Dir(d.State), "fifo")
				if err := syscall.Mkfifo(fifo, 0o600); err != nil {
					t.Fatal(err)
				}
				d.Env = []string{"VSWITCH_FAILPOINT=" + point + ":wait=" + fifo}
				d.Start()
				d.Must("add-network", "net1", "--subnet", subnet4)
				victim := exec.Command("cat")
				victim.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
				in, err := victim.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := victim.Start(); err != nil {
					t.Fatal(err)
				}
				added := make(chan netnstest.Result)
				go func() {
					added <- d.Vsctl("add-port", "net1", "b", "--pid", strconv.Itoa(victim.Process.Pid), "--type", typ, "--ip", b4)
				}()
				reached := openFIFO(t, fifo)
				in.Close()
				_ = victim.Wait()
				reached.Close()
				if r := <-added; r.Code == 0 { // the daemon held the namespace a little longer than its process did
					waitEvent(t, lab, d, "port.gone", "b")
				}
				d.Stop()
				d.Env = nil
				d.Start()
				c := lab.Container("c")
				d.Join("net1", "b", c, "--type", typ, "--ip", b4)
				d.Must("del-port", "b")
			})
		}
	}
}
