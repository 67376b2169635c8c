package vswitch_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
	"vswitch/internal/store"
)

// tmpfs mounts a file system of its own, for a state directory. To be called before netnstest.New, which cleans up first.
func tmpfs(t *testing.T, options string) (dir string) {
	t.Helper()
	netnstest.Root(t)
	dir, err := os.MkdirTemp("", "vs") // testing's own may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file until the file system is full.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull: what can't be written down is refused and leaves nothing; traffic goes on; with space again, so does all else.
//
//	a eth0 ===TCP=== net1 === eth0 b      c (eth0)
func TestDiskFull(t *testing.T) {
	dir := tmpfs(t, "size=1m")
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.State = filepath.Join(dir, "state")
	d.Start()
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	c := lab.Container("c")
	labels := []string{"add-port", "net1", "c", "--netns", c.Name}
	for i := range 60 { // a record that needs new pages
		labels = append(labels, "--label", strings.Repeat("x", 500)+string(rune('A'+i))+"="+strings.Repeat("y", 500))
	}
	before := lastingOf(t, d, a, b)
	held := vitalsOf(t, d)
	free := fill(t, dir)
	gap := shortest(time.Second, func() time.Duration {
		s.longest()
		for range 3 {
			d.Refused(1, "the file system is full; free some space", labels...)
		}
		s.goesOn(lab)
		return s.longest()
	})
	if gap > time.Second {
		t.Errorf("traffic stood still for %v", gap)
	}
	if links := c.Links(); len(links) != 0 {
		t.Errorf("a port that was refused left %+v", links)
	}
	if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
		t.Errorf("not the same as before: %s", diff)
	}
	held.wantBack(t, lab, d)
	free()
	d.Must(labels...)
	ping(lab, c, b4)
	s.goesOn(lab)
	free = fill(t, dir)
	d.Must("del-port", "c") // what is deleted needs no space
	free()
	d.Kill()
	d.Start()
	s.goesOn(lab)
	if ports := netnstest.Get[[]api.Port](d, "list-ports"); len(ports) != 2 {
		t.Errorf("after a restart there are %d ports, want 2", len(ports))
	}
}

// TestNoInodes: the daemon runs on without; one that has to make its files says what is missing.
func TestNoInodes(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=4m,nr_inodes=20")
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.State = filepath.Join(dir, "state")
	var files []string
	exhaust := func() {
		for {
			path := filepath.Join(dir, "f"+string(rune('A'+len(files))))
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return
			}
			files = append(files, path)
		}
	}
	exhaust()
	if err := d.TryStart(); err == nil || !strings.Contains(d.Log(), "free some space or inodes") {
		t.Errorf("start: %v", err)
	}
	d.Allow("inodes")
	for _, f := range files {
		os.Remove(f)
	}
	files = nil
	d.Start()
	a, _ := pairOf(lab, d, "tap", "veth")
	exhaust()
	c := lab.Container("c")
	d.Join("net1", "c", c)
	ping(lab, a, b4)
	d.Must("del-port", "c")
	for _, f := range files {
		os.Remove(f)
	}
}

// TestReadOnlyDisk: the file system becomes read-only after an error, as ext4 does.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	netnstest.Root(t)
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		t.Fatal(err)
	}
	image := dir + ".img"
	sh := func(line string) string {
		t.Helper()
		out, err := exec.Command("sh", "-ec", line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	sh("truncate -s 16M " + image + " && mkfs.ext4 -q " + image + " && mount -o loop,errors=remount-ro " + image + " " + dir)
	t.Cleanup(func() { sh("umount -l " + dir + " && rm -r " + dir + " " + image) })
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.State = filepath.Join(dir, "state")
	d.Start()
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	c := lab.Container("c")
	sh("echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE " + dir + "))/trigger_fs_error")
	s.longest()
	r := d.Vsctl("add-port", "net1", "c", "--netns", c.Name)
	if r.Code != 1 || !strings.Contains(r.Err, "the file system is read-only; use another --state-dir, or make it writable") {
		t.Errorf("add-port: %+v", r)
	}
	if links := c.Links(); len(links) != 0 {
		t.Errorf("a port that was refused left %+v", links)
	}
	s.goesOn(lab)
	d.Stop()
	if err := d.TryStart(); err == nil || !strings.Contains(d.Log(), "the file system is read-only; use another --state-dir, or make it writable") {
		t.Errorf("start: %v\n%s", err, d.Log())
	}
	s.close()
	killKeeper(t, d) // its socket is in there
	sh("for i in $(seq 100); do ! umount " + dir + " || break; sleep 0.1; done; e2fsck -fy " + image + " >/dev/null || [ $? -le 2 ]; mount -o loop " + image + " " + dir)
	d.Start()
	ping(lab, a, b4)
}

// TestStateDeleted: somebody deletes the state directory under the daemon. It is written again, and nothing is lost.
func TestStateDeleted(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Allow("was deleted under us")
	d.Allow("the keeper went away")
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	before := lastingOf(t, d, a, b)
	old := keeperOf(d)
	c := lab.Container("c")
	d.Join("net1", "c", c)
	d.Must("del-port", "c")
	held := vitalsOf(t, d)
	if err := os.RemoveAll(d.State); err != nil {
		t.Fatal(err)
	}
	d.Join("net1", "c", c)
	d.Must("del-port", "c")
	lab.Eventually("a new keeper has all", func() bool {
		_, err := os.Stat(filepath.Join(d.State, "keeper.sock"))
		return err == nil && slices.Contains(events(t, d, ""), "keeper.replaced")
	})
	lab.Eventually("the old keeper ends", func() bool { return unix.Kill(old, 0) != nil })
	held.wantBack(t, lab, d)
	d.Kill()
	d.Start()
	s.goesOn(lab)
	if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
		t.Errorf("not the same as before: %s", diff)
	}
}

