package vswitch_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestOutOfFiles: at the limit of open files ports are refused; those that are there go on, and the control socket answers, even
// to bad clients.
//
//	a eth0 ===TCP=== net1 === eth0 b      all e0 e1 e2 ... as many as there is room for
func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--host-port=vsw0")
	d.Before = []string{"prlimit", "--nofile=64:128"}
	d.Allow("host port") // which may say that it can't look
	d.Start()
	a, b := pairOf(lab, d, "tap", "veth")
	s, h := startStream(t, a, b, b4), startStream(t, d.Host, a, a4)
	s.goesOn(lab)
	room := netnstest.Get[api.Show](d, "show").Daemon
	if room.MaxFiles < 127 { // the hard limit, or one below: Go remembers so whether it was raised
		t.Fatalf("%d files allow %d more ports", room.MaxFiles, room.MorePorts)
	}
	if text := d.Must("show"); !strings.Contains(text, fmt.Sprintf("Open files: %d at most, room for %d more ports", room.MaxFiles, room.MorePorts)) {
		t.Errorf("show says\n%s", text)
	}
	all := lab.Container("all")
	add := func(i int) error {
		_, err := d.Client.AddPort(t.Context(), api.PortRequest{
			Network: "net1", Name: fmt.Sprint("p", i), Netns: all.Name, IfName: fmt.Sprint("e", i), DefaultRoute: "no",
		})
		return err
	}
	n, err := 0, error(nil)
	for ; n <= room.MorePorts && err == nil; n++ {
		err = add(n)
	}
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeExhausted || !strings.Contains(err.Error(), fmt.Sprintf("the limit of open files is %d; raise it", room.MaxFiles)) {
		t.Fatalf("port %d of %d: %v", n, room.MorePorts, err)
	}
	if n-1 != room.MorePorts || n < 50 {
		t.Errorf("room for %d ports was told, %d were added", room.MorePorts, n-1)
	}
	if got := len(all.Links()); got != n-1 {
		t.Errorf("%d interfaces, want %d", got, n-1)
	}

	held := vitalsOf(t, d)
	var conns []net.Conn
	for range 200 { // more than there are file descriptors
		c, err := net.Dial("unix", d.Socket)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	d.Must("show")
	d.Host.IP("link set vsw0 txqueuelen 8000") // which the host port looks at
	s.goesOn(lab)
	h.goesOn(lab)
	for _, c := range conns {
		c.Close()
	}
	held.wantBack(t, lab, d)
	ping(lab, a, b4)
	d.Must("del-port", "p0")
	d.Must("add-port", "net1", "p0", "--netns", all.Name, "--ifname", "e0", "--default-route=no")
	d.Kill()
	d.Start()
	s.goesOn(lab)
	h.goesOn(lab)
	if ports := netnstest.Get[[]api.Port](d, "list-ports"); len(ports) != n+1 {
		t.Errorf("%d ports after a restart, want %d", len(ports), n+1)
	}
}
