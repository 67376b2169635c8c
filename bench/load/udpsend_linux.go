package load

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// batchSize is how many messages go into one sendmmsg or come out of one recvmmsg.
const batchSize = 64

// UDPSend describes a sender of numbered datagrams.
type UDPSend struct {
	To       netip.AddrPort
	Flow     uint32
	Payload  int     // bytes of payload of a datagram, headerSize at least
	Segments int     // datagrams that the kernel cuts out of one send (UDP_SEGMENT); 0 or 1: one send each
	Rate     float64 // datagrams a second; 0: as fast as it goes
	Duration time.Duration
}

// UDPSent is the sender's report.
type UDPSent struct {
	Datagrams uint64  `json:"datagrams"`
	Failed    uint64  `json:"failed"` // refused by the kernel for want of memory; not in Datagrams
	Missed    uint64  `json:"missed"` // not sent at all because the sender got no CPU in time
	Seconds   float64 `json:"seconds"`
}

// sender is the state of the hot loop.
type sender struct {
	UDPSend
	fd       int
	batch    []mmsghdr
	payloads [][]byte
	seq      uint64
	report   UDPSent
}

// Run sends until the time is over. ready is called when the first datagram is about to leave.
func (u UDPSend) Run(ready func()) (UDPSent, error) {
	u.Segments = max(u.Segments, 1)
	if u.Payload < headerSize {
		return UDPSent{}, fmt.Errorf("payload of %d bytes: the sequence number needs %d", u.Payload, headerSize)
	}
	if u.Payload*u.Segments > 65507 {
		return UDPSent{}, fmt.Errorf("%d segments of %d bytes: a datagram holds 65507", u.Segments, u.Payload)
	}
	s := &sender{UDPSend: u}
	if err := s.open(); err != nil {
		return UDPSent{}, err
	}
	defer unix.Close(s.fd)
	ready()
	start := time.Now()
	var err error
	if u.Rate > 0 {
		err = s.paced(start)
	} else {
		err = s.flatOut(start)
	}
	s.report.Seconds = time.Since(start).Seconds()
	return s.report, err
}

func (s *sender) open() error {
	var err error
	if s.fd, err = open(unix.SOCK_DGRAM, s.To, time.Second); err != nil {
		return err
	}
	if errno := rawConnect(s.fd, newAddress(s.To)); errno != 0 {
		unix.Close(s.fd)
		return fmt.Errorf("connect to %v: %w", s.To, errno)
	}
	size := batchSize
	if s.Segments > 1 {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, s.Payload); err != nil {
			unix.Close(s.fd)
			return fmt.Errorf("set UDP_SEGMENT to %d: %w", s.Payload, err)
		}
		size = 8 // 64 KiB each: a larger batch would only push the payloads out of the cache
	}
	s.batch = make([]mmsghdr, size)
	iovecs := make([]unix.Iovec, size)
	for i := range s.batch {
		payload := make([]byte, s.Payload*s.Segments)
		s.payloads = append(s.payloads, payload)
		iovecs[i].Base = &payload[0]
		iovecs[i].SetLen(len(payload))
		s.batch[i].hdr.Iov = &iovecs[i]
		s.batch[i].hdr.SetIovlen(1)
	}
	return nil
}

// flatOut sends full batches and never waits but for the socket's own buffer.
func (s *sender) flatOut(start time.Time) error {
	for time.Since(start) < s.Duration {
		if err := s.send(len(s.batch)); err != nil {
			return err
		}
	}
	return nil
}

// paced sends what is due and sleeps in between.
func (s *sender) paced(start time.Time) error {
	pacer := NewPacer(s.Rate / float64(s.Segments))
	defer func() { s.report.Missed = pacer.Missed() * uint64(s.Segments) }()
	for {
		now := time.Since(start)
		if now >= s.Duration {
			return nil
		}
		n := pacer.Due(now, len(s.batch))
		if n == 0 {
			rawSleep(min(pacer.Wait(now), s.Duration-now))
			continue
		}
		if err := s.send(n); err != nil {
			return err
		}
	}
}

// send numbers and sends n messages.
func (s *sender) send(n int) error {
	for i := range n {
		for at := 0; at < len(s.payloads[i]); at += s.Payload {
			putHeader(s.payloads[i][at:], s.Flow, s.seq)
			s.seq++
		}
	}
	return s.transmit(n)
}

// transmit sends the first n messages of the batch.
func (s *sender) transmit(n int) error {
	for done := 0; done < n; {
		k, errno := sendmmsg(s.fd, s.batch[done:n])
		switch {
		case errno == 0:
			done += k
			s.report.Datagrams += uint64(k * s.Segments)
		case again(errno):
		case errno == unix.ENOBUFS:
			done++ // as a real sender would: this one is gone, go on with the next
			s.report.Failed += uint64(s.Segments)
		default:
			return fmt.Errorf("send to %v: %w", s.To, errno)
		}
	}
	return nil
}
