package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Table names a part of the steering bitmap: its value is where the part begins, in bytes. Each has a bit for each of 65536 numbers.
type Table uint32

// The tables: destination ports of the three protocols, and the identifiers of ICMP and ICMPv6 echo.
const (
	TCP  Table = iota * portSetLen
	UDP  Table = iota * portSetLen
	Echo Table = iota * portSetLen
	SCTP Table = iota * portSetLen

	portSetLen = 65536 / 8
	bitmapLen  = 4 * portSetLen
)

// maxSteeredAddrs is how many addresses of an interface can be shared.
const maxSteeredAddrs = 1024

// PortSet is a set of port numbers: bit p%32 of word p/32 stands for p.
type PortSet [portSetLen / 4]uint32

// Add puts p into the set.
func (s *PortSet) Add(p uint16) { s[p/32] |= 1 << (p % 32) }

// AddRange puts first to last into the set.
func (s *PortSet) AddRange(first, last uint16) {
	for p := uint32(first); p <= uint32(last); p++ {
		s.Add(uint16(p))
	}
}

// Remove takes p out of the set.
func (s *PortSet) Remove(p uint16) { s[p/32] &^= 1 << (p % 32) }

// Has tells whether p is in the set.
func (s *PortSet) Has(p uint16) bool { return s[p/32]&(1<<(p%32)) != 0 }

// Steering says which frames that reach a shared interface are the switch's: a set of addresses, and a bitmap of ports and echo
// identifiers that is shared with the program in the kernel by memory, so that a change is one atomic operation and no system call.
// The methods on the bitmap are safe for concurrent use, but not beside or after Close.
type Steering struct {
	*Gate       // for those of them that are SYNs
	bits, addrs *ebpf.Map
	memory      []byte   // of bits
	words       []uint32 // the same
}

// NewSteering makes one that steers nothing.
func NewSteering() (*Steering, error) {
	bits, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "vswitch_bits", Type: ebpf.Array, KeySize: 4, ValueSize: bitmapLen, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, fmt.Errorf("make the steering bitmap: %w", err)
	}
	addrs, err := ebpf.NewMap(&ebpf.MapSpec{Name: "vswitch_addrs", Type: ebpf.Hash, KeySize: 16, ValueSize: 1, MaxEntries: maxSteeredAddrs})
	if err != nil {
		_ = bits.Close()
		return nil, fmt.Errorf("make the set of steered addresses: %w", err)
	}
	return newSteering(bits, addrs)
}

// AdoptSteering goes on with the maps whose fds an earlier process stored, and a Gate of its own. The fds are the Steering's from then on, even when it
// fails.
func AdoptSteering(bitsFD, addrsFD int) (*Steering, error) {
	bits, err := ebpf.NewMapFromFD(bitsFD)
	addrs, err2 := ebpf.NewMapFromFD(addrsFD)
	if err = errors.Join(err, err2); err == nil && (bits.ValueSize() != bitmapLen || addrs.KeySize() != 16 || addrs.ValueSize() != 1) {
		err = errors.New("they are of another shape")
	}
	if err != nil {
		err = fmt.Errorf("take over the maps of a shared interface: %w", err)
		if bits != nil {
			_ = bits.Close()
		}
		if addrs != nil {
			_ = addrs.Close()
		}
		return nil, err
	}
	return newSteering(bits, addrs)
}

func newSteering(bits, addrs *ebpf.Map) (*Steering, error) {
	s := &Steering{bits: bits, addrs: addrs}
	var err error
	if s.Gate, err = NewGate(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.memory, err = unix.Mmap(bits.FD(), 0, bitmapLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the steering bitmap: %w", err), s.Close())
	}
	s.words = unsafe.Slice((*uint32)(unsafe.Pointer(&s.memory[0])), bitmapLen/4)
	return s, nil
}

// FDs returns the fds of both maps, which stay the Steering's.
func (s *Steering) FDs() (bits, addrs int) { return s.bits.FD(), s.addrs.FD() }

// Close gives the maps back; programs that use them keep them. It is idempotent.
func (s *Steering) Close() error {
	var err error
	if s.memory != nil {
		s.words = nil
		err = unix.Munmap(s.memory)
		s.memory = nil
	}
	if s.Gate != nil {
		err = errors.Join(err, s.Gate.Close())
	}
	return errors.Join(err, s.bits.Close(), s.addrs.Close())
}

func (s *Steering) word(t Table, n uint16) *uint32 { return &s.words[uint32(t)/4+uint32(n)/32] }

// Set steers n of table t to the switch from now on.
func (s *Steering) Set(t Table, n uint16) { atomic.OrUint32(s.word(t, n), 1<<(n%32)) }

// Clear leaves n of table t to the host from now on.
func (s *Steering) Clear(t Table, n uint16) { atomic.AndUint32(s.word(t, n), ^uint32(1<<(n%32))) }

// Has tells whether n of table t is steered to the switch.
func (s *Steering) Has(t Table, n uint16) bool {
	return atomic.LoadUint32(s.word(t, n))&(1<<(n%32)) != 0
}

// Replace makes table t equal to want. What is in both is steered throughout.
func (s *Steering) Replace(t Table, want *PortSet) {
	for i, w := range want {
		atomic.StoreUint32(s.word(t, uint16(i*32)), w)
	}
}

// SetAddrs makes want the set of the interface's addresses. What is in both stays in it throughout.
func (s *Steering) SetAddrs(want []netip.Addr) error {
	keep := make(map[[16]byte]bool, len(want))
	for _, a := range want {
		key := a.As16()
		keep[key] = true
		if err := s.addrs.Put(key, uint8(1)); err != nil {
			return fmt.Errorf("steer address %s: %w", a, err)
		}
	}
	var gone [][16]byte
	var key [16]byte
	var value uint8
	all := s.addrs.Iterate()
	for all.Next(&key, &value) {
		if !keep[key] {
			gone = append(gone, key)
		}
	}
	err := all.Err()
	for _, key := range gone {
		if e := s.addrs.Delete(key); e != nil && !errors.Is(e, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("steer addresses no longer: %w", err)
	}
	return nil
}
