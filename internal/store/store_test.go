package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"
)

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

var comparable = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func code(err error) string {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprintf("%v", err)
}

func network(n int) api.Network {
	return api.Network{ID: fmt.Sprintf("n%04d", n), Name: fmt.Sprint("net-", n), Driver: api.DriverBridge, MTU: 1500, Age: 300, MACLimit: 16384,
		Subnets: []api.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}}
}

func port(n int) store.PortRecord {
	native := uint16(0)
	return store.PortRecord{
		Port: api.Port{ID: fmt.Sprintf("p%04d", n), Name: fmt.Sprint("port-", n), Network: "net-1", Type: api.PortTAP, IfName: "eth0", MAC: "02:42:0a:00:00:02",
			Netns: &api.NetnsRef{Spec: "c1", Path: "/run/netns/c1", Dev: 4, Inode: 1<<32 + 5}, IPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")},
			MTU: 1500, Trunk: []api.VLANRange{{First: 1, Last: 9}}, Native: &native, Labels: map[string]string{"a": "b"}},
		Phase:  store.PhasePresent,
		Device: store.Device{Ifindex: 7, HostIf: "v7", NetnsDev: 4, NetnsInode: 1<<32 + 5},
	}
}

func TestStoreKeepsRecords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir)
	n, p := network(1), port(1)
	n.Ports, p.Port.Status = 5, api.PortStatus{State: api.StateUp}
	gone := port(2)
	gone.Phase = store.PhaseAdding
	for _, err := range []error{s.PutNetwork(n), s.PutPort(p), s.PutPort(gone), s.DeletePort(gone.Port.ID), s.DeletePort("none"), s.PutNetwork(network(2)), s.DeleteNetwork(network(2).ID)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	networks, err := s.Networks()
	if diff := cmp.Diff([]api.Network{network(1)}, networks, comparable); err != nil || diff != "" {
		t.Errorf("networks (%v, -want +got):\n%s", err, diff)
	}
	ports, err := s.Ports()
	if diff := cmp.Diff([]store.PortRecord{port(1)}, ports, comparable); err != nil || diff != "" {
		t.Errorf("ports (%v, -want +got):\n%s", err, diff)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	s := open(t, t.TempDir())
	refused := errors.New("refused")
	err := s.Update(func(tx *store.Tx) error {
		if err := errors.Join(tx.PutNetwork(network(1)), tx.PutPort(port(1))); err != nil {
			t.Error(err)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the function's own error", err)
	}
	bad := port(2)
	bad.Phase = "half"
	err = s.Update(func(tx *store.Tx) error { return errors.Join(tx.PutNetwork(network(1)), tx.PutPort(bad)) })
	if code(err) != api.CodeInternal {
		t.Errorf("storing a port without phase: %v", err)
	}
	networks, err1 := s.Networks()
	ports, err2 := s.Ports()
	if len(networks)+len(ports) != 0 || err1 != nil || err2 != nil {
		t.Errorf("left %v and %v (%v, %v)", networks, ports, err1, err2)
	}
}

func TestStoreConcurrent(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 10 {
				if err := s.PutPort(port(w*10 + i)); err != nil {
					t.Error(err)
				}
				if _, err := s.Ports(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if ports, err := s.Ports(); len(ports) != 40 || err != nil {
		t.Errorf("%d ports (%v), want 40", len(ports), err)
	}
}

// together makes n updates while the disk is busy, and returns their errors.
func together(s *store.Store, n int, f func(tx *store.Tx, i int) error) []error {
	busy, free := make(chan struct{}), make(chan struct{})
	errs := make([]error, n)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Update(func(*store.Tx) error {
			close(busy)
			<-free
			return nil
		})
	})
	<-busy
	for i := range n {
		wg.Go(func() { errs[i] = s.Update(func(tx *store.Tx) error { return f(tx, i) }) })
	}
	for s.Waiting() < n {
		runtime.Gosched()
	}
	close(free)
	wg.Wait()
	return errs
}

// TestUpdatesShareWrites: what comes while the disk is busy is written at once, and one that fails, fails alone.
func TestUpdatesShareWrites(t *testing.T) {
	const n = 8
	s := open(t, t.TempDir())
	writes := make(map[*store.Tx]bool)
	errs := together(s, n, func(tx *store.Tx, i int) error {
		writes[tx] = true
		return tx.PutPort(port(i))
	})
	if err := errors.Join(errs...); err != nil || len(writes) != 1 {
		t.Errorf("%d updates in %d writes: %v", n, len(writes), err)
	}
	refused := errors.New("refused")
	for i, err := range together(s, n, func(tx *store.Tx, i int) error {
		if i == n/2 {
			return refused
		}
		return tx.DeletePort(port(i).Port.ID)
	}) {
		if want := i == n/2; errors.Is(err, refused) != want || !want && err != nil {
			t.Errorf("update %d: %v", i, err)
		}
	}
	if ports, err := s.Ports(); len(ports) != 1 || err != nil {
		t.Errorf("%d ports (%v), want the one that was not deleted", len(ports), err)
	}
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	_, err := store.Open(dir, silent)
	if code(err) != api.CodeConflict || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("second store: %v", err)
	}
	s.Close()
	open(t, dir)
}

// edit changes the file of a closed store as a bbolt database.
func edit(t *testing.T, dir string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "state.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	put := func(bucket, key, value string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) })
		}
	}
	write := func(change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, "state.db")
			b, err := os.ReadFile(path)
			if err := errors.Join(err, os.WriteFile(path, change(b), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		says   string
	}{
		{"newer", put("meta", "version", "2"), "of a newer vswitchd (version 2; this one knows 1)"},
		{"without version", put("meta", "version", ""), "has no version"},
		{"other database", func(t *testing.T, dir string) {
			edit(t, dir, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("ports")) })
		}, `no part "ports"`},
		{"empty", write(func([]byte) []byte { return nil }), "is empty"},
		{"short", write(func(b []byte) []byte { return b[:100] }), "damaged"},
		{"cut off", write(func(b []byte) []byte { return b[:2*os.Getpagesize()] }), "damaged"},
		{"cut off at the end", write(func(b []byte) []byte { return b[:len(b)/2] }), "damaged"},
		{"no database", write(func(b []byte) []byte { return bytes.Repeat([]byte("hello "), 5000) }), "damaged"},
		{"zeroed", write(func(b []byte) []byte { return make([]byte, len(b)) }), "damaged"},
		{"zeroed behind its head", write(func(b []byte) []byte { clear(b[2*os.Getpagesize():]); return b }), "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for step := range 10 { // so that there are old pages too
				if err := s.Update(func(tx *store.Tx) (err error) {
					for i := range 20 {
						err = errors.Join(err, tx.PutPort(port(20*step+i)))
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			c.change(t, dir)
			before, _ := os.ReadFile(filepath.Join(dir, "state.db"))
			for range 2 { // a refused file stays as it is, unlocked
				_, err := store.Open(dir, silent)
				if code(err) != api.CodeRefused || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want %q", err, c.says)
				}
			}
			after, _ := os.ReadFile(filepath.Join(dir, "state.db"))
			if !bytes.Equal(before, after) {
				t.Error("the refused file was changed")
			}
		})
	}
}

