package uplink_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link/linktest"
	"vswitch/internal/uplink"
)

// TestRefusedKinds: interfaces that can't be shared are refused, with what to use instead.
func TestRefusedKinds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		words  string // of 'ip link add'
		member bool   // the refused interface is one that belongs to it
		want   string
	}{
		"wireguard":     {"no0 type wireguard", false, "no Ethernet header; share the Ethernet interface that its packets leave by"},
		"VRF":           {"no0 type vrf table 10", false, "it is a VRF, whose routes the switch doesn't follow; share an interface outside of it"},
		"member of VRF": {"vrf0 type vrf table 10", true, "it belongs to VRF vrf0, whose routes the switch doesn't follow; share an interface outside of it"},
		"bond's member": {"bond0 type bond mode active-backup", true, "it is a member of the bond bond0, which has the addresses; share bond0 instead"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			h := l.host.String()
			linktest.Make(t, h, c.words)
			if c.member {
				linktest.IP(t, "-n", h, "link", "add", "no0", "type", "veth", "peer", "name", "other")
				linktest.IP(t, "-n", h, "link", "set", "no0", "master", strings.Fields(c.words)[0])
			}
			l.isRefused("no0", c.want)
		})
	}
}

// TestPPPRefused: the interface of pppd has no Ethernet header.
func TestPPPRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const newUnit = 0xc004743e // PPPIOCNEWUNIT of linux/ppp-ioctl.h
	dev, err := os.OpenFile("/dev/ppp", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("VSWITCH_REQUIRE_KINDS") != "1" {
		t.Skip("this kernel has no PPP")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := l.host.Do(func() error { return unix.IoctlSetPointerInt(int(dev.Fd()), newUnit, -1) }); err != nil {
		t.Fatalf("make ppp0: %v", err)
	}
	l.isRefused("ppp0", "a device of type ppp has no Ethernet header; share the Ethernet interface that its packets leave by")
}

// isRefused expects that an interface can be neither shared nor have a station, and that nothing is left of the attempt.
func (l *lab) isRefused(ifname, want string) {
	l.t.Helper()
	before := l.fingerprint()
	l.cfg.Interface = ifname
	_, shared := uplink.Open(l.cfg, nil, uplink.Changes{})
	station := l.stationConfig()
	station.Interface = ifname
	_, dedicated := uplink.OpenStation(station, nil, uplink.Changes{})
	for mode, err := range map[string]error{"shared": shared, "dedicated": dedicated} {
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.CodeRefused || !strings.Contains(e.Detail, want) {
			l.t.Errorf("%s: %v; want %q in it", mode, err, want)
		}
	}
	l.unchanged(before)
}
