package load_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/bench/load"
)

// TestMain gives the hot loops of both ends, which share this process, enough Ps.
func TestMain(m *testing.M) {
	load.Setup(6, time.Minute)
	os.Exit(m.Run())
}

// free returns an address on the loopback interface that nobody listens on.
func free(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skipf("no loopback address %s: %v", ip, err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// start runs a server until the test ends and waits until it is ready.
func start(t *testing.T, serve func(ready func(), stop *atomic.Bool) error) (stop func()) {
	t.Helper()
	var flag atomic.Bool
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- serve(func() { close(ready) }, &flag) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return func() {
		flag.Store(true)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func nothing() {}

func TestUDPOverLoopback(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a receiver raises its socket buffer above the limit, which needs root")
	}
	tests := []struct {
		name     string
		ip       string
		segments int
		gro      bool
		rate     float64
		payload  int
	}{
		{"paced", "127.0.0.1", 1, false, 20_000, 18},
		{"paced over IPv6", "::1", 1, false, 20_000, 18},
		{"segments, split by the kernel", "127.0.0.1", 46, false, 46_000, 1400},
		{"segments, taken whole", "127.0.0.1", 46, true, 46_000, 1400},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			at := free(t, test.ip)
			receive := load.UDPReceive{Listen: at, Flow: 5, Payload: test.payload, GRO: test.gro, Limit: 5 * time.Second}
			var got load.UDPReceived
			stop := start(t, func(ready func(), stop *atomic.Bool) (err error) {
				got, err = receive.Run(ready, stop)
				return err
			})
			stranger, err := net.Dial("udp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			stranger.Write(binary.BigEndian.AppendUint64(nil, 1))
			stranger.Close()
			sent, err := load.UDPSend{To: at, Flow: 5, Payload: test.payload, Segments: test.segments, Rate: test.rate, Duration: 200 * time.Millisecond}.Run(nothing)
			stop()
			if err != nil {
				t.Fatal(err)
			}
			if sent.Datagrams == 0 || got.Unique+got.SocketDrops != sent.Datagrams || got.Duplicates+got.Reordered > 0 {
				t.Errorf("sent %+v, received %+v", sent, got)
			}
			if got.Strangers != 1 {
				t.Errorf("%d strangers, want 1", got.Strangers)
			}
		})
	}
}

func TestUDPSendRefusesNonsense(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:9")
	for name, send := range map[string]load.UDPSend{
		"no room for the header": {To: at, Payload: 15},
		"too large":              {To: at, Payload: 1400, Segments: 47},
	} {
		if _, err := send.Run(nothing); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRROverLoopback(t *testing.T) {
	at := free(t, "127.0.0.1")
	stop := start(t, func(ready func(), stop *atomic.Bool) error { return load.ServeRR(at, ready, stop) })
	defer stop()
	for _, gap := range []time.Duration{0, 500 * time.Microsecond} {
		var got load.RRReport
		for d := 150 * time.Millisecond; got.Transactions < 20 && d < 10*time.Second; d *= 4 { // more than once on a busy machine only
			var err error
			if got, err = (load.RR{To: at, Gap: gap, Duration: d}).Run(nothing); err != nil {
				t.Fatal(err)
			}
		}
		if got.Transactions < 20 || got.P50 <= 0 || got.P50 > got.P90 || got.P90 > got.P99 {
			t.Errorf("gap %v: %+v", gap, got)
		}
	}
}

func TestConnOverLoopback(t *testing.T) {
	at := free(t, "127.0.0.1")
	stop := start(t, func(ready func(), stop *atomic.Bool) error { return load.ServeConn(at, 2, ready, stop) })
	defer stop()
	got, err := load.Conn{To: at, Clients: 2, Duration: 150 * time.Millisecond}.Run(nothing)
	if err != nil {
		t.Fatal(err)
	}
	if got.Connections == 0 || got.Failed > 0 {
		t.Errorf("%+v", got)
	}
}
