package flow

import (
	"sync/atomic"

	"vswitch/internal/packet"
)

// StormKind is a kind of frames that all ports of a VLAN receive.
type StormKind uint8

// The kinds, each with its meter.
const (
	StormBroadcast StormKind = iota
	StormMulticast           // group addresses but for broadcast
	StormUnknown             // unicast to addresses that the FDB does not know

	// StormKinds is their number.
	StormKinds
)

var storms = [StormKinds]struct {
	name   string
	reason packet.DropReason
}{
	StormBroadcast: {"broadcast", packet.DropStormBroadcast},
	StormMulticast: {"multicast", packet.DropStormMulticast},
	StormUnknown:   {"unknown", packet.DropStormUnknown},
}

// String returns the kind's name, as in commands.
func (k StormKind) String() string { return storms[k].name }

// Reason returns why frames above the meter's rate are dropped.
func (k StormKind) Reason() packet.DropReason { return storms[k].reason }

// Meters are a port's meters by kind; nil: there is none.
type Meters [StormKinds]*Meter

// Bounds of a meter's rate in packets per second, and its burst in packets: what a port may send at once after a silence is what
// comes within a tenth of a second, but not less than minBurst.
const (
	MinRate  = 1
	MaxRate  = 10_000_000
	minBurst = 10
)

// Meter is a token bucket that frames of one kind from one port pass (as GCRA, ITU-T I.371: the bucket is kept as the time when it
// is full again). Each packet takes a token, a super-frame as many as it has segments: it passes while there is one, and what it
// takes too much is owed. In any time of T seconds thus at most Rate*T + burst packets pass, and the last super-frame.
//
// Take is for one worker at a time, the one that reads the port. Where two meet, as when the port moves, nothing breaks: the bucket may
// lose count of a frame.
type Meter struct {
	Kind StormKind
	Rate int // packets per second

	interval int64        // nanoseconds per packet
	slack    int64        // how far ahead full may be while there is a token
	full     atomic.Int64 // when the bucket is full again, nanoseconds
	dropped  atomic.Uint64
}

// NewMeter makes a full bucket. rate is between MinRate and MaxRate.
func NewMeter(kind StormKind, rate int) *Meter {
	m := &Meter{Kind: kind, Rate: rate, interval: (1e9 + int64(rate) - 1) / int64(rate)}
	m.slack = int64(m.Burst()-1) * m.interval
	return m
}

// Burst returns how many packets pass at once after a silence.
func (m *Meter) Burst() int { return max(m.Rate/10, minBurst) }

// Take tells whether a frame of n packets may pass at now, and if so takes its tokens.
func (m *Meter) Take(now int64, n int) bool {
	full := m.full.Load()
	if full-now > m.slack {
		m.dropped.Add(uint64(n))
		return false
	}
	m.full.Store(max(full, now) + int64(n)*m.interval)
	return true
}

// Dropped returns how many packets did not pass since the meter was made.
func (m *Meter) Dropped() uint64 { return m.dropped.Load() }
