package packet

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"unsafe"
)

// VLAN fields of a Key hold a VLAN id and whether the tag is there at all.
const (
	VLANMask    = 0x0fff
	VLANPresent = 0x1000
	vlanService = 0x2000 // inner field only: the frame's outermost tag is not 802.1Q
)

// KeySize is the size of a Key in bytes.
const KeySize = 72

// Key is the identity of a flow: all that a decision may depend on, apart from Flags and sizes. It has neither pointers nor
// padding, so it is compared and hashed as memory.
type Key struct {
	Src, Dst  [16]byte // IP addresses, IPv4 as its first four bytes; ARP: sender's and target's protocol address
	InPort    PortID   // ingress; set by who reads, kept by Parse
	VNI       uint32   // tunnel of the ingress; 0 none
	Remote    uint32   // index of the remote VTEP; 0 none
	DstMAC    [6]byte
	SrcMAC    [6]byte
	VLAN      uint16 // outermost 802.1Q tag: VLANPresent|id, or 0
	Inner     uint16 // next tag, opaque to us
	EtherType uint16 // behind all tags; 0 for 802.3 length fields
	SrcPort   uint16 // TCP, UDP, SCTP source port; ICMP: type<<8|code; ARP: operation
	DstPort   uint16 // destination port; ICMP echo: id
	Proto     uint8  // IP protocol, last of the extension headers' chain
	Reserved  uint8  // 0; has a name, so that == compares plain memory
	Mark      uint32 // reserved for rules; 0
}

// The array has a negative length, and so does not compile, when the size is not as stated.
var (
	_ [KeySize - unsafe.Sizeof(Key{})]byte
	_ [unsafe.Sizeof(Key{}) - KeySize]byte
)

// L2 returns the key with everything above Ethernet zero: all frames of one EtherType between two MACs share it.
func (k *Key) L2() Key {
	return Key{
		InPort: k.InPort, VNI: k.VNI, Remote: k.Remote, DstMAC: k.DstMAC, SrcMAC: k.SrcMAC,
		VLAN: k.VLAN, Inner: k.Inner, EtherType: k.EtherType, Mark: k.Mark,
	}
}

// SameL2 tells whether k.L2() is l2.
func (k *Key) SameL2(l2 *Key) bool {
	return k.InPort == l2.InPort && k.VNI == l2.VNI && k.Remote == l2.Remote && k.DstMAC == l2.DstMAC && k.SrcMAC == l2.SrcMAC &&
		k.VLAN == l2.VLAN && k.Inner == l2.Inner && k.EtherType == l2.EtherType && k.Mark == l2.Mark
}

// SrcAddr and DstAddr return the addresses for people; not for the fast path. Invalid when the frame has none.
func (k *Key) SrcAddr() netip.Addr { return k.addr(&k.Src) }

// DstAddr is SrcAddr's twin.
func (k *Key) DstAddr() netip.Addr { return k.addr(&k.Dst) }

func (k *Key) addr(a *[16]byte) netip.Addr {
	switch k.EtherType {
	case EtherTypeIPv4, EtherTypeARP:
		return netip.AddrFrom4([4]byte(a[:4]))
	case EtherTypeIPv6:
		return netip.AddrFrom16(*a)
	}
	return netip.Addr{}
}

// seeds make hash values differ from run to run, so that nobody can aim at one bucket. Each word that is hashed has a secret
// of its own: a factor that a sender can make zero would hide the other one.
var seeds = newSeeds()

func newSeeds() (s [KeySize/8 + 2]uint64) {
	var b [8]byte
	for i := range s {
		rand.Read(b[:])
		s[i] = binary.LittleEndian.Uint64(b[:])
	}
	return s
}

// Hash mixes the nine words of the key by 64x64->128 multiplications (as wyhash does), each word by two: after one alone, ports in
// sequence stay a lattice, which with some secrets has few places.
func (k *Key) Hash() uint64 {
	w, s := (*[KeySize / 8]uint64)(unsafe.Pointer(k)), &seeds
	h0, l0 := bits.Mul64(w[0]^s[0], w[1]^s[1])
	h1, l1 := bits.Mul64(w[2]^s[2], w[3]^s[3])
	h2, l2 := bits.Mul64(w[4]^s[4], w[5]^s[5])
	h3, l3 := bits.Mul64(w[6]^s[6], w[7]^s[7])
	h4, l4 := bits.Mul64(w[8]^s[8], s[9])
	h5, l5 := bits.Mul64(h0^l0^h1^l1^h4^l4, h2^l2^h3^l3^s[10])
	return h5 ^ l5
}

// HashBytes mixes a short byte string, for tables keyed by addresses.
func HashBytes(b []byte) uint64 { return HashSeeded((*[3]uint64)(seeds[:3]), b) }

// HashSeeded is HashBytes with a secret of the caller's: the same values from run to run.
func HashSeeded(secret *[3]uint64, b []byte) uint64 {
	h := secret[0] ^ uint64(len(b))
	for len(b) >= 8 {
		hi, lo := bits.Mul64(h^binary.LittleEndian.Uint64(b), secret[1])
		h, b = hi^lo, b[8:]
	}
	var t uint64
	for i, c := range b {
		t |= uint64(c) << (8 * i)
	}
	hi, lo := bits.Mul64(h^t, secret[2])
	return hi ^ lo
}
