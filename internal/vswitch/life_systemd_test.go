package vswitch_test

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/netnstest"
)

// manager does what systemd does for a unit of Type=notify with FileDescriptorStoreMax=: it hears what the daemon tells and
// keeps its file descriptors.
type manager struct {
	conn *net.UnixConn
	done chan struct{}

	mu    sync.Mutex
	said  []string
	files map[string]*os.File
}

func newManager(t *testing.T, socket string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: conn, done: make(chan struct{}), files: make(map[string]*os.File)}
	go m.listen()
	t.Cleanup(m.close)
	return m
}

func (m *manager) listen() {
	defer close(m.done)
	buf, control := make([]byte, 4096), make([]byte, 4096)
	for {
		n, cn, _, _, err := m.conn.ReadMsgUnix(buf, control)
		if err != nil {
			return
		}
		m.hear(string(buf[:n]), control[:cn])
	}
}

func (m *manager) hear(state string, control []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, state)
	_, name, _ := strings.Cut(state, "FDNAME=")
	name, _, _ = strings.Cut(name, "\n")
	if strings.HasPrefix(state, "FDSTOREREMOVE=1") && m.files[name] != nil {
		m.files[name].Close()
		delete(m.files, name)
	}
	if strings.HasPrefix(state, "FDSTORE=1") {
		messages, _ := unix.ParseSocketControlMessage(control)
		for _, message := range messages {
			fds, _ := unix.ParseUnixRights(&message)
			for _, fd := range fds {
				m.files[name] = os.NewFile(uintptr(fd), name)
			}
		}
	}
}

func (m *manager) heard(state string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.said, state)
}

// kept returns the names of what is stored, and the files in that order.
func (m *manager) kept() (names []string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names = slices.Sorted(maps.Keys(m.files))
	for _, name := range names {
		files = append(files, m.files[name])
	}
	return names, files
}

func (m *manager) close() {
	m.conn.Close()
	<-m.done
	for _, f := range m.files {
		f.Close()
	}
}

// TestSystemd: under a service manager it is that which keeps the file descriptors; no keeper runs.
func TestSystemd(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	socket := filepath.Join(filepath.Dir(d.State), "notify")
	m := newManager(t, socket)
	env := []string{"NOTIFY_SOCKET=" + socket, "FDSTORE=64"}
	start := func() {
		t.Helper()
		names, files := m.kept()
		d.Files = files
		d.Env = append(env, "LISTEN_FDNAMES="+strings.Join(names, ":"))
		m.mu.Lock()
		m.said = nil
		m.mu.Unlock()
		d.Start()
		lab.Eventually("READY=1", func() bool { return m.heard("READY=1") })
	}
	start()
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	before := lastingOf(t, d, a, b)
	if names, _ := m.kept(); len(names) < 3 || keeperOf(d) != 0 {
		t.Errorf("systemd keeps %v, keeper %d", names, keeperOf(d))
	}
	for _, end := range []func(){d.Stop, d.Kill} {
		end()
		start()
		s.goesOn(lab)
		if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
			t.Errorf("not the same as before: %s", diff)
		}
	}
	d.Must("del-network", "net1", "--force")
	d.Stop()
	lab.Eventually("nothing is kept", func() bool { names, _ := m.kept(); return len(names) == 0 })
	lab.Eventually("STOPPING=1", func() bool { return m.heard("STOPPING=1") })
}