// TestStateReplaced: another file in its place is not overwritten.
func TestStateReplaced(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Allow("was replaced while")
	a, _ := pairOf(lab, d, "tap", "veth")
	path := filepath.Join(d.State, "state.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+".copy", whole, 0o600), os.Rename(path+".copy", path)); err != nil {
		t.Fatal(err)
	}
	d.Refused(1, "restart vswitchd to go on with the new one, or put the old one back", "del-port", "a")
	lab.Eventually("an event tells", func() bool { return slices.Contains(events(t, d, ""), "state.error") })
	ping(lab, a, b4)
	d.Stop()
	d.Start()
	ping(lab, a, b4)
	d.Must("del-port", "a")
}

// TestStateUnusable: the daemon does not start, says why and what to do, and touches nothing. With the file put right it goes on.
func TestStateUnusable(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := pairOf(lab, d, "tap", "veth")
	before := lastingOf(t, d, a, b)
	d.Stop()
	path := filepath.Join(d.State, "state.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	for i := range flipped {
		flipped[i] ^= 0x10
	}
	remove := func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, says string
		spoil      func() error
	}{
		{"empty", "it is empty", func() error { return os.WriteFile(path, nil, 0o600) }},
		{"torn", "put back a copy of it, or move it away to start without networks and ports",
			func() error { return os.WriteFile(path, whole[:len(whole)/2], 0o600) }},
		{"bits flipped", "is damaged", func() error { return os.WriteFile(path, flipped, 0o600) }},
		{"a directory", "something else is in its place", func() error { return os.Mkdir(path, 0o700) }},
		{"a device", "it is no file", func() error { return os.Symlink("/dev/zero", path) }},
		{"newer", "is of a newer vswitchd (version 99; this one knows 1): start that one, or use another --state-dir", func() error {
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				return err
			}
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			return errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte("99")) }), db.Close())
		}},
	} {
		remove()
		if err := tt.spoil(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := d.TryStart(); err == nil {
			t.Fatalf("%s: the daemon started", tt.name)
		}
		log := strings.Split(strings.TrimSpace(d.Log()), "\n")
		if last := log[len(log)-1]; !strings.Contains(last, tt.says) || !strings.HasPrefix(last, "vswitchd: ") {
			t.Errorf("%s: it says %q, want %q", tt.name, last, tt.says)
		}
	}
	remove()
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Start()
	if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
		t.Errorf("not the same as before: %s", diff)
	}
	ping(lab, a, b4)
}

// TestNonsenseRecords: records that can be read but make no sense are named and put aside; the others go on.
func TestNonsenseRecords(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	for _, words := range []string{"makes no sense", "port can't be restored", "addresses are taken"} {
		d.Allow(words)
	}
	a, _ := pairOf(lab, d, "tap", "veth")
	d.Must("add-network", "net2", "--subnet", "10.10.0.0/24")
	c := lab.Container("c")
	d.Join("net2", "c", c)
	d.Stop()

	st, err := store.Open(d.State, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	networks, err1 := st.Networks()
	ports, err2 := st.Ports()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(networks, func(n api.Network) bool { return n.Name == "net2" })
	good := networks[i]
	bad := good
	bad.Subnets = []api.Subnet{{Prefix: netip.MustParsePrefix("10.10.0.0/24"), Gateway: netip.MustParseAddr("192.168.0.1")}}
	twin := networks[1-i]
	twin.ID = "ffffffffffff"
	one := ports[slices.IndexFunc(ports, func(r store.PortRecord) bool { return r.Port.Name == "a" })]
	again, mad := one, one
	again.Port.ID = "fffffffffffe"
	mad.Port.ID, mad.Port.Name, mad.Port.MAC, mad.Port.VLAN = "fffffffffffd", "mad", "no address", 9999
	mad.Port.IPs = []netip.Prefix{netip.MustParsePrefix("192.168.7.7/24")}
	if err := errors.Join(st.PutNetwork(bad), st.PutNetwork(twin), st.PutPort(again), st.PutPort(mad), st.Close()); err != nil {
		t.Fatal(err)
	}

	d.Start()
	ping(lab, a, b4)
	show := netnstest.Get[api.Show](d, "show")
	want := []string{"networks/" + good.ID, "networks/ffffffffffff: there is another network net1", "ports/fffffffffffe: there is another port a"}
	slices.Sort(want)
	for i, w := range want {
		if len(show.Daemon.SetAside) != len(want) || !strings.HasPrefix(show.Daemon.SetAside[i], w) {
			t.Fatalf("set aside: %q, want %q", show.Daemon.SetAside, want)
		}
	}
	if text := d.Must("show"); !strings.Contains(text, "Set aside: networks/"+good.ID) {
		t.Errorf("show tells nothing:\n%s", text)
	}
	for name, says := range map[string]string{"c": "its network net2 is not in the stored state", "mad": "its record makes no sense: address no address"} {
		if p := portOf(t, d, name); p.Status.State != api.StateError || !strings.Contains(p.Status.Error, says) {
			t.Errorf("port %s: %+v", name, p.Status)
		}
	}
	d.Must("del-port", "mad")
	d.Must("add-network", "net2", "--subnet", "10.10.0.0/24")
	d.Stop()
	d.Start()
	if show := netnstest.Get[api.Show](d, "show"); len(show.Daemon.SetAside) != 0 {
		t.Errorf("set aside again: %q", show.Daemon.SetAside)
	}
	e := lab.Container("e")
	d.Join("net2", "e", e)
	ping(lab, e, "10.10.0.2")
}
