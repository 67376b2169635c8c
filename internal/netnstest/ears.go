package netnstest

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"time"
)

// Ears tells who hears a frame. One ear is a packet socket on a container's interface.
type Ears struct {
	lab    *Lab
	labels []string
	socket map[string]*PacketSocket
	count  uint32
}

// Ears makes ears without any.
func (l *Lab) Ears() *Ears { return &Ears{lab: l, socket: make(map[string]*PacketSocket)} }

// Add lends an ear to a container's interface.
func (e *Ears) Add(label string, c *Container, ifname string) {
	e.lab.t.Helper()
	e.labels = append(e.labels, label)
	e.socket[label] = c.PacketSocket(ifname)
}

// Socket returns an ear itself.
func (e *Ears) Socket(label string) *PacketSocket { return e.socket[label] }

// EtherType of the frames of Frame: IEEE 802 local experimental.
const etherTypeTest = 0x88b5

// Frame builds a frame of 60 bytes or more: destination, source, tags as TPID and TCI in hex pairs ("8100000a"), and a number.
func (e *Ears) Frame(dst, src string, tags ...string) []byte {
	e.lab.t.Helper()
	e.count++
	var b []byte
	for _, s := range []string{dst, src} {
		mac, err := net.ParseMAC(s)
		if err != nil {
			e.lab.t.Fatal(err)
		}
		b = append(b, mac...)
	}
	for _, tag := range tags {
		b = append(b, unhex(tag)...)
	}
	b = binary.BigEndian.AppendUint16(b, etherTypeTest)
	b = append(b, "vswitch test frame "...)
	b = binary.BigEndian.AppendUint32(b, e.count)
	return append(b, make([]byte, 64-len(b)%64)...)
}

func unhex(s string) []byte {
	b := make([]byte, len(s)/2)
	for i := range b {
		for _, c := range s[2*i : 2*i+2] {
			b[i] = b[i]<<4 | byte(strings.IndexRune("0123456789abcdef", c))
		}
	}
	return b
}

// Heard is one frame at one ear.
type Heard struct {
	By    string
	Frame []byte
}

// Send sends a frame from one ear and returns what arrived at the others of it, by label.
//
// A broadcast follows it by the same way as a fence: once somebody hears that, the frame before has been decided and
// delivered. The tags of the fence are those of the frame, unless others are given.
func (e *Ears) Send(from string, frame []byte, fenceTags ...string) []Heard {
	e.lab.t.Helper()
	return e.SendFrom(from, frame, net.HardwareAddr(frame[6:12]).String(), fenceTags...)
}

// SendFrom is Send with another source of the fence, for frames whose own is not fit for it.
func (e *Ears) SendFrom(from string, frame []byte, src string, fenceTags ...string) []Heard {
	e.lab.t.Helper()
	return e.SendFor(0, from, frame, src, fenceTags...)
}

// Who is Send for a frame that so many should hear, who are given all the time that they need. It returns who did.
func (e *Ears) Who(from string, frame []byte, hearers int) string {
	e.lab.t.Helper()
	return Who(e.SendFor(hearers, from, frame, net.HardwareAddr(frame[6:12]).String()))
}

// SendFor is SendFrom for a frame that so many should hear, who are given all the time that they need.
func (e *Ears) SendFor(hearers int, from string, frame []byte, src string, fenceTags ...string) []Heard {
	e.lab.t.Helper()
	token := tokenOf(frame)
	e.socket[from].Send(frame)
	fence := e.Frame("ff:ff:ff:ff:ff:ff", src, fenceTags...)
	e.socket[from].Send(fence)
	l := listening{ears: e, token: token, fence: tokenOf(fence), passed: make(map[string]bool)}
	for deadline := time.Now().Add(Patience); len(l.passed) == 0; l.listen() {
		if time.Now().After(deadline) {
			e.lab.t.Fatalf("nobody heard the broadcast that followed a frame of %s", from)
		}
	}
	// The frame is decided, but on a busy machine a kernel may still have it in a queue: who has not heard the fence either is
	// given some time.
	for deadline := time.Now().Add(20 * time.Millisecond); len(l.passed) < len(e.labels)-1 && time.Now().Before(deadline); {
		l.listen()
	}
	for deadline := time.Now().Add(Patience); len(l.heard) < hearers && time.Now().Before(deadline); {
		l.listen()
	}
	l.listen()
	return l.heard
}

// listening is one wait for a frame and the fence behind it.
type listening struct {
	ears         *Ears
	token, fence []byte
	heard        []Heard
	passed       map[string]bool // who has heard the fence
}

// listen takes what waits at all ears.
func (l *listening) listen() {
	for _, label := range l.ears.labels {
		for {
			f, ok := l.ears.socket[label].Recv(time.Millisecond / 2)
			if !ok {
				break
			}
			if bytes.Contains(f, l.fence) {
				l.passed[label] = true
			}
			if bytes.Contains(f, l.token) {
				l.heard = append(l.heard, Heard{label, f})
			}
		}
	}
}

// tokenOf returns what tells a frame from all others.
func tokenOf(frame []byte) []byte {
	i := bytes.Index(frame, []byte("vswitch test frame "))
	return frame[i : i+23]
}

// Who lists who heard something, in order of label.
func Who(heard []Heard) string {
	var names []string
	for _, h := range heard {
		names = append(names, h.By)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
