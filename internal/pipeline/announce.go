package pipeline

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// maxTold is how many addresses of a network are remembered: more than it can have ports.
const maxTold = 1 << 16

// told is which addresses the stations of a network may know. Who joins with one that nobody can know need not be announced: on a network
// with n ports that would be n copies for each, and is the most that a port costs. Whoever had an address before may have said
// that it is at any MAC, so its next owner is always announced.
//
//	set      addresses of ports, also of those that are gone
//	writes   control verbs
//	limits   maxTold addresses; then any may be known
//	safety   one mutex
//
// The zero value is a network where nobody knows anything.
type told struct {
	mu    sync.Mutex
	addrs map[netip.Addr]struct{}
	any   bool // somebody may know any address; addrs is nil
}

// add notes that somebody has the address, and returns whether others may know it already.
func (t *told) add(addr netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.addrs[addr]; known || t.any {
		return true
	}
	if len(t.addrs) == maxTold {
		t.addrs, t.any = nil, true
		return true
	}
	if t.addrs == nil {
		t.addrs = map[netip.Addr]struct{}{}
	}
	t.addrs[addr] = struct{}{}
	return false
}

// Stranger notes that there is a station whose addresses, or whose neighbors', are not known here: one to which the switch gives none, or that
// is from before the time of this Network.
func (n *Network) Stranger() {
	n.told.mu.Lock()
	defer n.told.mu.Unlock()
	n.told.addrs, n.told.any = nil, true
}

// Announce lets the network know where the addresses of a port are: its table of MACs and its gateway at once. It returns what
// has waited for them, and the frames that the port has to send where stations may know an address already, or a bridge of theirs the
// MAC behind another port.
func (n *Network) Announce(id packet.PortID, mac [6]byte, addrs []netip.Addr, now int64) (frames [][]byte, waited *flow.Made) {
	conf := n.Bridge.Snapshot().Port(id)
	if conf == nil {
		return nil, nil
	}
	vlan, _ := conf.Member.Ingress(0)
	what, _ := n.Bridge.FDB().Peek(vlan, mac, id, now)
	for _, a := range addrs {
		if n.told.add(a) || what.Elsewhere() {
			frames = append(frames, Announcement(mac, a))
		}
	}
	if what.Elsewhere() {
		return frames, nil // its own frame moves it, or shows a loop
	}
	n.Bridge.FDB().Learn(vlan, mac, id, now)
	gw := n.gateway.Load()
	if gw == nil || vlan != 0 {
		return frames, nil
	}
	var v flow.Verdict
	for _, a := range addrs {
		for _, f := range gw.Router.Neighbors().Hear(gw.If, router.Saying{Addr: a, MAC: mac, Override: true}, now) {
			v.Make(&flow.Made{Frame: f})
		}
	}
	return frames, v.Made
}

// Announcement tells everybody in the VLAN that mac has addr: gratuitousARP, or unsolicitedNA.
func Announcement(mac [6]byte, addr netip.Addr) []byte {
	if addr.Is4() {
		return gratuitousARP(mac, addr)
	}
	return unsolicitedNA(mac, addr)
}

// gratuitousARP returns an ARP announcement of addr (RFC 5227 2.3), 60 bytes with padding: everybody in the VLAN learns at
// once where mac is, and replaces what it knew of addr.
func gratuitousARP(mac [6]byte, addr netip.Addr) []byte {
	b := make([]byte, 60)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(b[6:], mac[:])
	binary.BigEndian.PutUint16(b[12:], packet.EtherTypeARP)
	copy(b[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1}) // Ethernet, IPv4, lengths, request
	a := addr.As4()
	copy(b[22:], mac[:])
	copy(b[28:], a[:])
	copy(b[38:], a[:])
	return b
}

// unsolicitedNA returns an unsolicited neighbor advertisement of addr to all nodes (RFC 4861 7.2.6), with the override flag
// and mac as target link-layer address.
func unsolicitedNA(mac [6]byte, addr netip.Addr) []byte {
	const l4 = 14 + 40
	b := make([]byte, l4+32)
	copy(b, []byte{0x33, 0x33, 0, 0, 0, 1})
	copy(b[6:], mac[:])
	binary.BigEndian.PutUint16(b[12:], packet.EtherTypeIPv6)
	b[14] = 0x60
	binary.BigEndian.PutUint16(b[18:], 32)
	b[20], b[21] = packet.ProtoICMPv6, 255
	src := addr.As16()
	copy(b[22:], src[:])
	copy(b[38:], []byte{0xff, 0x02, 15: 1})
	b[l4] = 136
	b[l4+4] = 0x20 // override
	copy(b[l4+8:], src[:])
	b[l4+24], b[l4+25] = 2, 1
	copy(b[l4+26:], mac[:])
	sum := packet.Fold(packet.Sum(b[l4:], packet.PseudoSum(b[22:38], b[38:54], packet.ProtoICMPv6, 32)))
	binary.BigEndian.PutUint16(b[l4+2:], ^sum)
	return b
}
