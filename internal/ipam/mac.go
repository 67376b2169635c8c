package ipam

import (
	"fmt"
	"io"
	"net"
	"net/netip"

	"vswitch/internal/api"
)

// What a user may ask for instead of a MAC address.
const (
	MACRandom = "random"
	MACFromIP = "from-ip"
)

// ChooseMAC returns the MAC address of a port that has the addresses ips: the one asked for, a random one, or one made from
// its first IPv4 address. asked "" means the last, and random when there is no IPv4 address. Errors are those of ParseMAC.
func ChooseMAC(asked string, ips []netip.Prefix, random io.Reader) ([6]byte, error) {
	switch asked {
	case MACRandom:
		return randomMAC(random)
	case "", MACFromIP:
		for _, p := range ips {
			if p.Addr().Is4() {
				return MACFromIPv4(p.Addr()), nil
			}
		}
		if asked == MACFromIP {
			return [6]byte{}, api.Errorf(api.CodeInvalid, "the port has no IPv4 address to make a MAC address from: name one, or ask for %q", MACRandom)
		}
		return randomMAC(random)
	}
	return ParseMAC(asked)
}

// MACFromIPv4 returns 02:42 and the address, as Docker's bridge long did: unique where the address is, and told at a glance.
func MACFromIPv4(a netip.Addr) [6]byte {
	b := a.As4()
	return [6]byte{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// randomMAC returns a locally administered unicast address.
func randomMAC(random io.Reader) (mac [6]byte, err error) {
	if _, err := io.ReadFull(random, mac[:]); err != nil {
		return mac, fmt.Errorf("choose a random MAC address: %w", err)
	}
	mac[0] = mac[0]&^1 | 2
	return mac, nil
}

// ParseMAC reads an Ethernet address that one interface can have. Errors are *api.Error with CodeInvalid.
func ParseMAC(s string) (mac [6]byte, err error) {
	hw, err := net.ParseMAC(s)
	switch {
	case err != nil || len(hw) != 6:
		return mac, api.Errorf(api.CodeInvalid, "MAC address %.40q is malformed: write six bytes such as 02:42:ac:11:00:02", s)
	case hw[0]&1 != 0:
		return mac, api.Errorf(api.CodeInvalid, "MAC address %s is a group address (its first byte is odd): an interface needs a unicast one, such as 02:42:ac:11:00:02", hw)
	}
	mac = [6]byte(hw)
	if mac == [6]byte{} {
		return mac, api.Errorf(api.CodeInvalid, "MAC address %s is all zero: an interface needs one such as 02:42:ac:11:00:02", hw)
	}
	return mac, nil
}
