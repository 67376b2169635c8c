package netnstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"time"
)

// Chunks of SCTP (RFC 9260 3.2).
const (
	SCTPData             = 0
	SCTPInit             = 1
	SCTPInitAck          = 2
	SCTPSack             = 3
	SCTPAbort            = 6
	SCTPShutdown         = 7
	SCTPShutdownAck      = 8
	SCTPCookieEcho       = 10
	SCTPCookieAck        = 11
	SCTPShutdownComplete = 14
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SCTPSocket sends and hears SCTP by a raw socket, for kernels without sockets of SCTP. Its kernel neither knows associations nor answers.
type SCTPSocket struct {
	*net.IPConn
}

// SCTPPacket is a packet that came, with its first chunk. Its CRC32c was right.
type SCTPPacket struct {
	From             netip.Addr
	SrcPort, DstPort uint16
	Tag              uint32
	Chunk            byte
	Value            []byte // of the chunk
}

// SCTP opens a socket in the namespace for a family, "ip4" or "ip6".
func (c *Container) SCTP(family string) *SCTPSocket {
	c.lab.t.Helper()
	var conn net.PacketConn
	err := c.Do(func() (err error) {
		var lc net.ListenConfig
		conn, err = lc.ListenPacket(context.Background(), family+":132", map[string]string{"ip4": "0.0.0.0", "ip6": "::"}[family])
		return err
	})
	if err != nil {
		c.lab.t.Fatalf("open SCTP socket in %s: %v", c.Name, err)
	}
	c.lab.t.Cleanup(func() { conn.Close() })
	return &SCTPSocket{conn.(*net.IPConn)}
}

// SCTPBytes is a packet of one chunk with its CRC32c.
func SCTPBytes(port, toPort uint16, tag uint32, chunk byte, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, port)
	b = binary.BigEndian.AppendUint16(b, toPort)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0, 0, chunk, 3) // of DATA: the first and the last of a message
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	return b
}

// Send sends a packet of one chunk.
func (s *SCTPSocket) Send(to netip.AddrPort, port uint16, tag uint32, chunk byte, value []byte) error {
	_, err := s.WriteTo(SCTPBytes(port, to.Port(), tag, chunk, value), &net.IPAddr{IP: to.Addr().AsSlice()})
	return err
}

// Recv returns the next packet to the port. One whose CRC32c is wrong is an error.
func (s *SCTPSocket) Recv(port uint16, within time.Duration) (p SCTPPacket, err error) {
	if err := s.SetReadDeadline(time.Now().Add(within)); err != nil {
		return p, err
	}
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.ReadFromIP(buf)
		if err != nil {
			return p, err
		}
		b := buf[:n]
		if n < 16 || binary.BigEndian.Uint16(b[2:]) != port {
			continue
		}
		crc := binary.LittleEndian.Uint32(b[8:])
		binary.LittleEndian.PutUint32(b[8:], 0)
		if want := crc32.Checksum(b, castagnoli); crc != want {
			return p, fmt.Errorf("%d bytes of SCTP with CRC32c %08x, want %08x", n, crc, want)
		}
		length := int(binary.BigEndian.Uint16(b[14:]))
		if length < 4 || length > n-12 {
			return p, fmt.Errorf("a chunk of %d bytes in %d of SCTP", length, n)
		}
		addr, _ := netip.AddrFromSlice(from.IP)
		return SCTPPacket{
			addr.Unmap(), binary.BigEndian.Uint16(b), port, binary.BigEndian.Uint32(b[4:]), b[12], bytes.Clone(b[16 : 12+length]),
		}, nil
	}
}

// Association is one of SCTP, both ends in the hands of a test, which has them speak in turn.
type Association struct {
	Near, Far sctpEnd
}

type sctpEnd struct {
	socket *SCTPSocket
	port   uint16
	Peer   netip.AddrPort // as the end sees it
	tag    uint32         // which the peer must send
	out    uint32         // which the peer's packets get
}

