package vswitch_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// asOnOlder is the first argument of this test's binary when it is to become vswitchd on an older kernel: asOnOlder BITS PROGRAM ARGUMENTS.
const asOnOlder = "as-on-an-older-kernel"

// Flags of TUNSETOFFLOAD (linux/if_tun.h).
const tunCsum, tunTSO, tunECN, tunUSO = 0x01, 0x02 | 0x04, 0x08, 0x20 | 0x40

// TestOlderKernel: a kernel that has not all offloads, and none of the longer vnet headers of packet sockets (Linux 6.5), is served with what it
// has. It is this one, with a filter of system calls before vswitchd that refuses what the older one does not know.
func TestOlderKernel(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refused int
		want    string // what vsctl show says of TAPs
		whole   bool   // TCP's super-frames pass uncut
	}{
		{"5.15", tunUSO, "csum tso4 tso6", true},
		{"no ECN", tunUSO | tunECN, "csum tso4 tso6", true},
		{"no super-frames", tunUSO | tunECN | tunTSO, "csum", false},
		{"no offloads", tunUSO | tunECN | tunTSO | tunCsum, "none", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			lab := netnstest.New(t)
			d := lab.NewDaemon()
			d.Before = []string{self, asOnOlder, fmt.Sprint(tt.refused)}
			d.Start()
			d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
			a, b, c := lab.Container("a"), lab.Container("b"), lab.Container("c")
			d.Join("net1", "a", a)
			d.Join("net1", "b", b)
			d.Join("net1", "c", c, "--type", "veth")
			features := netnstest.Get[api.Show](d, "show").Daemon.Features
			if features["tap-offloads"] != tt.want || features["veth-offloads"] != "csum tso4 tso6" {
				t.Errorf("offloads %v; want %s of TAPs, and no USO of veths", features, tt.want)
			}
			allTraffic(t, a, b, b4, b6)
			allTraffic(t, b, c, "10.9.0.4", "fd00:9::4")
			allTraffic(t, c, a, a4, a6)
			netnstest.ExpectNoErrors(a, b, c)
			if p := portStats(t, d, "a"); p.RxFrames < p.RxPackets != tt.whole {
				t.Errorf("of a came %d frames with %d packets; super-frames: want %v", p.RxFrames, p.RxPackets, tt.whole)
			}
			if n := lost(d); n != 0 {
				t.Errorf("%d packets were dropped:\n%s", n, d.Must("drops"))
			}
		})
	}
}

// becomeOnOlder makes this process the program of the arguments, under a filter that the program's children inherit.
func becomeOnOlder(refused string, program []string) error {
	bits, err := strconv.ParseUint(refused, 10, 32)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is this thread's, and exec keeps it
	const load, equal, anyBit, end = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	const number, second, third = 0, 24, 32 // in struct seccomp_data: of the call, the lower halves of its arguments
	filter := []unix.SockFilter{
		{Code: load, K: number},
		{Code: equal, K: unix.SYS_IOCTL, Jf: 4},
		{Code: load, K: second},
		{Code: equal, K: unix.TUNSETOFFLOAD, Jf: 8},
		{Code: load, K: third},
		{Code: anyBit, K: uint32(bits), Jt: 7, Jf: 6},
		{Code: equal, K: unix.SYS_SETSOCKOPT, Jt: 1},
		{Code: equal, K: unix.SYS_GETSOCKOPT, Jf: 4},
		{Code: load, K: second},
		{Code: equal, K: unix.SOL_PACKET, Jf: 2},
		{Code: load, K: third},
		{Code: equal, K: unix.PACKET_VNET_HDR_SZ, Jt: 2},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOPROTOOPT)},
	}
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return syscall.Exec(program[0], program, os.Environ())
}
