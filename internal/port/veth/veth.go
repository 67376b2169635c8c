// Package veth is the port over one end of a veth pair, held by an AF_PACKET socket.
package veth

import (
	"errors"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

var (
	_ port.Port      = (*Veth)(nil)
	_ port.Offloader = (*Veth)(nil)
	_ port.Counters  = (*Veth)(nil)
)

// Veth is the port.
type Veth struct {
	name string
	fd   int
}

// New makes a port of a bound, non-blocking AF_PACKET socket, which it owns from then on; it asks the socket how long its
// vnet header is.
func New(name string, fd int) (*Veth, error) { return nil, errors.ErrUnsupported }

func (v *Veth) Name() string                            { return v.name }
func (v *Veth) FD() int                                 { return v.fd }
func (v *Veth) Offload() port.Offload                   { return 0 }
func (v *Veth) Read(f *packet.Frame) error              { return errors.ErrUnsupported }
func (v *Veth) Write(f *packet.Frame) error             { return errors.ErrUnsupported }
func (v *Veth) KernelDrops() (rx, tx uint64, err error) { return 0, 0, errors.ErrUnsupported }
func (v *Veth) Close() error                            { return nil }
