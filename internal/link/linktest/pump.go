package linktest

import (
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// Counts are what a pump carried.
type Counts struct {
	Frames int
	Super  int // super-frames among them
	Bad    int // frames that Parse refuses
	Lost   int // frames that the other port did not take
}

// Pump carries frames between two ports until stop is called, and then tells what came out of each.
func Pump(t testing.TB, a, b port.Port) (stop func() [2]Counts) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range []int{a.FD(), b.FD(), pipe[0]} {
		err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		if err != nil {
			t.Fatal(err)
		}
	}
	var counts [2]Counts
	var done sync.WaitGroup
	done.Go(func() { carry(epoll, a, b, &counts) })
	var once sync.Once
	stop = func() [2]Counts {
		once.Do(func() {
			_ = unix.Close(pipe[1])
			done.Wait()
			_, _ = unix.Close(pipe[0]), unix.Close(epoll)
		})
		return counts
	}
	t.Cleanup(func() { stop() })
	return stop
}

// carry ends when the third fd of epoll has something to say.
func carry(epoll int, a, b port.Port, counts *[2]Counts) {
	ports := [2]port.Port{a, b}
	f := packet.NewFrame(make([]byte, packet.BufSize))
	var events [3]unix.EpollEvent
	for {
		n, err := unix.EpollWait(epoll, events[:], -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == 2 {
				return
			}
			drain(f, ports[e.Fd], ports[1-e.Fd], &counts[e.Fd])
		}
	}
}

func drain(f *packet.Frame, from, to port.Port, c *Counts) {
	for from.Read(f) == nil {
		c.Frames++
		if f.Vnet().GSOType() != packet.GSONone {
			c.Super++
		}
		if f.Parse() != packet.DropNone {
			c.Bad++
		} else if to.Write(f) != nil {
			c.Lost++
		}
	}
}
