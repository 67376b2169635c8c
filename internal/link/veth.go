package link

import (
	"errors"
	"net"
)

// VethConfig says how to make a veth pair.
type VethConfig struct {
	Name       string           // of our end in the private namespace; see DeviceName
	Target     *Namespace       // where the other end is born; a move afterwards would cost some 15 ms
	PeerName   string           // of the other end
	MAC        net.HardwareAddr // of the other end; nil: the kernel's choice
	MTU        int              // bytes, both ends; 0: 1500
	TxQueueLen int              // frames, both ends; 0: the kernel's default
}

// Veth is a veth pair of which we hold one end through an AF_PACKET socket.
type Veth struct {
	FD        int // the AF_PACKET socket, non-blocking; the caller's
	Index     int // of our end
	Name      string
	PeerIndex int    // of the other end, in Target
	Drop      string // what keeps the kernel's stack from our end's frames: "tcx" or "clsact"
	DropFD    int    // tcx: its link, which must stay open, and is the caller's; else -1
}

// CreateVeth makes a pair, one end of which stays in the private namespace. undo deletes it and closes the fds.
func CreateVeth(private *Namespace, c VethConfig) (v Veth, undo func() error, err error) {
	return Veth{}, nil, errors.ErrUnsupported
}

// ReopenVeth opens our end again after the fds of a dead process were lost.
func ReopenVeth(private *Namespace, name string) (Veth, error) { return Veth{}, errors.ErrUnsupported }
