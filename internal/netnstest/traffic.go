package netnstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// content returns n bytes that look random; the same for the same seed.
func content(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// Stream sends n bytes each way at once over one TCP connection to the address of to, and compares their hashes.
func Stream(from, to *Container, addr string, n int) error {
	return StreamAfter(from, to, addr, n, func() {})
}

// StreamAfter is Stream, with something that is done once they are connected, before from sends.
func StreamAfter(from, to *Container, addr string, n int, connected func()) error {
	l := to.ListenTCP(net.JoinHostPort(addr, "0"))
	return stream(from, l, l.Addr().String(), n, connected)
}

// StreamVia is Stream to a listener of to that from reaches at another endpoint, as a published port.
func StreamVia(from, to *Container, listen, at string, n int) error {
	return stream(from, to.ListenTCP(listen), at, n, func() {})
}

func stream(from *Container, l *net.TCPListener, at string, n int, connected func()) error {
	defer l.Close()
	var g errgroup.Group
	g.Go(func() error {
		if err := l.SetDeadline(time.Now().Add(Patience)); err != nil {
			return err
		}
		conn, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		return exchange(conn, 1, 2, n)
	})
	conn, err := from.DialTCP(at)
	if err == nil {
		connected()
		err = exchange(conn, 2, 1, n)
	}
	if err != nil {
		l.Close()
	}
	return errors.Join(err, g.Wait())
}

// exchange sends the content of one seed and expects that of another.
func exchange(conn *net.TCPConn, send, expect uint64, n int) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error {
		if _, err := conn.Write(content(send, n)); err != nil {
			return err
		}
		return conn.CloseWrite()
	})
	hash := sha256.New()
	got, err := io.Copy(hash, conn)
	want := sha256.Sum256(content(expect, n))
	if err == nil && !bytes.Equal(hash.Sum(nil), want[:]) {
		err = fmt.Errorf("TCP stream arrived damaged: %d bytes of %d", got, n)
	}
	return errors.Join(err, g.Wait())
}

// Datagrams sends a UDP datagram of each size to the address of to and expects each, whole, once and in order.
func Datagrams(from, to *Container, addr string, sizes ...int) error {
	rx, tx := to.UDP(net.JoinHostPort(addr, "0")), from.UDP(":0")
	defer rx.Close()
	defer tx.Close()
	const burst = 32
	for i := 0; i < len(sizes); i += burst {
		some := sizes[i:min(i+burst, len(sizes))]
		for j, n := range some {
			if _, err := tx.WriteTo(content(uint64(i+j), n), rx.LocalAddr()); err != nil {
				return fmt.Errorf("send %d bytes: %w", n, err)
			}
		}
		for j, n := range some {
			if err := expectDatagram(rx, content(uint64(i+j), n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Segment has the kernel cut what is sent by a socket into datagrams of size bytes (UDP_SEGMENT).
func Segment(c *net.UDPConn, size int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) }); err != nil || serr != nil {
		return fmt.Errorf("UDP_SEGMENT: %w", errors.Join(err, serr))
	}
	return nil
}

// SegmentedDatagrams sends count datagrams of size bytes with one UDP_SEGMENT send, and expects each.
func SegmentedDatagrams(from, to *Container, addr string, size, count int) error {
	rx, tx := to.UDP(net.JoinHostPort(addr, "0")), from.UDP(":0")
	defer rx.Close()
	defer tx.Close()
	if err := Segment(tx, size); err != nil {
		return err
	}
	all := content(7, size*count)
	if _, err := tx.WriteTo(all, rx.LocalAddr()); err != nil {
		return fmt.Errorf("send %d segments: %w", count, err)
	}
	for i := range count {
		if err := expectDatagram(rx, all[i*size:(i+1)*size]); err != nil {
			return fmt.Errorf("segment %d of %d: %w", i, count, err)
		}
	}
	return nil
}

func expectDatagram(rx *net.UDPConn, want []byte) error {
	buf := make([]byte, 1<<16)
	if err := rx.SetReadDeadline(time.Now().Add(Patience / 4)); err != nil {
		return err
	}
	n, _, err := rx.ReadFrom(buf)
	if err != nil {
		return fmt.Errorf("datagram of %d bytes: %w", len(want), err)
	}
	if !bytes.Equal(buf[:n], want) {
		return fmt.Errorf("datagram of %d bytes arrived as another one of %d", len(want), n)
	}
	return nil
}

// Counters returns the namespace's protocol counters, like "Udp.InCsumErrors", "TcpExt.TCPOFOQueue" and "Udp6InCsumErrors".
func (c *Container) Counters() map[string]uint64 {
	c.lab.t.Helper()
	all := make(map[string]uint64)
	err := c.Do(func() error {
		six, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(six)) {
			var name string
			var n uint64
			if _, err := fmt.Sscan(line, &name, &n); err == nil {
				all[name] = n
			}
		}
		four, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		more, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		lines := strings.Split(string(four)+string(more), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := 1; j < len(names); j++ {
				var n uint64
				_, _ = fmt.Sscan(values[j], &n) // -1 is no count
				all[strings.TrimSuffix(names[0], ":")+"."+names[j]] = n
			}
		}
		return nil
	})
	if err != nil {
		c.lab.t.Fatal(err)
	}
	return all
}

// ExpectNoErrors fails the test when the kernel of a container counted a bad checksum or header.
func ExpectNoErrors(containers ...*Container) {
	for _, c := range containers {
		c.lab.t.Helper()
		counters := c.Counters()
		for name, n := range counters {
			bad := strings.HasSuffix(name, "CsumErrors") || strings.HasSuffix(name, "InHdrErrors") || strings.HasSuffix(name, "ReasmFails")
			if name == "Tcp.InErrs" { // among them a SYN ACK that was sent twice, as on a busy machine (tcp_validate_incoming)
				bad, n = true, n-min(n, counters["TcpExt.TCPSYNChallenge"])
			}
			if bad && n > 0 {
				c.lab.t.Errorf("%s counts %s %d", c.Name, name, n)
			}
		}
	}
}
