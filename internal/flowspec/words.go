package flowspec

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

func parseMAC(name, value string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(value)
	if err != nil || len(mac) != 6 {
		return nil, invalid("%s=%s: not a MAC address such as 02:42:ac:11:00:02", name, value)
	}
	return mac, nil
}

func parseAddr(name, value string, v6 bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(value)
	switch {
	case err != nil || ip.Zone() != "":
		return ip, invalid("%s=%s: not an IP address", name, value)
	case v6 && !ip.Is6():
		return ip, invalid("%s=%s: not an IPv6 address; use %s", name, value, strings.Replace(name, "ipv6_", "ip_", 1))
	case !v6 && !ip.Is4() && strings.HasPrefix(name, "arp"):
		return ip, invalid("%s=%s: not an IPv4 address; IPv6 has icmp6 in place of ARP", name, value)
	case !v6 && !ip.Is4():
		return ip, invalid("%s=%s: not an IPv4 address; use ipv6_%s", name, value, name[len(name)-3:])
	}
	return ip, nil
}

// setNumber reads a number, decimal or 0x..., or TCP flags or an ARP operation by name.
func (s *Spec) setNumber(f *field, name, value string) error {
	v, err := strconv.ParseUint(value, 0, 32)
	switch {
	case err == nil && v > uint64(f.max):
		return invalid("%s=%s: the largest is %d", name, value, f.max)
	case err != nil && f.num == tcpFlags:
		if v, err = parseFlags(value); err != nil {
			return err
		}
	case err != nil && f.num == arpOp && value == "request":
		v = 1
	case err != nil && f.num == arpOp && value == "reply":
		v = 2
	case err != nil:
		return invalid("%s=%s: not a number", name, value)
	case f.num == ethType && v < 0x600 && v != noEtherType:
		return invalid("%s=%s: an EtherType is 0x0600 or more; 0x05ff stands for frames that have none", name, value)
	}
	s.put(f.num, uint32(v))
	return nil
}

// tcpFlagNames are the bits of TCP's flags, lowest first.
var tcpFlagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

// parseFlags reads syn|ack, or +syn-ack, where what is not named is not set.
func parseFlags(value string) (flags uint64, err error) {
	rest := value
	for rest != "" {
		set := rest[0] != '-'
		rest = strings.TrimLeft(rest, "+-|")
		n := strings.IndexAny(rest, "+-|")
		if n < 0 {
			n = len(rest)
		}
		bit := -1
		for i, name := range tcpFlagNames {
			if name == rest[:n] {
				bit = i
			}
		}
		if bit < 0 {
			return 0, invalid("tcp_flags=%s: %q is no flag; the flags are %s, joined as in syn|ack or +syn-ack",
				value, rest[:n], strings.Join(tcpFlagNames, ", "))
		}
		if flags &^= 1 << bit; set {
			flags |= 1 << bit
		}
		rest = rest[n:]
	}
	return flags, nil
}

// unknownWord is the error for a word that is not in the grammar; it names the nearest one that is.
func unknownWord(word string) error {
	best, distance := "", min(3, 1+(len(word)+1)/3) // farther off is no suggestion
	try := func(name string) {
		if d := editDistance(word, name); name != "" && d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	for _, f := range fields {
		try(f.name)
		try(f.alias)
	}
	for _, k := range keywords {
		try(k.name)
	}
	for _, f := range fields {
		if best == "" && len(word) > 2 && strings.HasPrefix(f.name, word) {
			best = f.name
		}
	}
	if best == "" {
		return invalid("%q is no field: 'vsctl trace --help' lists all of them", word)
	}
	return invalid("%q is no field: did you mean %s?", word, best)
}

// Words returns the words of the grammar, without OVS's other names for them.
func Words() (names []string) {
	for _, f := range fields {
		names = append(names, f.name)
	}
	for _, k := range keywords {
		names = append(names, k.name)
	}
	return names
}

// editDistance counts the letters to insert, delete, replace or swap to make a of b. Long words are far from all.
func editDistance(a, b string) int {
	const most = 32
	if len(a) > most || len(b) > most {
		return most
	}
	var d [most + 1][most + 1]int
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			if i == 0 || j == 0 {
				d[i][j] = i + j
				continue
			}
			cost := 0
			if a[i-1] != b[j-1] {
				cost = 1
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