// Associate opens an association from a socket and port to one that is reached at some address. stage is told what has just come.
func Associate(from *SCTPSocket, port uint16, to *SCTPSocket, toPort uint16, at netip.AddrPort, stage func(chunk byte)) (*Association, error) {
	a := &Association{sctpEnd{from, port, at, 0x01020300 + uint32(port), 0}, sctpEnd{to, toPort, netip.AddrPort{}, 0xa1b2c3d4, 0}}
	// Initiate tag, window, streams out and in, first TSN (RFC 9260 3.3.2).
	parameters := func(tag uint32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, tag), 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1)
	}
	if err := from.Send(at, port, 0, SCTPInit, parameters(a.Near.tag)); err != nil {
		return nil, err
	}
	p, err := to.Recv(toPort, Patience/4)
	if err != nil || p.Chunk != SCTPInit || p.Tag != 0 {
		return nil, fmt.Errorf("instead of INIT came %+v: %w", p, err)
	}
	a.Far.Peer, a.Far.out = netip.AddrPortFrom(p.From, p.SrcPort), binary.BigEndian.Uint32(p.Value)
	stage(SCTPInit)
	cookie := content(uint64(port), 64)
	answer := append(parameters(a.Far.tag), 0, 7, 0, 68) // the State Cookie (3.3.3.1)
	if err := a.Far.send(SCTPInitAck, append(answer, cookie...)); err != nil {
		return nil, err
	}
	p, err = from.Recv(port, Patience/4)
	if err != nil || p.Chunk != SCTPInitAck || p.Tag != a.Near.tag || netip.AddrPortFrom(p.From, p.SrcPort) != at {
		return nil, fmt.Errorf("instead of INIT ACK came %+v: %w", p, err)
	}
	a.Near.out = binary.BigEndian.Uint32(p.Value)
	stage(SCTPInitAck)
	if err := a.pass(&a.Near, &a.Far, SCTPCookieEcho, p.Value[len(answer):]); err != nil {
		return nil, err
	}
	if err := a.pass(&a.Far, &a.Near, SCTPCookieAck, nil); err != nil {
		return nil, err
	}
	stage(SCTPCookieAck)
	return a, nil
}

func (e *sctpEnd) send(chunk byte, value []byte) error {
	return e.socket.Send(e.Peer, e.port, e.out, chunk, value)
}

// pass sends a chunk from one end and expects it at the other.
func (a *Association) pass(from, to *sctpEnd, chunk byte, value []byte) error {
	if err := from.send(chunk, value); err != nil {
		return err
	}
	p, err := to.socket.Recv(to.port, Patience/4)
	switch {
	case err != nil:
		return fmt.Errorf("chunk %d of %d bytes: %w", chunk, len(value), err)
	case p.Chunk != chunk || !bytes.Equal(p.Value, value):
		return fmt.Errorf("chunk %d of %d bytes came as %d of %d", chunk, len(value), p.Chunk, len(p.Value))
	case p.Tag != to.tag || netip.AddrPortFrom(p.From, p.SrcPort) != to.Peer:
		return fmt.Errorf("chunk %d came with tag %x by %v:%d, want %x by %v", chunk, p.Tag, p.From, p.SrcPort, to.tag, to.Peer)
	}
	return nil
}

// Exchange sends DATA of n bytes each way, each acknowledged. What is longer than the MTU leaves the kernels in fragments.
func (a *Association) Exchange(n int) error {
	for _, way := range [][2]*sctpEnd{{&a.Near, &a.Far}, {&a.Far, &a.Near}} {
		err := a.pass(way[0], way[1], SCTPData, content(uint64(n), 12+n))
		if err == nil {
			err = a.pass(way[1], way[0], SCTPSack, make([]byte, 12))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Shutdown ends the association from the near end.
func (a *Association) Shutdown() error {
	return errors.Join(a.pass(&a.Near, &a.Far, SCTPShutdown, make([]byte, 4)), a.pass(&a.Far, &a.Near, SCTPShutdownAck, nil),
		a.pass(&a.Near, &a.Far, SCTPShutdownComplete, nil))
}

// Abort has the far end abort.
func (a *Association) Abort() error { return a.pass(&a.Far, &a.Near, SCTPAbort, nil) }
