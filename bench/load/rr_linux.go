package load

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// RR describes a client that sends one byte over a TCP connection, waits for one byte back, and so on.
type RR struct {
	To       netip.AddrPort
	Gap      time.Duration // pause between transactions; 0: none
	Duration time.Duration
}

// RRReport is the client's report.
type RRReport struct {
	Transactions uint64  `json:"transactions"`
	P50          float64 `json:"p50_us"`
	P90          float64 `json:"p90_us"`
	P99          float64 `json:"p99_us"`
	Seconds      float64 `json:"seconds"`
}

const (
	// rrWarmup transactions do not count, or those of rrWarmupTime if that is over first: they hold neighbor discovery, cold
	// caches and a switch that still sleeps.
	rrWarmup     = 200
	rrWarmupTime = 200 * time.Millisecond
	// connectPatience is how long a client tries to connect.
	connectPatience = 5 * time.Second
)

// Run connects and measures. ready is called when the connection stands.
func (r RR) Run(ready func()) (RRReport, error) {
	fd, err := dial(r.To, time.Second, connectPatience)
	if err != nil {
		return RRReport{}, err
	}
	defer unix.Close(fd)
	ready()
	var latency Latency
	b := make([]byte, 1)
	begin := time.Now()
	var start time.Time // of what counts
	for i := 0; ; i++ {
		if r.Gap > 0 {
			rawSleep(r.Gap)
		}
		sent := time.Now()
		if err := transact(fd, b); err != nil {
			return RRReport{}, fmt.Errorf("transaction %d with %v: %w", i, r.To, err)
		}
		done := time.Now()
		if start.IsZero() {
			if i >= rrWarmup || done.Sub(begin) >= rrWarmupTime {
				start = done
			}
			continue
		}
		latency.Add(done.Sub(sent))
		if done.Sub(start) >= r.Duration {
			break
		}
	}
	us := func(q float64) float64 { return float64(latency.Quantile(q).Nanoseconds()) / 1000 }
	return RRReport{
		Transactions: latency.Count(),
		P50:          us(0.5),
		P90:          us(0.9),
		P99:          us(0.99),
		Seconds:      time.Since(start).Seconds(),
	}, nil
}

func transact(fd int, b []byte) error {
	if _, errno := rawWrite(fd, b); errno != 0 {
		return fmt.Errorf("write: %w", errno)
	}
	for {
		n, errno := rawRead(fd, b)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return fmt.Errorf("read: %w", errno)
		case n == 0:
			return errors.New("read: the server closed the connection")
		default:
			return nil
		}
	}
}

// ServeRR answers the transactions of one connection after the other until stop is set.
func ServeRR(at netip.AddrPort, ready func(), stop *atomic.Bool) error {
	const poll = 100 * time.Millisecond // how often a blocking call looks at stop
	fd, err := listen(at, poll)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ready()
	b := make([]byte, 1)
	for !stop.Load() {
		conn, errno := rawAccept(fd)
		if again(errno) {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("accept on %v: %w", at, errno)
		}
		if err := prepare(conn, poll); err != nil {
			return err
		}
		for !stop.Load() {
			n, errno := rawRead(conn, b)
			if again(errno) {
				continue
			}
			if errno != 0 || n == 0 {
				break
			}
			if _, errno := rawWrite(conn, b); errno != 0 {
				break
			}
		}
		rawClose(conn)
	}
	return nil
}

func prepare(conn int, timeout time.Duration) error {
	tv := unix.NsecToTimeval(int64(timeout))
	err := errors.Join(
		unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	)
	if err != nil {
		return fmt.Errorf("prepare a connection: %w", err)
	}
	return nil
}
