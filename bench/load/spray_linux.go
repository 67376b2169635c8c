package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
)

// Spray describes a sender of numbered datagrams of many flows, or from many MAC addresses, in turn. It builds whole IPv4
// frames, since no socket can send so many different ones, and their checksums, which nobody does for it.
type Spray struct {
	To       netip.AddrPort
	Via      netip.Addr // a neighbor on Device; none: To's address is one
	Device   string
	Flow     uint32  // number of the run
	Payload  int     // bytes of payload of a datagram, headerSize at least
	Flows    int     // different destinations, source ports and, beyond 50,000 of these, source addresses; 1 at least
	Servers  int     // different destinations: To and the addresses that follow it; 1 at least
	MACs     int     // different source MAC addresses; 1: the device's own
	Rate     float64 // datagrams a second; 0: as fast as it goes
	Duration time.Duration
}

// Frames on the wire:
//
//	0          14      20 bytes           34         42
//	+----------+--------------------------+----------+---------+
//	| Ethernet | IPv4                     | UDP      | payload |
//	+----------+--------------------------+----------+---------+
const (
	sprayIP, sprayUDP, sprayData = 14, 34, 42

	firstPort, portsOfAddress = 10000, 50000
	maxFlows                  = 4 * portsOfAddress
	firstAddress              = 200 // last byte of the first source address
)

// sprayer is the state of the hot loop.
type sprayer struct {
	Spray
	out sender
	mac [6]byte
}

// Run sends until the time is over. ready is called when the first frame is about to leave.
func (u Spray) Run(ready func()) (UDPSent, error) {
	switch {
	case u.Payload < headerSize || u.Payload > 1472:
		return UDPSent{}, fmt.Errorf("payload of %d bytes: use %d to 1472", u.Payload, headerSize)
	case !u.To.Addr().Is4():
		return UDPSent{}, fmt.Errorf("spray to %v: IPv4 only", u.To)
	case u.Flows < 1 || u.Flows > maxFlows:
		return UDPSent{}, fmt.Errorf("%d flows: use 1 to %d", u.Flows, maxFlows)
	case u.Servers < 1 || u.Servers > 16:
		return UDPSent{}, fmt.Errorf("%d servers: use 1 to 16", u.Servers)
	case u.MACs < 1 || u.MACs > 1<<24:
		return UDPSent{}, fmt.Errorf("%d MAC addresses: use 1 to %d", u.MACs, 1<<24)
	}
	s := &sprayer{Spray: u}
	if err := s.open(); err != nil {
		return UDPSent{}, err
	}
	defer unix.Close(s.out.fd)
	if err := s.warmUp(); err != nil {
		return UDPSent{}, err
	}
	ready()
	start := time.Now()
	var err error
	if u.Rate > 0 {
		err = s.paced(u.Rate, func(now time.Duration) bool { return now < u.Duration })
	} else {
		for err == nil && time.Since(start) < u.Duration {
			err = s.send(len(s.out.batch))
		}
	}
	s.out.report.Seconds = time.Since(start).Seconds()
	return s.out.report, err
}

// warmUp sends of every flow a few datagrams that nobody counts, slowly enough that each is known to what is between the ends before the
// clock starts: it is what they cost then that is measured. It lasts as long for one flow as for 100,000, since processors are faster for a
// while after they had nothing to do.
func (s *sprayer) warmUp() error {
	const rounds, rate = 3, 100_000
	datagrams := rounds * uint64(max(s.Flows, rate))
	s.out.seq = warming
	err := s.paced(rate, func(time.Duration) bool { return s.out.seq < warming+datagrams })
	s.out.seq, s.out.report = 0, UDPSent{}
	return err
}

// paced sends what is due at a rate, and sleeps in between, as long as more says so at a time since its start.
func (s *sprayer) paced(rate float64, more func(now time.Duration) bool) error {
	pacer, start := NewPacer(rate), time.Now()
	for {
		now := time.Since(start)
		if !more(now) {
			s.out.report.Missed = pacer.Missed()
			return nil
		}
		n := pacer.Due(now, len(s.out.batch))
		if n == 0 {
			rawSleep(pacer.Wait(now))
			continue
		}
		if err := s.send(n); err != nil {
			return err
		}
	}
}

// send numbers and sends n frames.
func (s *sprayer) send(n int) error {
	for _, frame := range s.out.payloads[:n] {
		s.next(frame)
	}
	return s.out.transmit(n)
}

