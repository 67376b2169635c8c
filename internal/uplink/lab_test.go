package uplink_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/fdstore"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/port/tap"
	"vswitch/internal/uplink"
)

// The lab's networks. The container stands for the switch: it has the host's own addresses, so that nothing needs translation.
//
//	 container              host                    outside
//	eth0 === pump === vs-ID     up0 ------------- eth0   lo: 198.51.100.9, 2001:db8:9::9
//	192.0.2.2               192.0.2.2 2001:db8:1::2   192.0.2.1 2001:db8:1::1
type lab struct {
	t                        *testing.T
	host, outside, container *link.Namespace
	private                  *link.Namespace
	store                    *store
	recorded                 uplink.Changes // what was written down last
	cfg                      uplink.Config
}

var _ uplink.Store = fdstore.Store(nil)

var (
	hostAddrs    = []string{"192.0.2.2", "2001:db8:1::2"}
	gateways     = []string{"192.0.2.1", "2001:db8:1::1"}
	outsideAddrs = []string{"198.51.100.9", "2001:db8:9::9"} // behind the gateways
)

const patience = linktest.Patience

const hostMAC, gatewayMAC = "02:00:00:00:00:02", "02:00:00:00:00:01"

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		t: t, host: linktest.Namespace(t), outside: linktest.Namespace(t), container: linktest.Namespace(t), private: linktest.Private(t),
		store: &store{fds: make(map[string]int)},
	}
	t.Cleanup(l.store.close)
	l.cfg = uplink.Config{
		ID: linktest.Name(), Interface: "up0", Host: l.host, Store: l.store,
		Record: func(c uplink.Changes) error { l.recorded = c; return nil },
	}
	h, o := l.host.String(), l.outside.String()
	linktest.IP(t, "-n", h, "link", "add", "up0", "address", hostMAC, "type", "veth", "peer", "name", "eth0", "address", gatewayMAC, "netns", o)
	for i := range hostAddrs {
		linktest.IP(t, "-n", h, "addr", "add", hostAddrs[i]+prefixLen(i), "dev", "up0", "nodad")
		linktest.IP(t, "-n", o, "addr", "add", gateways[i]+prefixLen(i), "dev", "eth0", "nodad")
		linktest.IP(t, "-n", o, "addr", "add", outsideAddrs[i], "dev", "lo", "nodad")
	}
	for ns, dev := range map[string]string{h: "up0", o: "eth0"} {
		linktest.IP(t, "-n", ns, "link", "set", "lo", "up")
		linktest.IP(t, "-n", ns, "link", "set", dev, "addrgenmode", "none") // no link-local addresses that come later
		linktest.IP(t, "-n", ns, "link", "set", dev, "up")
	}
	linktest.Eventually(t, "up0 has a carrier", func() bool {
		return strings.Contains(linktest.IP(t, "-n", h, "link", "show", "up0"), "state UP")
	})
	for ns, addr := range map[string]string{h: hostAddrs[1], o: gateways[1]} {
		linktest.Eventually(t, addr+" is local", func() bool { // the kernel sees to it by and by
			return strings.Contains(linktest.IP(t, "-n", ns, "-6", "route", "show", "table", "local"), "local "+addr+" ")
		})
	}
	for _, gateway := range gateways {
		linktest.IP(t, "-n", h, "route", "add", "default", "via", gateway)
	}
	return l
}

func prefixLen(i int) string { return []string{"/24", "/64"}[i] }

// open opens the uplink with what is in the store.
func (l *lab) open() *uplink.Uplink {
	l.t.Helper()
	u, err := uplink.Open(l.cfg, l.store.take(), l.recorded)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = u.Remove() })
	return u
}

// follow runs the uplink until the test ends, or stop is called.
func (l *lab) follow(u *uplink.Uplink) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := u.Run(ctx, func(uplink.State) {}); err != nil {
			l.t.Error(err)
		}
	})
	stop = func() {
		cancel()
		done.Wait()
	}
	l.t.Cleanup(stop)
	return stop
}

// attach makes the container's port. Its gateways have a MAC that doesn't exist: no frame may leave the host with it.
func (l *lab) attach() *tap.Tap {
	l.t.Helper()
	c := l.container.String()
	p := linktest.TAP(l.t, l.private, l.container, netip.MustParsePrefix(hostAddrs[0]+"/24"), netip.MustParsePrefix(hostAddrs[1]+"/64"))
	linktest.IP(l.t, "-n", c, "link", "set", "eth0", "address", hostMAC)
	for _, gateway := range gateways {
		linktest.IP(l.t, "-n", c, "neigh", "replace", gateway, "lladdr", "02:bb:bb:bb:bb:bb", "dev", "eth0", "nud", "permanent")
		linktest.IP(l.t, "-n", c, "route", "replace", "default", "via", gateway)
	}
	return p
}

