package vswitch_test

import (
	"encoding/binary"
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
	t                    *testing.T
	start                time.Time
	sent, received, late atomic.Uint64
	stop, ended          chan struct{}
}

const (
	bystanderPort = 7009 // where they go
	bystanderTime = time.Second / 2
)

func startBystander(t *testing.T, from, to *netnstest.Container, addr string) *bystander {
	t.Helper()
	b := &bystander{t: t, start: time.Now(), stop: make(chan struct{}), ended: make(chan struct{})}
	at := addrPort(addr, bystanderPort)
	go b.receive(to.UDP(at.String()))
	go b.send(from.UDP(":0"), net.UDPAddrFromAddrPort(at))
	t.Cleanup(b.quit)
	return b
}

// send writes into each datagram when it is sent.
func (b *bystander) send(conn *net.UDPConn, to *net.UDPAddr) {
	defer close(b.ended)
	payload := make([]byte, 1000)
	for ; ; time.Sleep(time.Millisecond) {
		select {
		case <-b.stop:
			return
		default:
		}
		for b.sent.Load() < uint64(time.Since(b.start)/(250*time.Microsecond)) {
			binary.BigEndian.PutUint64(payload, uint64(time.Since(b.start)))
			if _, err := conn.WriteToUDP(payload, to); err == nil {
				b.sent.Add(1)
			}
		}
	}
}

func (b *bystander) receive(conn *net.UDPConn) {
	payload := make([]byte, 1000)
	for {
		if _, err := conn.Read(payload); err != nil {
			return // closed by the test's end
		}
		if time.Since(b.start)-time.Duration(binary.BigEndian.Uint64(payload)) > bystanderTime {
			b.late.Add(1)
		}
		b.received.Add(1)
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

// end ends it, and fails the test unless nine tenths have arrived, each within bystanderTime: a daemon that stands still and lets them wait in
// a queue does harm too.
func (b *bystander) end() {
	b.t.Helper()
	b.quit()
	for deadline := time.Now().Add(bystanderTime); b.received.Load() < b.sent.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	received, late, sent := b.received.Load(), b.late.Load(), b.sent.Load()
	b.t.Logf("%d of %d datagrams of bystanders arrived, %d of them late", received, sent, late)
	if (received-late)*10 < sent*9 || sent == 0 {
		b.t.Errorf("%d of %d datagrams of bystanders arrived, %d of them late", received, sent, late)
	}
}
