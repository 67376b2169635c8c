package netnstest

import (
	"encoding/binary"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// BadCable connects two containers and treats some of what it carries badly, as the kernel's netem does where it is built: TCP, UDP, SCTP and
// fragments. It knows what it has done.
type BadCable struct {
	faults atomic.Pointer[Faults]
	ways   [2]cableWay // from the first container, from the second one
}

// Faults say which frames fare badly: one of so many, 0: none.
type Faults struct {
	Loss  uint64 // is lost
	Twice uint64 // arrives twice
	Late  uint64 // arrives some milliseconds late, behind others
}

// Fared is what became of the frames of one direction.
type Fared struct{ Sent, Lost, Twice, Late uint64 }

type cableWay struct{ sent, lost, twice, late atomic.Uint64 }

// BadCable makes one. Its ends are TAPs of these names, up, without addresses.
func (l *Lab) BadCable(a *Container, aName string, b *Container, bName string) *BadCable {
	l.t.Helper()
	c := &BadCable{}
	c.Set(Faults{})
	ends := [2]*os.File{a.cableEnd(aName), b.cableEnd(bName)}
	for i := range ends {
		go c.carry(&c.ways[i], ends[i], ends[1-i])
	}
	return c
}

// cableEnd makes a TAP that lives as long as the test.
func (c *Container) cableEnd(name string) *os.File {
	c.lab.t.Helper()
	fd := -1
	err := c.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		c.lab.t.Fatalf("make TAP %s in %s: %v", name, c.Name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	c.lab.t.Cleanup(func() { f.Close() })
	c.Run("sysctl", "-qw", "net.ipv6.conf."+name+".accept_dad=0")
	c.IP("link set " + name + " txqueuelen 10000 up")
	return f
}

// Set changes how the cable treats frames.
func (c *BadCable) Set(f Faults) { c.faults.Store(&f) }

// Fared returns what has become of frames that could fare badly, from the first container or from the second one.
func (c *BadCable) Fared(second bool) Fared {
	w := &c.ways[0]
	if second {
		w = &c.ways[1]
	}
	return Fared{w.sent.Load(), w.lost.Load(), w.twice.Load(), w.late.Load()}
}

func (c *BadCable) carry(w *cableWay, from, to *os.File) {
	buf := make([]byte, 1<<16)
	for k := uint64(1); ; {
		n, err := from.Read(buf)
		if err != nil {
			return // closed by the test's end
		}
		frame := slices.Clone(buf[:n])
		if !mayFare(frame) {
			_, _ = to.Write(frame)
			continue
		}
		f := c.faults.Load()
		hits := func(every uint64, count *atomic.Uint64) bool {
			if every == 0 || k%every != 0 {
				return false
			}
			count.Add(1)
			return true
		}
		switch {
		case hits(f.Loss, &w.lost):
		case hits(f.Late, &w.late):
			time.AfterFunc(time.Duration(1+k%3)*time.Millisecond, func() { _, _ = to.Write(frame) })
		case hits(f.Twice, &w.twice):
			_, _ = to.Write(frame)
			fallthrough
		default:
			_, _ = to.Write(frame)
		}
		k++
		w.sent.Add(1)
	}
}

// mayFare tells whether a frame is none of those by which kernels find each other.
func mayFare(frame []byte) bool {
	if len(frame) < 34 {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		return slices.Contains([]byte{6, 17, 132}, frame[23])
	case 0x86dd:
		return slices.Contains([]byte{6, 17, 44, 132}, frame[20])
	}
	return false
}
