package vswitch_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// bystander sends datagrams from one container to another while a test does harm to the switch beside them.
//
//	from ---4000 datagrams/s, of 1000 bytes---> net1 ---> to
type bystander struct {
	t              *testing.T
	sent, received *atomic.Uint64
	stop, ended    chan struct{}
}

// bystanderPort is where they go.
const bystanderPort = 7009

func startBystander(t *testing.T, from, to *netnstest.Container, addr string) *bystander {
	t.Helper()
	b := &bystander{t, new(atomic.Uint64), receiver(t, to, addr, bystanderPort), make(chan struct{}), make(chan struct{})}
	go b.send(from.UDP(":0"), net.UDPAddrFromAddrPort(addrPort(addr, bystanderPort)))
	t.Cleanup(b.quit)
	return b
}

func (b *bystander) send(conn *net.UDPConn, to *net.UDPAddr) {
	defer close(b.ended)
	payload := make([]byte, 1000)
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		select {
		case <-b.stop:
			return
		default:
		}
		for b.sent.Load() < uint64(time.Since(start)/(250*time.Microsecond)) {
			if _, err := conn.WriteToUDP(payload, to); err == nil {
				b.sent.Add(1)
			}
		}
	}
}

func (b *bystander) quit() {
	select {
	case <-b.stop:
	default:
		close(b.stop)
	}
	<-b.ended
}

// end ends it, and fails the test unless nine tenths have arrived by then: what still waits in a queue has not.
func (b *bystander) end() {
	b.t.Helper()
	b.quit()
	received, sent := b.received.Load(), b.sent.Load()
	b.t.Logf("%d of %d datagrams of bystanders arrived", received, sent)
	if received*10 < sent*9 || sent == 0 {
		b.t.Errorf("%d of %d datagrams of bystanders arrived", received, sent)
	}
}