// Where one record is damaged, the others load; it is named, and kept.
func TestOpenSetsDamagedRecordsAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, err := range []error{s.PutNetwork(network(1)), s.PutPort(port(1)), s.PutPort(port(2))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	edit(t, dir, func(tx *bbolt.Tx) error {
		ports := tx.Bucket([]byte("ports"))
		return errors.Join(
			ports.Put([]byte("p0001"), store.Seal(`{"version":1,"port":{"id":"p0001`)),
			ports.Put([]byte("p0003"), ports.Get([]byte("p0002"))),
			ports.Put([]byte("p0004"), store.Seal(`{"version":9,"port":{"id":"p0004","name":"x","network":"y"},"phase":"present"}`)),
			ports.Put([]byte("p0005"), []byte(`{"version":1,"port":{"id":"p0005","name":"x","network":"y"},"phase":"present"}`)))
	})
	var log bytes.Buffer
	s, err := store.Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Damaged{
		{Key: "ports/p0001", Reason: "unexpected end of JSON input"},
		{Key: "ports/p0003", Reason: `it is about port "p0002"`},
		{Key: "ports/p0004", Reason: "its version is 9, not 1"},
		{Key: "ports/p0005", Reason: "its checksum is wrong"},
	}
	if diff := cmp.Diff(want, s.Damaged()); diff != "" {
		t.Errorf("damaged (-want +got):\n%s", diff)
	}
	for _, d := range want {
		if !strings.Contains(log.String(), d.Key) {
			t.Errorf("the log does not name %s:\n%s", d.Key, &log)
		}
	}
	ports, err := s.Ports()
	if err != nil || len(ports) != 1 || ports[0].Port.ID != "p0002" {
		t.Errorf("ports are %v (%v)", ports, err)
	}
	s.Close()
	edit(t, dir, func(tx *bbolt.Tx) error {
		if v := tx.Bucket([]byte("damaged")).Get([]byte("ports/p0001")); !bytes.Equal(v, store.Seal(`{"version":1,"port":{"id":"p0001`)) {
			t.Errorf("kept %q", v)
		}
		return nil
	})
	if s = open(t, dir); len(s.Damaged()) != 0 {
		t.Errorf("damaged again: %v", s.Damaged())
	}
}

