package vswitch_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// announcements returns the next two gratuitous ARPs or unsolicited advertisements that come in, sorted: "ADDRESS is at MAC".
func announcements(s *netnstest.PacketSocket) (list []string) {
	for len(list) < 2 {
		var addr []byte
		f := s.Find(netnstest.Patience, func(f []byte) bool {
			switch {
			case bytes.Equal(f[12:14], []byte{8, 6}) && bytes.Equal(f[28:32], f[38:42]) && !bytes.Equal(f[28:32], make([]byte, 4)): // else a loop probe
				addr = f[28:32]
			case len(f) >= 86 && f[12] == 0x86 && f[54] == 136 && bytes.Equal(f[80:86], f[6:12]):
				addr = f[62:78]
			default:
				return false
			}
			return true
		})
		if f == nil {
			break
		}
		ip, _ := netip.AddrFromSlice(addr)
		list = append(list, ip.String()+" is at "+net.HardwareAddr(f[6:12]).String())
	}
	slices.Sort(list)
	return list
}

// TestAnnounce: a new port is known to the switch at once. Others are told by gratuitous ARP and unsolicited advertisement, but only where
// they may know its addresses by another MAC: from an earlier port, or from before the daemon's time.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
			a, b := lab.Container("a"), lab.Container("b")
			d.Join("net1", "a", a, "--type", typ)
			sniffer := a.PacketSocket("eth0")
			heard := func(mac string, addrs ...string) {
				t.Helper()
				for i := range addrs {
					addrs[i] += " is at " + mac
				}
				if got := announcements(sniffer); !slices.Equal(got, addrs) {
					t.Errorf("heard %q, want %q", got, addrs)
				}
			}
			d.Join("net1", "b", b, "--type", typ)
			rows := netnstest.Get[[]api.FDBEntry](d, "fdb", "net1")
			if !slices.ContainsFunc(rows, func(e api.FDBEntry) bool { return e.MAC == b.MAC() && e.Port == "b" }) {
				t.Errorf("a new port's MAC is not known: %+v", rows)
			}
			d.Must("del-port", "b")
			d.Join("net1", "b", b, "--type", typ, "--ip", b4, "--ip", b6, "--mac", "02:00:00:00:00:0b")
			heard("02:00:00:00:00:0b", b4, b6)
			d.Must("set-port", "b", "--mac", "02:00:00:00:00:0c")
			heard("02:00:00:00:00:0c", b4, b6)
			d.Kill()
			d.Start()
			d.Must("del-port", "b")
			d.Join("net1", "b", b, "--type", typ, "--ip", "10.9.0.77", "--ip", "fd00:9::77", "--mac", "02:00:00:00:00:0d")
			heard("02:00:00:00:00:0d", "10.9.0.77", "fd00:9::77")
			netnstest.ExpectNoErrors(a)
		})
	}
}
