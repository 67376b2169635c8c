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
	token := tokenOf(frame)
	e.socket[from].Send(frame)
	fence := e.Frame("ff:ff:ff:ff:ff:ff", src, fenceTags...)
	e.socket[from].Send(fence)
	var heard []Heard
	passed := false
	for deadline := time.Now().Add(Patience); !passed; {
		if time.Now().After(deadline) {
			e.lab.t.Fatalf("nobody heard the broadcast that followed a frame of %s", from)
		}
		passed = e.listen(from, token, tokenOf(fence), &heard)
	}
	e.listen(from, token, tokenOf(fence), &heard)
	return heard
}

// listen takes what waits at all ears and tells whether somebody has heard the fence.
func (e *Ears) listen(from string, token, fence []byte, heard *[]Heard) (passed bool) {
	for _, label := range e.labels {
		for {
			f, ok := e.socket[label].Recv(time.Millisecond)
			if !ok {
				break
			}
			passed = passed || bytes.Contains(f, fence)
			if bytes.Contains(f, token) {
				*heard = append(*heard, Heard{label, f})
			}
		}
	}
	return passed
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
