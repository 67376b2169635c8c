package linktest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Kernel tells whether the running kernel is of this version or a later one.
func Kernel(major, minor int) bool {
	v := version()
	return v[0] > major || v[0] == major && v[1] >= minor
}

var version = sync.OnceValue(func() (v [2]int) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		panic(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &v[0], &v[1]); err != nil {
		panic(err)
	}
	return v
})

// Rename renames an interface that is up, in a namespace of 'ip netns'. Before Linux 6.2 it goes down for that: its addresses stay, routes by it don't.
func Rename(t testing.TB, netns, from, to string) {
	t.Helper()
	if Kernel(6, 2) {
		IP(t, "-n", netns, "link", "set", from, "name", to)
		return
	}
	keep := exec.Command("ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv6.conf."+from+".keep_addr_on_down=1")
	if out, err := keep.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	IP(t, "-n", netns, "link", "set", from, "down")
	IP(t, "-n", netns, "link", "set", from, "name", to)
	IP(t, "-n", netns, "link", "set", to, "up")
}

// NeedsTCX skips a test of attachments by tcx where the kernel is older.
func NeedsTCX(t testing.TB) {
	t.Helper()
	if !Kernel(6, 6) {
		t.Skip("tcx came with Linux 6.6")
	}
}

// Make makes an interface of a kind that some kernels lack, in a namespace of 'ip netns', from the words of 'ip link add'. Without that
// kind it skips the test; where VSWITCH_REQUIRE_KINDS=1 says that the kernel has them all, it fails the test.
func Make(t testing.TB, netns, words string) {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"-n", netns, "link", "add"}, strings.Fields(words)...)...).CombinedOutput()
	switch {
	case err == nil:
	case strings.Contains(string(out), "Unknown device type") && os.Getenv("VSWITCH_REQUIRE_KINDS") != "1":
		t.Skipf("this kernel has no such interfaces: %s", words)
	default:
		t.Fatalf("ip link add %s: %v\n%s", words, err, out)
	}
}
