package nat

import (
	"fmt"
	"strings"
	"time"
)

// Timeouts say how long a connection lives unused. A field that is not positive stands for its default.
type Timeouts struct {
	TCPOpening     time.Duration // 240 s: not answered, or not acknowledged (RFC 5382 5)
	TCPEstablished time.Duration // 7440 s (RFC 5382 REQ-5: 2 hours 4 minutes at least)
	TCPClosing     time.Duration // 240 s: after a FIN from both sides
	UDPNew         time.Duration // 120 s (RFC 4787 REQ-5)
	UDP            time.Duration // 300 s, once answered (as RFC 4787 REQ-5 recommends)
	ICMP           time.Duration // 60 s (RFC 5508 REQ-2)
	SCTPOpening    time.Duration // 60 s
	SCTP           time.Duration // 300 s: ten heartbeats (RFC 9260 16)
	SCTPClosing    time.Duration // 30 s
	Other          time.Duration // 600 s: other protocols, which have no ports
	Aborted        time.Duration // 10 s: after a RST or ABORT
}

// Defaults of Timeouts.
const (
	DefaultTCPOpening     = 240 * time.Second
	DefaultTCPEstablished = 7440 * time.Second
	DefaultTCPClosing     = 240 * time.Second
	DefaultUDPNew         = 120 * time.Second
	DefaultUDP            = 300 * time.Second
	DefaultICMP           = 60 * time.Second
	DefaultSCTPOpening    = 60 * time.Second
	DefaultSCTP           = 300 * time.Second
	DefaultSCTPClosing    = 30 * time.Second
	DefaultOther          = 600 * time.Second
	DefaultAborted        = 10 * time.Second
)

// Bounds of a timeout that is set. Cached flows tell of their use once a second.
const (
	MinTimeout = 2 * time.Second
	MaxTimeout = 30 * 24 * time.Hour
)

// timeout is one of Timeouts under the name that people give it.
type timeout struct {
	name     string
	value    *time.Duration
	standard time.Duration
}

func (o *Timeouts) all() []timeout {
	return []timeout{
		{"tcp", &o.TCPEstablished, DefaultTCPEstablished},
		{"tcp-opening", &o.TCPOpening, DefaultTCPOpening},
		{"tcp-closing", &o.TCPClosing, DefaultTCPClosing},
		{"udp", &o.UDP, DefaultUDP},
		{"udp-new", &o.UDPNew, DefaultUDPNew},
		{"icmp", &o.ICMP, DefaultICMP},
		{"sctp", &o.SCTP, DefaultSCTP},
		{"sctp-opening", &o.SCTPOpening, DefaultSCTPOpening},
		{"sctp-closing", &o.SCTPClosing, DefaultSCTPClosing},
		{"other", &o.Other, DefaultOther},
		{"aborted", &o.Aborted, DefaultAborted},
	}
}

// Set sets the timeout of that name.
func (o *Timeouts) Set(name string, d time.Duration) error {
	var names []string
	for _, t := range o.all() {
		if t.name != name {
			names = append(names, t.name)
			continue
		}
		if d < MinTimeout || d > MaxTimeout {
			return fmt.Errorf("timeout %s of %v: use %v to %v", name, d, MinTimeout, MaxTimeout)
		}
		*t.value = d
		return nil
	}
	return fmt.Errorf("unknown timeout %.40q: use %s", name, strings.Join(names, ", "))
}

// WithDefaults returns the timeouts with all fields set.
func (o Timeouts) WithDefaults() Timeouts {
	for _, t := range o.all() {
		if *t.value <= 0 {
			*t.value = t.standard
		}
	}
	return o
}

// String lists all timeouts, as in "tcp=7440s,tcp-opening=240s".
func (o Timeouts) String() string {
	o = o.WithDefaults()
	var list []string
	for _, t := range o.all() {
		list = append(list, fmt.Sprintf("%s=%gs", t.name, t.value.Seconds()))
	}
	return strings.Join(list, ",")
}

// table is Timeouts, in nanoseconds, as it is looked up.
func (o Timeouts) table() [kinds][states]int64 {
	o = o.WithDefaults()
	return [kinds][states]int64{
		kindTCP: {
			New: int64(o.TCPOpening), Opening: int64(o.TCPOpening), Established: int64(o.TCPEstablished), Closing: int64(o.TCPClosing),
			Aborted: int64(o.Aborted),
		},
		kindUDP:  {New: int64(o.UDPNew), Established: int64(o.UDP)},
		kindICMP: {New: int64(o.ICMP), Established: int64(o.ICMP)},
		kindSCTP: {
			New: int64(o.SCTPOpening), Opening: int64(o.SCTPOpening), Established: int64(o.SCTP), Closing: int64(o.SCTPClosing),
			Aborted: int64(o.Aborted),
		},
		kindOther: {New: int64(o.Other), Established: int64(o.Other)},
	}
}
