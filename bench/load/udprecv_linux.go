package load

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UDPReceive describes a receiver of numbered datagrams.
type UDPReceive struct {
	Listen  netip.AddrPort
	Flow    uint32
	Payload int  // bytes of payload of a datagram
	GRO     bool // take several datagrams of a flow by one message (UDP_GRO), as a fast receiver would
	Limit   time.Duration
}

// UDPReceived is the receiver's report.
type UDPReceived struct {
	Datagrams   uint64  `json:"datagrams"` // all that arrived, duplicates too
	Unique      uint64  `json:"unique"`
	Duplicates  uint64  `json:"duplicates"`
	Reordered   uint64  `json:"reordered"`
	Ancient     uint64  `json:"ancient"`
	Strangers   uint64  `json:"strangers"`    // datagrams of another run or sender, or of a wrong size
	SocketDrops uint64  `json:"socket_drops"` // dropped by the receiver's own socket: not the switch's fault
	Seconds     float64 `json:"seconds"`      // from the first to the last arrival
}

const (
	// receiveBuffer lets the receiver lose the CPU for some ten milliseconds, as happens when two cores run three busy threads.
	receiveBuffer = 32 << 20
	// quiet is how long nothing may arrive after the sender's end before the receiver believes that all has arrived.
	quiet = 100 * time.Millisecond
)

// receiver is the state of the hot loop.
type receiver struct {
	UDPReceive
	fd          int
	batch       []mmsghdr
	buffers     [][]byte
	controls    [][]byte
	seq         Sequence
	report      UDPReceived
	first, last time.Time
}

// Run receives until stop is set and nothing has arrived for a moment. ready is called when the socket is bound.
func (u UDPReceive) Run(ready func(), stop *atomic.Bool) (UDPReceived, error) {
	r := &receiver{UDPReceive: u}
	if err := r.open(); err != nil {
		return UDPReceived{}, err
	}
	defer unix.Close(r.fd)
	ready()
	err := r.loop(stop)
	r.report.Unique, r.report.Duplicates = r.seq.Unique, r.seq.Duplicates
	r.report.Reordered, r.report.Ancient = r.seq.Reordered, r.seq.Ancient
	r.report.SocketDrops = socketDrops(r.fd)
	r.report.Seconds = r.last.Sub(r.first).Seconds()
	return r.report, err
}

func (r *receiver) open() error {
	var err error
	if r.fd, err = open(unix.SOCK_DGRAM, r.Listen, quiet/2); err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
		unix.Bind(r.fd, sockaddr(r.Listen)),
	)
	size := 2048
	if r.GRO {
		size = 65536
		err = errors.Join(err, unix.SetsockoptInt(r.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1))
	}
	if err != nil {
		unix.Close(r.fd)
		return fmt.Errorf("open a receiver on %v: %w", r.Listen, err)
	}
	r.batch = make([]mmsghdr, batchSize)
	iovecs := make([]unix.Iovec, batchSize)
	for i := range r.batch {
		buffer, control := make([]byte, size), make([]byte, 64)
		r.buffers, r.controls = append(r.buffers, buffer), append(r.controls, control)
		iovecs[i].Base = &buffer[0]
		iovecs[i].SetLen(size)
		r.batch[i].hdr.Iov = &iovecs[i]
		r.batch[i].hdr.SetIovlen(1)
	}
	return nil
}

func (r *receiver) loop(stop *atomic.Bool) error {
	deadline := time.Now().Add(r.Limit)
	var stopped time.Time
	for {
		if r.GRO {
			for i := range r.batch { // the kernel overwrites the length of the space for control messages
				r.batch[i].hdr.Control = &r.controls[i][0]
				r.batch[i].hdr.SetControllen(len(r.controls[i]))
			}
		}
		n, errno := recvmmsg(r.fd, r.batch, unix.MSG_WAITFORONE)
		if errno != 0 && !again(errno) {
			return fmt.Errorf("receive on %v: %w", r.Listen, errno)
		}
		now := time.Now()
		if errno != 0 && stop.Load() {
			if stopped.IsZero() {
				stopped = now
			}
			if now.Sub(stopped) >= quiet && now.Sub(r.last) >= quiet {
				return nil
			}
		}
		if now.After(deadline) {
			return fmt.Errorf("receive on %v: not stopped within %v", r.Listen, r.Limit)
		}
		if errno != 0 {
			continue
		}
		before := r.report.Datagrams
		for i := range n {
			r.take(i)
		}
		if r.report.Datagrams > before {
			if before == 0 {
				r.first = now
			}
			r.last = now
		}
	}
}

// take counts the datagrams of one message.
func (r *receiver) take(i int) {
	b := r.buffers[i][:r.batch[i].len]
	size := r.Payload
	if r.GRO {
		if size = segmentSize(r.controls[i][:r.batch[i].hdr.Controllen]); size == 0 {
			size = len(b)
		}
	}
	for len(b) > 0 {
		datagram := b[:min(size, len(b))]
		b = b[len(datagram):]
		seq, ok := header(datagram, r.Flow)
		if !ok || len(datagram) != r.Payload {
			r.report.Strangers++
			continue
		}
		if seq >= warming {
			continue
		}
		r.report.Datagrams++
		r.seq.Add(seq)
	}
}

// segmentSize finds the UDP_GRO control message. It returns 0 when there is none: the message is a single datagram.
func segmentSize(control []byte) int {
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		length := int(h.Len)
		if length < unix.SizeofCmsghdr || length > len(control) {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && length >= unix.CmsgLen(4) {
			return int(*(*int32)(unsafe.Pointer(&control[unix.CmsgLen(0)])))
		}
		control = control[min(unix.CmsgSpace(length-unix.CmsgLen(0)), len(control)):]
	}
	return 0
}

// socketDrops reads how many datagrams the kernel dropped at the socket because its buffer was full.
func socketDrops(fd int) uint64 {
	const (
		soMeminfo = 55 // SO_MEMINFO
		drops     = 8  // SK_MEMINFO_DROPS
	)
	var counters [9]uint32
	size := uint32(unsafe.Sizeof(counters))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, soMeminfo,
		uintptr(unsafe.Pointer(&counters)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < uint32(unsafe.Sizeof(counters)) {
		return 0
	}
	return uint64(counters[drops])
}
