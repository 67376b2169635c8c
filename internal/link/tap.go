package link

import (
	"context"
	"errors"
	"net"

	"vswitch/internal/port"
)

// DefaultTxQueueLen is how many frames a TAP holds for us until it drops.
const DefaultTxQueueLen = 8192

// TAPConfig says how to make a TAP.
type TAPConfig struct {
	Name       string           // of the device in the private namespace; see DeviceName
	MAC        net.HardwareAddr // nil: the kernel's choice
	MTU        int              // bytes; 0: 1500
	TxQueueLen int              // frames; 0: DefaultTxQueueLen
}

// TAP is an attached TAP device.
type TAP struct {
	FD      int // non-blocking; the caller's
	Index   int // in the namespace where the device is now
	Name    string
	Offload port.Offload // what the kernel took
}

// CreateTAP makes a persistent TAP in the private namespace and attaches to it. undo deletes the device, wherever it was moved meanwhile,
// and closes the fd: it is for those who have not yet handed the fd on.
func CreateTAP(private *Namespace, c TAPConfig) (tap TAP, undo func() error, err error) {
	return TAP{}, nil, errors.ErrUnsupported
}

// ReopenTAP attaches again to a persistent TAP that a dead process left in ns.
func ReopenTAP(ctx context.Context, ns *Namespace, name string) (TAP, error) {
	return TAP{}, errors.ErrUnsupported
}

// AdoptTAP takes over an attached fd that another process opened.
func AdoptTAP(fd int) (TAP, error) { return TAP{}, errors.ErrUnsupported }

// WhereIs tells where the TAP of fd is now. The caller closes the namespace.
func WhereIs(fd int) (ns *Namespace, name string, err error) {
	return nil, "", errors.ErrUnsupported
}

// DeviceName derives a device's name in the private namespace from the id of its port: unique enough, and at most 15 bytes.
func DeviceName(portID string) string { return "" }