func (s *sprayer) open() error {
	device, err := net.InterfaceByName(s.Device)
	if err != nil {
		return fmt.Errorf("find the device to spray from: %w", err)
	}
	via := s.Via
	if !via.IsValid() {
		via = s.To.Addr()
	}
	neighbor, err := neighborOf(via)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // of no protocol: it receives nothing
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index}); err != nil {
		unix.Close(fd)
		return fmt.Errorf("bind a packet socket to %s: %w", s.Device, err)
	}
	s.out = sender{UDPSend: UDPSend{To: s.To, Segments: 1}, fd: fd}
	copy(s.mac[:], device.HardwareAddr)
	s.prepare(neighbor, via.As4())
	return nil
}

// prepare makes the frames of a batch, all but what differs. Their sources are in the /24 of the neighbor.
func (s *sprayer) prepare(neighbor net.HardwareAddr, subnet [4]byte) {
	s.out.batch = make([]mmsghdr, batchSize)
	iovecs := make([]unix.Iovec, batchSize)
	for i := range s.out.batch {
		f := make([]byte, sprayData+s.Payload)
		copy(f, neighbor)
		copy(f[6:], s.mac[:])
		binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
		ip, udp := f[sprayIP:], f[sprayUDP:]
		ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[6] = 0x40 // DF
		to := s.To.Addr().As4()
		copy(ip[12:], subnet[:])
		copy(ip[16:], to[:])
		binary.BigEndian.PutUint16(udp[2:], s.To.Port())
		binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
		s.out.payloads = append(s.out.payloads, f)
		iovecs[i].Base = &f[0]
		iovecs[i].SetLen(len(f))
		s.out.batch[i].hdr.Iov = &iovecs[i]
		s.out.batch[i].hdr.SetIovlen(1)
	}
}

// next makes the frame that of the next number: its flow, its source and its checksums.
func (s *sprayer) next(f []byte) {
	seq := s.out.seq
	s.out.seq++
	flow, mac := int(seq%uint64(s.Flows)), int(seq%uint64(s.MACs))
	server := flow % s.Servers
	flow /= s.Servers
	if s.MACs > 1 {
		f[6], f[7], f[8] = 0x02, 0x5a, 0x5a
		f[9], f[10], f[11] = byte(mac>>16), byte(mac>>8), byte(mac)
	}
	ip, udp := f[sprayIP:sprayUDP], f[sprayUDP:]
	to := s.To.Addr().As4()
	ip[19] = to[3] + byte(server)
	ip[15] = byte(firstAddress + flow/portsOfAddress)
	binary.BigEndian.PutUint16(udp, uint16(firstPort+flow%portsOfAddress))
	putHeader(f[sprayData:], s.Flow, seq)
	ip[10], ip[11], udp[6], udp[7] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^packet.Fold(packet.Sum(ip, 0)))
	pseudo := packet.PseudoSum(ip[12:16], ip[16:20], unix.IPPROTO_UDP, len(udp))
	sum := ^packet.Fold(packet.Sum(udp, pseudo))
	if sum == 0 {
		sum = 0xffff // 0 says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
}

// neighborOf returns the MAC address of a neighbor. The kernel forgets those that only packet sockets send to, so it is asked to look.
func neighborOf(a netip.Addr) (net.HardwareAddr, error) {
	const discard, tries = 9, 100
	probe, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, discard)))
	if err != nil {
		return nil, fmt.Errorf("reach %v: %w", a, err)
	}
	defer probe.Close()
	for range tries {
		mac, err := knownNeighbor(a)
		if mac != nil || err != nil {
			return mac, err
		}
		probe.Write(nil) // an error is that of an earlier one: nobody listens
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("no neighbor answers for %v", a)
}

// knownNeighbor looks into the kernel's table; nil: it is not there.
func knownNeighbor(a netip.Addr) (net.HardwareAddr, error) {
	table, err := os.ReadFile("/proc/net/arp")
	if err != nil {
		return nil, fmt.Errorf("read the neighbor table: %w", err)
	}
	for line := range bytes.Lines(table) {
		if f := strings.Fields(string(line)); len(f) > 3 && f[0] == a.String() && f[2] != "0x0" {
			return net.ParseMAC(f[3])
		}
	}
	return nil, nil
}
