package netnstest_test

import (
	"testing"

	"vswitch/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestPing is the shortest test of a daemon:
//
//	a eth0 10.9.0.2 --- net1 --- 10.9.0.3 eth0 b
func TestPing(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := d.Pair("net1", "--subnet", "10.9.0.0/24")
	a.Run("ping", "-c1", "-W20", "10.9.0.3")
}

// TestLives stops, kills and restarts a daemon; the containers' interfaces stay.
func TestLives(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := d.Pair("net1", "--subnet", "10.9.0.0/24")
	for _, end := range []func(){d.Stop, d.Kill} {
		end()
		if l := a.Link("eth0"); l == nil || !l.Carrier() {
			t.Fatalf("eth0 without a daemon: %+v", l)
		}
		d.Start()
		a.Run("ping", "-c1", "-W20", "10.9.0.3")
	}
}
