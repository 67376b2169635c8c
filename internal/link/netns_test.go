package link_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

func wantCode(t *testing.T, err error, code, part string) {
	t.Helper()
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Detail, part) {
		t.Errorf("error is %#v; want code %s and %q in it", err, code, part)
	}
}

func TestResolveSpec(t *testing.T) {
	ns := linktest.Namespace(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	for _, c := range []struct {
		spec       string
		pid        int
		path, code string
		part       string
	}{
		{spec: ns.String(), path: ns.Path()},
		{spec: ns.Path(), path: ns.Path()},
		{spec: fmt.Sprint(os.Getpid()), path: self},
		{pid: os.Getpid(), path: self},
		{code: api.CodeInvalid, part: "give a name"},
		{spec: "no-such", code: api.CodeNotFound, part: `network namespace "no-such": no such name in /run/netns; make it with 'ip netns add no-such' or give a path`},
		{spec: "../etc", code: api.CodeInvalid, part: "absolute"},
		{spec: "..", code: api.CodeInvalid, part: "absolute"},
		{spec: "/no/such", code: api.CodeNotFound, part: "/no/such"},
		{pid: 1 << 30, code: api.CodeNotFound, part: "no such process"},
	} {
		path, err := link.ResolveSpec(c.spec, c.pid)
		if path != c.path {
			t.Errorf("%q, %d: path %q, error %v; want %q", c.spec, c.pid, path, err, c.path)
		}
		if c.code != "" {
			wantCode(t, err, c.code, c.part)
		}
	}
	for _, path := range []string{file, "/proc/self/ns/uts"} {
		_, err := link.OpenNetns(path)
		wantCode(t, err, api.CodeInvalid, "not a network namespace")
	}
}

func TestNamespaceDies(t *testing.T) {
	ns := linktest.Namespace(t)
	if id, err := link.Identify(ns.Path()); err != nil || id != ns.ID() {
		t.Fatalf("identity is %v, %v; want %v", id, err, ns.ID())
	}
	linktest.IP(t, "netns", "del", ns.String())
	if id, err := link.Identify(ns.Path()); err == nil {
		t.Errorf("its name was deleted, and stands for %v", id)
	}
	if _, err := link.Lookup(ns, "lo"); err != nil {
		t.Errorf("the handle is of no use any more: %v", err)
	}
}

func TestDoLeavesOthersAlone(t *testing.T) {
	ns := linktest.Namespace(t)
	before, err := link.Identify("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		err := ns.Do(func() error {
			inside, err := link.Identify("/proc/thread-self/ns/net")
			if err == nil && inside != ns.ID() {
				err = fmt.Errorf("the thread is in %v", inside)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := link.Identify("/proc/self/ns/net"); after != before {
		t.Errorf("the process is in %v; want %v", after, before)
	}
	want := errors.New("mine")
	if err := ns.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("error is %v; want fn's", err)
	}
}

func TestPrivate(t *testing.T) {
	private := linktest.Private(t)
	err := private.Do(func() error {
		for path, want := range map[string]string{
			"/proc/sys/net/ipv4/ip_forward":                "0\n",
			"/proc/sys/net/ipv6/conf/default/disable_ipv6": "1\n",
			"/proc/sys/net/ipv6/conf/lo/disable_ipv6":      "1\n",
		} {
			if b, err := os.ReadFile(path); err == nil && string(b) != want {
				return fmt.Errorf("%s is %q; want %q", path, b, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	fd, err := unix.FcntlInt(uintptr(private.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := link.FromFD(fd, "")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.ID() != private.ID() {
		t.Errorf("adopted namespace is %v, want %v", again.ID(), private.ID())
	}
}
