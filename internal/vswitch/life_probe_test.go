package vswitch_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/netnstest"
)

// stream is a TCP connection on which numbers flow all the time, with the longest time that none came.
type stream struct {
	t    *testing.T
	ends [2]*net.TCPConn
	wg   sync.WaitGroup

	mu      sync.Mutex
	numbers uint64
	last    time.Time
	gap     time.Duration
	err     error
}

func startStream(t *testing.T, from, to *netnstest.Container, addr string) *stream {
	t.Helper()
	l := to.ListenTCP(net.JoinHostPort(addr, "0"))
	defer l.Close()
	s := &stream{t: t, last: time.Now()}
	var err error
	if s.ends[0], err = from.DialTCP(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if s.ends[1], err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(s.write)
	s.wg.Go(s.read)
	t.Cleanup(func() { s.close() })
	return s
}

func (s *stream) write() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	b := make([]byte, 4096)
	for n := uint64(0); ; <-tick.C {
		for i := 0; i < len(b); i += 8 {
			binary.BigEndian.PutUint64(b[i:], n)
			n++
		}
		if _, err := s.ends[0].Write(b); err != nil {
			return
		}
	}
}

func (s *stream) read() {
	b := make([]byte, 8)
	for want := uint64(0); ; want++ {
		for got := 0; got < 8; {
			n, err := s.ends[1].Read(b[got:])
			if err != nil {
				s.note(want, err)
				return
			}
			got += n
		}
		if n := binary.BigEndian.Uint64(b); n != want {
			s.note(want, fmt.Errorf("got number %d instead of %d", n, want))
			return
		}
		s.note(want, nil)
	}
}

func (s *stream) note(n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.numbers, s.err, s.gap, s.last = n, err, max(s.gap, now.Sub(s.last)), now
}

// goesOn waits until more numbers come.
func (s *stream) goesOn(lab *netnstest.Lab) {
	s.t.Helper()
	s.mu.Lock()
	from := s.numbers
	s.mu.Unlock()
	lab.Eventually("the TCP stream goes on", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			s.t.Fatalf("TCP stream: %v", s.err)
		}
		return s.numbers > from+5000
	})
}

// longest returns the longest time without numbers since the last call.
func (s *stream) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	gap := s.gap
	s.gap = 0
	return gap
}

// shortest repeats f, which tells how long something took, until that is no more than the limit, and returns the last: a busy machine takes
// longer now and then, a fault each time.
func shortest(limit time.Duration, f func() time.Duration) (took time.Duration) {
	for range 5 {
		if took = f(); took <= limit {
			break
		}
	}
	return took
}

func (s *stream) close() {
	for _, c := range s.ends {
		c.Close()
	}
	s.wg.Wait()
}

// carrierChanges returns how often the interface's carrier came or went.
func carrierChanges(t *testing.T, c *netnstest.Container) string {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", c.Name, "cat", "/sys/class/net/eth0/carrier_changes").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// events returns the types of the daemon's remembered events about the object.
func events(t *testing.T, d *netnstest.Daemon, object string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), netnstest.Patience)
	defer cancel()
	var types []string
	for e, err := range d.Client.Events(ctx, 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Object == object {
			types = append(types, e.Type)
		}
	}
	return types
}

func waitEvent(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon, typ, object string) {
	t.Helper()
	lab.Eventually(typ+" of "+object, func() bool {
		for _, e := range events(t, d, object) {
			if e == typ {
				return true
			}
		}
		return false
	})
}

func portOf(t *testing.T, d *netnstest.Daemon, name string) api.Port {
	t.Helper()
	for _, p := range netnstest.Get[[]api.Port](d, "list-ports") {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no port %s", name)
	return api.Port{}
}

// keeperOf returns the process that keeps the daemon's file descriptors; 0 when there is none.
func keeperOf(d *netnstest.Daemon) int {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), "keeper\x00--socket\x00"+d.State+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

func killKeeper(t *testing.T, d *netnstest.Daemon) {
	t.Helper()
	pid := keeperOf(d)
	if pid == 0 {
		t.Fatal("no keeper runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// cpuTime returns what the daemon has used of processors until now.
func cpuTime(t *testing.T, d *netnstest.Daemon) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):]))
	user, _ := strconv.Atoi(f[12])
	system, _ := strconv.Atoi(f[13])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// calm waits until the daemon uses less than a tenth of a processor over a while.
func calm(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon) {
	t.Helper()
	used, at := cpuTime(t, d), time.Now()
	lab.Eventually("the daemon is calm", func() bool {
		if time.Since(at) < 300*time.Millisecond {
			return false
		}
		now := cpuTime(t, d)
		ok := now-used <= time.Since(at)/10
		used, at = now, time.Now()
		return ok
	})
}

// ping waits until the address answers.
func ping(lab *netnstest.Lab, from *netnstest.Container, addr string) {
	lab.Eventually(from.Name+" reaches "+addr, func() bool {
		_, err := from.Try("ping", "-q", "-c1", "-W1", addr)
		return err == nil
	})
}

// difference compares what the two look like as JSON.
func difference(t *testing.T, want, got any) string {
	t.Helper()
	w, err1 := json.MarshalIndent(want, "", " ")
	g, err2 := json.MarshalIndent(got, "", " ")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return cmp.Diff(string(w), string(g))
}

// devices counts what the daemon has: file descriptors of TAPs, its own and the keeper's, and in the private namespace
// interfaces and packet sockets.
func devices(d *netnstest.Daemon) (taps, kept, interfaces, sockets int) {
	keeper := keeperOf(d)
	taps, _ = openFiles(d.PID(), "/dev/net/tun")
	kept, _ = openFiles(keeper, "/dev/net/tun")
	_, private := openFiles(keeper, "net:[")
	ns, err := link.OpenNetns(private)
	if err != nil {
		return taps, kept, -1, -1
	}
	defer ns.Close()
	_ = ns.Do(func() error {
		dev, _ := os.ReadFile("/proc/thread-self/net/dev")
		packet, _ := os.ReadFile("/proc/thread-self/net/packet")
		interfaces = bytes.Count(dev, []byte("\n")) - 3 // two lines of titles, and lo
		sockets = bytes.Count(packet, []byte("\n")) - 1
		return nil
	})
	return taps, kept, interfaces, sockets
}

// openFiles counts the process's open files whose name begins so, and returns where one of them is.
func openFiles(pid int, prefix string) (n int, path string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && strings.HasPrefix(to, prefix) {
			n, path = n+1, file
		}
	}
	return n, path
}

// openFIFO waits until the daemon is at its failpoint; closing the file lets it go on.
func openFIFO(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func killPID(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
