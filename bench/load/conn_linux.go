package load

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Conn describes clients that connect, send one byte, wait for one byte back, close, and do it again.
//
// They close by a reset (SO_LINGER 0), so that neither side keeps the connection in TIME_WAIT: with an ordinary close a
// run of some seconds would use up the 28000 local ports, and measure how the kernel looks for free ones. A connection is
// thus SYN, SYN-ACK, ACK, two segments with a byte each, their ACKs, and RST.
type Conn struct {
	To        netip.AddrPort
	Addresses int // in turn, from To's on; 0 is 1
	Clients   int
	Duration  time.Duration
}

// ConnReport is the clients' report.
type ConnReport struct {
	Connections uint64  `json:"connections"`
	Failed      uint64  `json:"failed"`
	Seconds     float64 `json:"seconds"`
}

// connTimeout limits each step of a connection. A lost SYN takes a second to be sent again.
const connTimeout = 2 * time.Second

// Run opens connections until the time is over.
func (c Conn) Run(ready func()) (ConnReport, error) {
	fd, err := dial(c.To, time.Second, connectPatience) // the server stands and the neighbors know each other
	if err != nil {
		return ConnReport{}, err
	}
	unix.Close(fd)
	ready()
	var group errgroup.Group
	reports := make([]ConnReport, c.Clients)
	start := time.Now()
	for i := range reports {
		group.Go(func() error {
			if err := Hot(-1); err != nil {
				return err
			}
			return c.client(start, &reports[i])
		})
	}
	if err := group.Wait(); err != nil {
		return ConnReport{}, err
	}
	total := ConnReport{Seconds: time.Since(start).Seconds()}
	for _, r := range reports {
		total.Connections += r.Connections
		total.Failed += r.Failed
	}
	return total, nil
}

// destinations returns where the connections go, in turn.
func (c Conn) destinations() (to []*address) {
	a := c.To.Addr()
	for range max(1, c.Addresses) {
		to = append(to, newAddress(netip.AddrPortFrom(a, c.To.Port())))
		a = a.Next()
	}
	return to
}

func (c Conn) client(start time.Time, report *ConnReport) error {
	to := c.destinations()
	b := make([]byte, 1)
	tv := unix.NsecToTimeval(int64(connTimeout))
	for turn := 0; time.Since(start) < c.Duration; turn++ {
		fd, errno := rawSocket(to[0].family, unix.SOCK_STREAM)
		if errno != 0 {
			return fmt.Errorf("make a socket: %w", errno)
		}
		err := errors.Join(
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv),
		)
		if err != nil {
			rawClose(fd)
			return fmt.Errorf("prepare a connection: %w", err)
		}
		if errno := rawConnect(fd, to[turn%len(to)]); errno != 0 || transact(fd, b) != nil {
			report.Failed++
		} else {
			report.Connections++
		}
		rawClose(fd)
	}
	return nil
}

// ServeConn answers short connections on a number of threads until stop is set.
func ServeConn(at netip.AddrPort, threads int, ready func(), stop *atomic.Bool) error {
	fd, err := listen(at, 100*time.Millisecond)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ready()
	var group errgroup.Group
	for range threads {
		group.Go(func() error {
			if err := Hot(-1); err != nil {
				return err
			}
			return serveShort(fd, stop)
		})
	}
	return group.Wait()
}

func serveShort(listener int, stop *atomic.Bool) error {
	b := make([]byte, 1)
	for !stop.Load() {
		conn, errno := rawAccept(listener)
		if again(errno) || errno == unix.ECONNABORTED {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("accept: %w", errno)
		}
		if err := prepare(conn, connTimeout); err != nil {
			rawClose(conn)
			continue // the client has reset it already
		}
		for {
			n, errno := rawRead(conn, b)
			if errno == unix.EINTR {
				continue
			}
			if errno != 0 || n == 0 {
				break // reset, as planned
			}
			if _, errno := rawWrite(conn, b); errno != 0 {
				break
			}
		}
		rawClose(conn)
	}
	return nil
}
