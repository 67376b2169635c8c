package fdstore_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vswitch/internal/fdstore"
)

// childPipe is a daemon that puts both ends of a pipe with data in it and is killed.
func childPipe() error {
	s, err := fdstore.Open(fdstore.Config{Mode: "keeper", Dir: os.Getenv("DIR")})
	if err != nil {
		return err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if _, err := unix.Write(p[1], []byte("hello")); err != nil {
		return err
	}
	if err := s.Put("read", p[0]); err != nil {
		return err
	}
	if err := s.Put("write", p[1]); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

func TestFDsSurviveSIGKILL(t *testing.T) {
	dir := runDir(t)
	cmd := child(t, "pipe")
	cmd.Env = append(cmd.Env, "DIR="+dir)
	killWhenReady(t, cmd)

	s := open(t, dir)
	fds, err := s.Take()
	must(t, err)
	if len(fds) != 2 {
		t.Fatalf("took %v, want read and write", fds)
	}
	for name, fd := range fds {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s has flags %#x, %v, want close-on-exec", name, flags, err)
		}
	}
	_, err = unix.Write(fds["write"], []byte(" world"))
	must(t, err)
	buf := make([]byte, 100)
	n, err := unix.Read(fds["read"], buf)
	if err != nil || string(buf[:n]) != "hello world" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	// Taken fds are held further, also by the keeper that follows a killed one.
	killKeeper(t, dir)
	again, err := s.Take()
	must(t, err)
	if len(again) != 2 {
		t.Errorf("took %v from the second keeper", again)
	}
	for _, fds := range []map[string]int{fds, again} {
		for _, fd := range fds {
			must(t, unix.Close(fd))
		}
	}
}

func TestSecondKeeperIsRefused(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	out, err := exec.Command("/proc/self/exe", "keeper", "--socket", filepath.Join(dir, "keeper.sock")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another keeper") {
		t.Errorf("second keeper: %v, %s", err, out)
	}
	if diff := cmp.Diff(map[string]string{"x": "x"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestKeeperIsOnItsOwn(t *testing.T) {
	dir := runDir(t)
	var leak [2]int
	must(t, unix.Pipe(leak[:])) // inherited unless the store prevents it
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _, _, _ = unix.Close(fd), unix.Close(leak[0]), unix.Close(leak[1]) }()
	must(t, s.Put("x", fd))
	pid := keeperPID(dir)
	if sid, err := unix.Getsid(pid); sid != pid {
		t.Errorf("session is %d, %v, want its own %d", sid, err, pid)
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	if cwd, _ := os.Readlink(proc + "cwd"); cwd != "/" {
		t.Errorf("working directory is %s", cwd)
	}
	if comm, _ := os.ReadFile(proc + "comm"); string(comm) != "vswitch-keeper\n" {
		t.Errorf("comm is %q", comm)
	}
	fds, err := os.ReadDir(proc + "fd")
	must(t, err)
	for _, e := range fds {
		to, _ := os.Readlink(proc + "fd/" + e.Name())
		want := map[string]string{"0": "/dev/null", "1": "/dev/null", "2": "/memfd:keeper (deleted)"}[e.Name()]
		if want != "" && to != want || strings.HasPrefix(to, "pipe:") {
			t.Errorf("fd %s is %s", e.Name(), to)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "keeper.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	status, _ := os.ReadFile(proc + "status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") || strings.HasPrefix(line, "Threads") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func TestEmptyKeeperEnds(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	pid := keeperPID(dir)
	must(t, s.Delete("x"))
	time.Sleep(3 * grace) // a connected client keeps it alive
	must(t, s.Put("x", fd))
	if now := keeperPID(dir); now != pid {
		t.Fatalf("keeper %d became %d", pid, now)
	}
	must(t, s.Delete("x"))
	must(t, s.Close())
	eventually(t, "the empty keeper ends", func() bool { return !alive(pid) })
	if _, err := os.Stat(filepath.Join(dir, "keeper.sock")); !os.IsNotExist(err) {
		t.Errorf("its socket: %v", err)
	}
}

func TestUnreachableKeeperEnds(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	pid := keeperPID(dir)
	must(t, os.Remove(filepath.Join(dir, "keeper.sock")))
	must(t, s.Close())
	eventually(t, "the unreachable keeper ends", func() bool { return !alive(pid) })
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := runDir(t)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "keeper.sock"), Net: "unixpacket"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	s := open(t, dir)
	if got := takeAll(t, s); len(got) != 0 {
		t.Errorf("took %v", got)
	}
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	if got := takeAll(t, s); got["x"] != "x" {
		t.Errorf("took %v", got)
	}
}

func TestGarbageDoesNotHarmKeeper(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	pid := keeperPID(dir)
	conn, err := connect(dir)
	must(t, err)
	defer func() { _ = conn.Close() }()
	big := make([]byte, 100_000)
	tests := []struct {
		name string
		msg  []byte
		fds  int
		want string
	}{
		{"too short", []byte{1}, 0, "too few"},
		{"other version", []byte{9, 1, 1, 'a'}, 1, "version 9"},
		{"unknown request", []byte{1, 77}, 0, "77 is unknown"},
		{"an answer", []byte{1, 0x82, 'x'}, 0, "130 is unknown"},
		{"name cut off", []byte{1, 1, 200, 'a'}, 1, "cut off"},
		{"empty name", []byte{1, 1, 0}, 1, "bad fd name"},
		{"bad name", []byte{1, 1, 1, ':'}, 1, "bad fd name"},
		{"no fd", []byte{1, 1, 1, 'a'}, 0, "0 fds for 1 names"},
		{"too many fds", []byte{1, 1, 1, 'a'}, 253, "253 fds for 1 names"},
		{"fds with take", []byte{1, 3}, 5, "5 fds for 0 names"},
		{"fds with delete", []byte{1, 2, 1, 'a'}, 1, ""},
		{"too long", big, 3, "bad message"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fds := make([]int, tt.fds)
			for i := range fds {
				fds[i] = fd
			}
			_, _, err := conn.WriteMsgUnix(tt.msg, unix.UnixRights(fds...), nil)
			must(t, err)
			reply := make([]byte, 1000)
			n, err := conn.Read(reply)
			must(t, err)
			if tt.want == "" && reply[1] == 0x80 {
				return
			}
			if reply[1] != 0x82 || !strings.Contains(string(reply[:n]), tt.want) {
				t.Errorf("answer is %#x %q, want a refusal with %q", reply[1], reply[2:n], tt.want)
			}
		})
	}
	if diff := cmp.Diff(map[string]string{"x": "x"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, conn.Close())
	eventually(t, "the keeper has one fd of ours", func() bool {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		must(t, err)
		held := 0
		for _, e := range fds {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())); strings.HasPrefix(to, "/memfd:test") {
				held++
			}
		}
		return held == 1
	})
}

// childDial is a process of another user.
func childDial() error {
	conn, err := connect(os.Getenv("DIR"))
	if err != nil {
		return err
	}
	_, _ = conn.Write([]byte{1, 3})
	if n, err := conn.Read(make([]byte, 100)); err == nil && n > 0 {
		return fmt.Errorf("the keeper answered %d bytes to user %d", n, os.Getuid())
	}
	return nil
}

func TestOtherUsersAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	must(t, os.Chmod(dir, 0o777))
	must(t, os.Chmod(filepath.Join(dir, "keeper.sock"), 0o666))
	exe := filepath.Join(dir, "exe") // the binary's own directory is closed to others
	data, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(exe, data, 0o755))
	cmd := child(t, "dial")
	cmd.Path = exe
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, "DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	must(t, cmd.Run())
}
