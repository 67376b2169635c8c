package packet_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

// TestKernelCutsTheSame lets the kernel cut super-frames:
//
//	test -- super-frame --> tapA  [ namespace, routing ]  tapB, without offload -- segments --> test
//
// What comes out must be, byte for byte, what Segment and the oracle of package packettest make of it.
func TestKernelCutsTheSame(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // and never unlock: the thread dies with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6
	a, b := openTAP(t, "tapA", all), openTAP(t, "tapB", 0)
	ip(t, `link set tapA address 02:00:00:00:00:02 up
addr add 10.0.0.9/24 dev tapA
addr add fd00::9/64 dev tapA nodad
link set tapB address 02:00:00:00:01:01 up
addr add 10.0.1.9/24 dev tapB
addr add fd01::9/64 dev tapB nodad
neigh add 10.0.1.2 lladdr 02:00:00:00:01:02 dev tapB
neigh add fd01::2 lladdr 02:00:00:00:01:02 dev tapB`)
	for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	const in, out, outSrc = "02:00:00:00:00:02", "02:00:00:00:01:02", "02:00:00:00:01:01"
	for _, c := range []struct {
		name     string
		build    func(...Option) *packet.Frame
		src, dst string
		options  []Option
	}{
		{"TCP", TCP, "10.0.0.1", "10.0.1.2", []Option{GSO(1448), Size(60000), Timestamps(1, 2), Flags(0x18)}},
		{"TCP with CWR and FIN", TCP, "10.0.0.1", "10.0.1.2", []Option{GSO(1000), ECN(), Size(2500), Flags(0xd9), ID(0xffff, false)}},
		{"TCP with CWR and no ECN offload", TCP, "10.0.0.1", "10.0.1.2", []Option{GSO(1000), Size(2500), Flags(0x90), Seq(0xffffff00)}},
		{"TCP over IPv6", TCP, "fd00::1", "fd01::2", []Option{GSO(1428), Size(50000)}},
		{"UDP", UDP, "10.0.0.1", "10.0.1.2", []Option{GSO(1472), Size(60000)}},
		{"UDP, odd", UDP, "10.0.0.1", "10.0.1.2", []Option{GSO(333), Size(10001), ID(7, true), TOS(0x2e << 2)}},
		{"UDP over IPv6", UDP, "fd00::1", "fd01::2", []Option{GSO(1431), Size(9999)}},
		{"partial", UDP, "fd00::1", "fd01::2", []Option{Partial(), Size(77)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.build(append(c.options, From("02:00:00:00:00:01", c.src, 1000), To(in, c.dst, 2000), TTL(64))...)
			if _, err := unix.Write(a, f.WithVnet()); err != nil {
				t.Fatal(err)
			}
			routed := parsed(t, c.build(append(c.options, From(outSrc, c.src, 1000), To(out, c.dst, 2000), TTL(63))...))
			want, got, segment := Resegment(routed.Vnet(), routed.Bytes()), newFrame(), newFrame()
			for i := range routed.Segs {
				got.SetRead(readTAP(t, b, got.Space(), out))
				if routed.CopyInto(segment); routed.Segs > 1 {
					routed.Segment(segment, i, false)
				}
				segment.CompleteChecksum()
				if !bytes.Equal(got.WithVnet(), segment.WithVnet()) || !bytes.Equal(got.Bytes(), want[i]) {
					n := min(90, got.Len(), segment.Len())
					t.Fatalf("segment %d\nkernel  %x\nSegment %x\noracle  %x", i, got.Bytes()[:n], segment.Bytes()[:n], want[i][:n])
				}
			}
		})
	}
}

func openTAP(t *testing.T, name string, offload int) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, packet.VnetLen); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
		t.Fatal(err)
	}
	return fd
}

// readTAP reads the next frame to the given MAC; the kernel sends some of its own as well.
func readTAP(t *testing.T, fd int, b []byte, mac string) int {
	t.Helper()
	want, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 5000); err == unix.EINTR {
			continue
		} else if n != 1 || err != nil {
			t.Fatalf("the kernel sent no more: %v", err)
		}
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b[packet.VnetLen:packet.VnetLen+6], want) {
			return n
		}
	}
}

// ip runs lines of iproute2 commands.
func ip(t *testing.T, lines string) {
	t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}
