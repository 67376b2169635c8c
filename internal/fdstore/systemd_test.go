package fdstore_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vswitch/internal/fdstore"
)

// manager is the notify socket of a service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, socket string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	return manager{t, conn}
}

// want receives one notification, which must be state, and returns the text of the memfd that came with it.
func (m manager) want(state string) string {
	m.t.Helper()
	buf, oob := make([]byte, 1000), make([]byte, 1000)
	must(m.t, m.conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	must(m.t, err)
	if diff := cmp.Diff(state, string(buf[:n])); diff != "" {
		m.t.Errorf("notification: %s", diff)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(m.t, err)
	if len(msgs) == 0 {
		return ""
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	must(m.t, err)
	if len(fds) != 1 {
		m.t.Fatalf("got fds %v, want one", fds)
	}
	defer func() { _ = unix.Close(fds[0]) }()
	return textOf(m.t, fds[0])
}

// wantNothing asserts that no notification waits.
func (m manager) wantNothing() {
	m.t.Helper()
	must(m.t, fdstore.Notify("MARK=1"))
	m.want("MARK=1")
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	must(t, fdstore.Notify("READY=1"))
	dir := runDir(t)
	for _, socket := range []string{filepath.Join(dir, "notify"), fmt.Sprintf("@vswitch-test-%d", os.Getpid())} {
		m := newManager(t, socket)
		must(t, fdstore.Notify("READY=1\nSTATUS=serving 3 ports"))
		m.want("READY=1\nSTATUS=serving 3 ports")
		must(t, m.conn.Close())
	}
	wantError(t, fdstore.Notify("READY=1"), "notify service manager")
	t.Setenv("NOTIFY_SOCKET", "vsock:2:1")
	wantError(t, fdstore.Notify("READY=1"), "neither a path nor")
}

func TestSystemdStore(t *testing.T) {
	m := newManager(t, filepath.Join(runDir(t), "notify"))
	t.Setenv("FDSTORE", "2")
	s, err := fdstore.Open(fdstore.Config{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	if s.Kind() != "systemd" {
		t.Fatalf("store is %s", s.Kind())
	}
	one, two := memfd(t, "one"), memfd(t, "two")
	defer func() { _, _ = unix.Close(one), unix.Close(two) }()
	must(t, s.Put("a b", one))
	if got := m.want("FDSTORE=1\nFDNAME=a b\nFDPOLL=0"); got != "one" {
		t.Errorf("systemd got %q", got)
	}
	must(t, s.Put("a b", two)) // replaces
	m.want("FDSTOREREMOVE=1\nFDNAME=a b")
	if got := m.want("FDSTORE=1\nFDNAME=a b\nFDPOLL=0"); got != "two" {
		t.Errorf("systemd got %q", got)
	}
	must(t, s.Put("c", one))
	m.want("FDSTORE=1\nFDNAME=c\nFDPOLL=0")
	wantError(t, s.Put("d", two), "FileDescriptorStoreMax")
	wantError(t, s.Put("c", 9999), "bad file descriptor")
	if diff := cmp.Diff(map[string]string{"a b": "two", "c": "one"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Delete("c"))
	m.want("FDSTOREREMOVE=1\nFDNAME=c")
	must(t, s.Delete("c"))
	m.wantNothing()
	must(t, s.Close())
	wantError(t, s.Put("a", one), "closed")
	m.wantNothing()
}

func TestSystemdRefusesNamesItCouldNotPassBack(t *testing.T) {
	m := newManager(t, filepath.Join(runDir(t), "notify"))
	s, err := fdstore.Open(fdstore.Config{Mode: "systemd"})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	for i := 0; ; i++ {
		name := fmt.Sprintf("%0255d", i)
		if err = s.Put(name, fd); err != nil {
			break
		}
		m.want("FDSTORE=1\nFDNAME=" + name + "\nFDPOLL=0")
	}
	wantError(t, err, "use shorter names")
}

// childSystemd is a daemon started by systemd with three fds, of which two have the same name.
func childSystemd() error {
	s, err := fdstore.Open(fdstore.Config{Mode: "auto"})
	if err != nil {
		return err
	}
	if got := os.Getenv("LISTEN_FDS") + os.Getenv("LISTEN_PID") + os.Getenv("LISTEN_FDNAMES"); got != "" {
		return fmt.Errorf("children would inherit %q", got)
	}
	first, err := s.Take()
	if err != nil {
		return err
	}
	second, err := s.Take()
	if err != nil {
		return err
	}
	for _, fds := range []map[string]int{first, second} {
		if len(fds) != 2 || first["tap.1"] != 3 {
			return fmt.Errorf("took %v", fds)
		}
		for name, fd := range fds {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			buf := make([]byte, 100)
			n, _ := unix.Pread(fd, buf, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 || string(buf[:n]) != name {
				return fmt.Errorf("%s is fd %d: %q, flags %#x, %w", name, fd, buf[:n], flags, err)
			}
		}
	}
	if _, err := unix.FcntlInt(5, unix.F_GETFD, 0); err == nil && second["tap.1"] != 5 && second["tap.2"] != 5 {
		return fmt.Errorf("the second fd named tap.1 is still open")
	}
	return s.Delete("tap.2")
}

func TestSystemdPassesFDs(t *testing.T) {
	m := newManager(t, filepath.Join(runDir(t), "notify"))
	// LISTEN_PID must be the child's own, which only a shell knows before the exec.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, "/proc/"+fmt.Sprint(os.Getpid())+"/exe")
	cmd.Env = append(os.Environ(), "FDSTORE_TEST_CHILD=systemd", "VSWITCH_FDSTORE=systemd",
		"LISTEN_FDS=3", "LISTEN_FDNAMES=tap.1:tap.2:tap.1")
	for _, text := range []string{"tap.1", "tap.2", "older tap.1"} {
		f := os.NewFile(uintptr(memfd(t, text)), text)
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.want("FDSTOREREMOVE=1\nFDNAME=tap.2")
}

func TestOpenChoosesStore(t *testing.T) {
	tests := []struct {
		name, mode, notify, fdstore, ours, want string
	}{
		{"no systemd", "auto", "", "", "", "keeper"},
		{"unit without store", "", "/run/x", "", "", "keeper"},
		{"unit with empty store", "", "/run/x", "0", "", "keeper"},
		{"unit with store", "auto", "/run/x", "512", "", "systemd"},
		{"older systemd", "auto", "/run/x", "", "systemd", "systemd"},
		{"store without socket", "auto", "", "512", "", "keeper"},
		{"keeper under systemd", "keeper", "/run/x", "512", "", "keeper"},
		{"none", "none", "/run/x", "512", "", "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", tt.notify)
			t.Setenv("FDSTORE", tt.fdstore)
			t.Setenv("VSWITCH_FDSTORE", tt.ours)
			s, err := fdstore.Open(fdstore.Config{Mode: tt.mode, Dir: "/run/x"})
			must(t, err)
			defer func() { must(t, s.Close()) }()
			if s.Kind() != tt.want {
				t.Errorf("store is %s, want %s", s.Kind(), tt.want)
			}
		})
	}
	t.Setenv("NOTIFY_SOCKET", "")
	for mode, part := range map[string]string{"systemd": "NOTIFY_SOCKET is not set", "disk": "mode \"disk\" is unknown"} {
		_, err := fdstore.Open(fdstore.Config{Mode: mode, Dir: "/run/x"})
		wantError(t, err, part)
	}
	_, err := fdstore.Open(fdstore.Config{Mode: "keeper"})
	wantError(t, err, "set Dir")
	_, err = fdstore.Open(fdstore.Config{Mode: "keeper", Dir: "/" + strings.Repeat("d", 100)})
	wantError(t, err, "shorter run directory")
}

func TestBadNamesAreRefused(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	for _, mode := range []string{"systemd", "keeper", "none"} {
		s, err := fdstore.Open(fdstore.Config{Mode: mode, Dir: "/run/x"})
		must(t, err)
		for _, name := range []string{"", "a:b", "a\nb", "a\x00", "caf\u00e9", "\x7f", strings.Repeat("n", 256)} {
			wantError(t, s.Put(name, 0), "printable ASCII")
			wantError(t, s.Delete(name), "printable ASCII")
		}
		must(t, s.Close())
	}
}
