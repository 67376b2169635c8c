package server_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vswitch/ctl/server"
)

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "vswitchd.sock")
}

func TestListenMakesFolderAndSocket(t *testing.T) {
	path := socketPath(t)
	l, err := server.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o660, filepath.Dir(path): fs.ModeDir | 0o755} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", p, info.Mode(), err, want)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("the folder has %v, want the socket only", entries)
	}
	if l.Addr().String() != path {
		t.Errorf("the address is %s, want %s", l.Addr(), path)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there after Close")
	}
}

func TestListenReplacesDeadSocketOnly(t *testing.T) {
	path := socketPath(t)
	first, err := server.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen(path); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("a second daemon got %v", err)
	}
	first.Close()

	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	second, err := server.Listen(path)
	if err != nil {
		t.Fatalf("the socket of a dead daemon was not replaced: %v", err)
	}
	defer second.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen(path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "mine" {
		t.Error("the file was touched")
	}
}

func TestCloseLeavesTheNextDaemonsSocket(t *testing.T) {
	path := socketPath(t)
	first, err := server.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	second, err := server.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first daemon removed the socket of the second: %v", err)
	}
}

func TestListenTooLongPath(t *testing.T) {
	if _, err := server.Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 60), strings.Repeat("y", 60), "s")); err == nil {
		t.Error("a path longer than a socket address was accepted")
	}
}
