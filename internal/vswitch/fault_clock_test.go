//go:build amd64

package vswitch_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// setClock sets the clock of one process off by that: the machine's own is everybody's. Programs read it by a function that the
// kernel maps into them, the vDSO; it is overwritten with one that makes the system call and adds to CLOCK_REALTIME. Meanwhile the process
// stands still; how long is returned.
func setClock(t *testing.T, pid int, by time.Duration) (stood time.Duration) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var from, to int64
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[vdso]") {
			fmt.Sscanf(line, "%x-%x", &from, &to)
		}
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, from); err != nil {
		t.Fatal(err)
	}
	at, size := vdsoFunction(t, image, "__vdso_clock_gettime")
	code := []byte{
		0xb8, 0xe4, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, //          syscall
		0x85, 0xff, //          test edi, edi
		0x75, 0x07, //          jnz ret: another clock than CLOCK_REALTIME
		0x48, 0x81, 0x06, //    add qword [rsi], seconds
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(int32(by/time.Second)))
	code = append(code, 0xc3) // ret
	if uint64(len(code)) > size {
		t.Fatalf("the function has %d bytes", size)
	}
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	var stopped time.Time
	for range 100 { // until no thread stands in the function
		stopped = time.Now()
		signal(syscall.SIGSTOP)
		if !within(t, pid, uint64(from)+at, size) {
			break
		}
		signal(syscall.SIGCONT)
	}
	if _, err := mem.WriteAt(code, from+int64(at)); err != nil {
		t.Fatal(err)
	}
	signal(syscall.SIGCONT)
	return time.Since(stopped)
}

func vdsoFunction(t *testing.T, image []byte, name string) (at, size uint64) {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return s.Value, s.Size
		}
	}
	t.Fatalf("no %s in the vDSO", name)
	return 0, 0
}

// within waits until all threads of the process are stopped, and tells whether one of them is at an address of the range.
func within(t *testing.T, pid int, from, size uint64) bool {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		for {
			stat, _ := os.ReadFile(task + "/stat")
			if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "T") {
				break
			}
		}
		b, err := os.ReadFile(task + "/syscall") // its last two words are the stack and the program counter
		f := strings.Fields(string(b))
		if err != nil || len(f) < 2 {
			t.Fatalf("%q, %v", b, err)
		}
		var pc uint64
		fmt.Sscanf(f[len(f)-1], "0x%x", &pc)
		if pc >= from && pc < from+size {
			return true
		}
	}
	return false
}

// TestClockIsSet: by a day back and two forward. Ages, rests and deadlines go by another clock.
//
//	a eth0 ===TCP=== net1 === eth0 b
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	start := time.Now()
	a, b := pairOf(lab, d, "tap", "veth")
	d.Must("add-network", "brief", "--subnet", "10.10.0.0/24", "--age", "2")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	c := lab.Container("c")
	c.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	for i, by := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		d.Join("brief", "old", c)
		d.Must("del-port", "old") // its address rests from now on
		d.Join("brief", "c", c)   // announced, and silent from then on
		learned := netnstest.Get[[]api.FDBEntry](d, "fdb", "brief")
		s.longest()
		stood := setClock(t, d.PID(), by)
		d.Must("show")
		s.goesOn(lab)
		for _, f := range netnstest.Get[[]api.FDBEntry](d, "fdb") {
			if f.Age < 0 || f.Age > int(time.Since(start).Seconds())+1 {
				t.Errorf("%v: %+v", by, f)
			}
		}
		for _, f := range netnstest.Get[[]api.Flow](d, "flows") {
			if f.Idle < 0 || f.Idle > int(time.Since(start).Seconds())+1 {
				t.Errorf("%v: %+v", by, f)
			}
		}
		if len(learned) != 1 {
			t.Errorf("learned %+v", learned)
		}
		lab.Eventually("what is silent is forgotten in its time", func() bool {
			return len(netnstest.Get[[]api.FDBEntry](d, "fdb", "brief")) == 0
		})
		next := netnstest.Get[api.Port](d, "add-port", "brief", "next", "--netns", lab.Container("next").Name)
		if want := fmt.Sprintf("10.10.0.%d/24", 4+3*i); next.IPs[0].String() != want {
			t.Errorf("%v: the address %v is given out, want %s: those given back rest for a minute", by, next.IPs[0], want)
		}
		now := time.Now().Add(by)
		d.Must("del-port", "c")
		d.Must("del-port", "next")
		if at := lastEvent(t, d).Time; at.Sub(now).Abs() > time.Minute {
			t.Errorf("%v: an event happened at %v, want %v: is the clock set?", by, at, now)
		}
		if gap := s.longest(); gap > stood+time.Second {
			t.Errorf("%v: traffic stood still for %v, the daemon for %v of them", by, gap, stood)
		}
	}
	old := keeperOf(d)
	d.Allow("the keeper went away")
	killKeeper(t, d)
	lab.Eventually("a new keeper", func() bool { now := keeperOf(d); return now != 0 && now != old })
}

func lastEvent(t *testing.T, d *netnstest.Daemon) (last api.Event) {
	t.Helper()
	for e, err := range d.Client.Events(t.Context(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		last = e
	}
	return last
}