// listen serves one connection after the other in ns: it returns all that the client sends.
func (l *lab) echo(ns *link.Namespace, addr string, port int) {
	l.t.Helper()
	var s net.Listener
	err := ns.Do(func() (err error) {
		s, err = net.Listen("tcp", net.JoinHostPort(addr, fmt.Sprint(port)))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// dial connects from ns, from a port of its own choice where from is 0.
func dial(ns *link.Namespace, from int, addr string, port int, within time.Duration) (net.Conn, error) {
	var c net.Conn
	err := ns.Do(func() (err error) {
		d := net.Dialer{Timeout: within}
		if from != 0 {
			d.LocalAddr = &net.TCPAddr{Port: from}
		}
		c, err = d.Dial("tcp", net.JoinHostPort(addr, fmt.Sprint(port)))
		return err
	})
	return c, err
}

// exchange sends size bytes and wants them back.
func exchange(c net.Conn, size int) error {
	sent := make([]byte, size)
	_, _ = rand.Read(sent)
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, size)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !slices.Equal(sent, got) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

// talks fails the test unless a connection carries some megabytes both ways.
func (l *lab) talks(what string, ns *link.Namespace, from int, addr string, port int) {
	l.t.Helper()
	c, err := dial(ns, from, addr, port, patience)
	if err == nil {
		err = exchange(c, 2<<20)
		_ = c.Close()
	}
	if err != nil {
		l.t.Errorf("%s: %v", what, err)
	}
}

// refused fails the test unless a RST answers at once.
func (l *lab) refused(what, addr string, port int) {
	l.t.Helper()
	if c, err := dial(l.outside, 0, addr, port, patience); !errors.Is(err, unix.ECONNREFUSED) {
		l.t.Errorf("%s: %v, want a refusal", what, err)
		if err == nil {
			_ = c.Close()
		}
	}
}

// silent fails the test unless nobody answers.
func (l *lab) silent(what, addr string, port int) {
	l.t.Helper()
	c, err := dial(l.outside, 0, addr, port, 300*time.Millisecond)
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		l.t.Errorf("%s: %v, want silence", what, err)
		if err == nil {
			_ = c.Close()
		}
	}
}

// linkwatch is what the kernel says of links some time after they changed.
var linkwatch = regexp.MustCompile(`NO-CARRIER,|,LOWER_UP|,M-DOWN| state [A-Z]+| linkdown`)

// fingerprint is all of the host that an uplink may have changed.
func (l *lab) fingerprint() string {
	l.t.Helper()
	h := l.host.String()
	var b strings.Builder
	for _, line := range []string{
		"ip -details link", "ip addr", "ip route show table all", "ip -6 route show table all", "ip rule", "tc qdisc",
		"tc filter show dev up0 ingress", "ethtool -k up0",
	} {
		args := append([]string{"netns", "exec", h}, strings.Fields(line)...)
		out, err := exec.Command("ip", args...).Output() // without what ip says of a peer in another namespace
		if err != nil {
			l.t.Fatalf("%s: %v", line, err)
		}
		b.Write(linkwatch.ReplaceAll(out, nil))
	}
	err := l.host.Do(func() error {
		for _, dir := range []string{"ipv4", "ipv6", "core", "ipv4/conf/*", "ipv6/conf/*"} {
			files, err := filepath.Glob("/proc/sys/net/" + dir + "/*")
			if err != nil {
				return err
			}
			for _, f := range files {
				if strings.HasSuffix(f, "congestion_control") { // the machine's: others change it
					continue
				}
				if text, err := os.ReadFile(f); err == nil { // some are for writing only
					fmt.Fprintf(&b, "%s = %s", f[strings.Index(f, "/net/"):], text)
				}
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return b.String()
}

// standInForLRO lets another feature of up0 stand for large receive offload, and switches it on.
func (l *lab) standInForLRO() {
	l.t.Helper()
	l.cfg.WithLRO("rx-gro")
	if out, err := command(l.host, "ethtool", "-K", "up0", "gro", "on"); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
}

// command runs a program in ns.
func command(ns *link.Namespace, name string, args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", ns.String(), name}, args...)...).CombinedOutput()
	return string(out), err
}
