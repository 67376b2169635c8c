package fdstore_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/fdstore"
)

const grace = 200 * time.Millisecond

// children are what the test binary does when it is started again with FDSTORE_TEST_CHILD.
var children = map[string]func() error{
	"pipe":    childPipe,
	"tap":     childTAP,
	"systemd": childSystemd,
	"dial":    childDial,
}

func TestMain(m *testing.M) {
	err := error(nil)
	switch child := os.Getenv("FDSTORE_TEST_CHILD"); {
	case len(os.Args) == 4 && os.Args[1] == "keeper" && os.Args[2] == "--socket":
		if _, mute := os.Stat(filepath.Join(filepath.Dir(os.Args[3]), "no-keeper")); mute == nil {
			fmt.Fprintln(os.Stderr, "no keeper today")
			os.Exit(1)
		}
		err = fdstore.RunKeeper(context.Background(), os.Args[3], grace)
	case child != "":
		err = children[child]()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child returns a command that runs the child of that name.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "FDSTORE_TEST_CHILD="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// killWhenReady starts cmd, waits until it has printed "ready" and kills it as kill -9 does.
func killWhenReady(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 6)
	_, err = out.Read(line)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if err != nil || string(line) != "ready\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// runDir returns a directory with a short name, whose keeper is killed at the end of the test, after which no fd and no
// goroutine of the test may be left.
func runDir(t *testing.T) string {
	t.Helper()
	warmUp()
	fds, goroutines := openFDs(), runtime.NumGoroutine()
	dir, err := os.MkdirTemp("", "fds")
	must(t, err)
	t.Cleanup(func() {
		if pid := keeperPID(dir); pid != 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		must(t, os.RemoveAll(dir))
		eventually(t, "all fds closed", func() bool { return openFDs() == fds })
		eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
	return dir
}

// warmUp opens what Go's runtime keeps open.
func warmUp() {
	if r, w, err := os.Pipe(); err == nil {
		_, _ = r.Close(), w.Close()
	}
	_ = exec.Command("/bin/true").Run()
}

func openFDs() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// connect opens a raw connection to the keeper in dir, as a garbage client would.
func connect(dir string) (*net.UnixConn, error) {
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(dir, "keeper.sock"), Net: "unixpacket"})
}

// keeperPID returns the pid of the keeper in dir, 0 when there is none.
func keeperPID(dir string) int {
	conn, err := connect(dir)
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close() }()
	raw, _ := conn.SyscallConn()
	var pid int
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

func killKeeper(t *testing.T, dir string) {
	t.Helper()
	pid := keeperPID(dir)
	if pid == 0 {
		t.Fatal("no keeper runs")
	}
	must(t, unix.Kill(pid, unix.SIGKILL))
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func open(t *testing.T, dir string) fdstore.Store {
	t.Helper()
	s, err := fdstore.Open(fdstore.Config{Mode: "keeper", Dir: dir})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// memfd returns an fd whose file holds text.
func memfd(t *testing.T, text string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	must(t, err)
	_, err = unix.Pwrite(fd, []byte(text), 0)
	must(t, err)
	return fd
}

func textOf(t *testing.T, fd int) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Pread(fd, buf, 0)
	must(t, err)
	return string(buf[:n])
}

// takeAll returns what the store holds: the text of each memfd by name.
func takeAll(t *testing.T, s fdstore.Store) map[string]string {
	t.Helper()
	fds, err := s.Take()
	must(t, err)
	texts := map[string]string{}
	for name, fd := range fds {
		texts[name] = textOf(t, fd)
		_ = unix.Close(fd)
	}
	return texts
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error is %v, want one with %q", err, part)
	}
}