func BenchmarkPutPort(b *testing.B) {
	s := open(b, b.TempDir())
	for i := range b.N {
		if err := s.PutPort(port(i % 1000)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestStoreKeepsRoutes, also in a file of a daemon that knew none. One whose record makes no sense is put aside.
func TestStoreKeepsRoutes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	route := func(router, prefix string, metric uint32, hops ...string) api.StaticRoute {
		r := api.StaticRoute{Router: router, RouteConfig: api.RouteConfig{Prefix: netip.MustParsePrefix(prefix), Metric: metric}}
		for _, h := range hops {
			r.NextHops = append(r.NextHops, netip.MustParseAddr(h))
		}
		return r
	}
	a, b, c := route("lab", "10.9.0.0/16", 1, "10.0.0.2"), route("main", "10.9.0.0/16", 1, "10.0.0.2", "10.0.0.3"), route("main", "::/0", 7, "fd00::2")
	err := s.Update(func(tx *store.Tx) error { return tx.DeleteRoute(a.Key()) }) // of a file without routes
	for _, r := range []api.StaticRoute{a, route("main", "10.9.0.0/16", 1, "10.0.0.9"), b, c} {
		err = errors.Join(err, s.Update(func(tx *store.Tx) error { return tx.PutRoute(r) }))
	}
	err = errors.Join(err, s.Update(func(tx *store.Tx) error { return tx.DeleteRoute(c.Key()) }), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	routes, err := s.Routes()
	if diff := cmp.Diff([]api.StaticRoute{a, b}, routes, comparable); err != nil || diff != "" {
		t.Errorf("routes, %v (-want +got):\n%s", err, diff)
	}
	bad := c
	bad.Prefix = netip.MustParsePrefix("10.9.0.1/16")
	if err := s.Update(func(tx *store.Tx) error { return tx.PutRoute(bad) }); code(err) != api.CodeInternal {
		t.Errorf("a prefix with bits behind its length: %v", err)
	}
}

// TestSecret is made once, and outlives the process.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	made := 0
	secret := func() string {
		s := open(t, dir)
		defer s.Close()
		b, err := s.Secret("x", func() []byte { made++; return []byte{byte(made), 7} })
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if first, again := secret(), secret(); first != "\x01\x07" || again != first || made != 1 {
		t.Errorf("the secret is %x, and was %x; made %d times", again, first, made)
	}
}

// TestStoreKeepsUplinks, and what they changed of the host, which outlives them. Records that make no sense are put aside.
func TestStoreKeepsUplinks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	u := api.Uplink{ID: "u1", Name: "wan", Interface: "eth0", Mode: api.UplinkShared, Router: "main", Metric: 7, NATPorts: api.PortRange{First: 61000, Last: 61999}}
	with := u
	with.Status.State = api.UplinkUp
	changes := store.HostChanges{ID: "u1", Changes: json.RawMessage(`{"reserved":"1-2"}`)}
	other := u
	other.ID = "u2"
	err := s.Update(func(tx *store.Tx) error {
		return errors.Join(tx.DeleteUplink("u1"), tx.DeleteHostChanges("u1"), tx.PutUplink(with), tx.PutHostChanges(changes), tx.PutUplink(other))
	})
	err = errors.Join(err, s.Update(func(tx *store.Tx) error { return tx.DeleteUplink("u2") }), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	list, err := s.Uplinks()
	if diff := cmp.Diff([]api.Uplink{u}, list, comparable); err != nil || diff != "" {
		t.Errorf("uplinks, %v (-want +got):\n%s", err, diff)
	}
	kept, err := s.HostChanges()
	if diff := cmp.Diff([]store.HostChanges{changes}, kept); err != nil || diff != "" {
		t.Errorf("changes of the host, %v (-want +got):\n%s", err, diff)
	}
	bad := u
	bad.Name = "a b"
	if err := s.Update(func(tx *store.Tx) error { return tx.PutUplink(bad) }); code(err) != api.CodeInternal {
		t.Errorf("a name with a blank: %v", err)
	}
}
