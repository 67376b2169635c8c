// Package patch joins two interfaces within the kernel: what either receives leaves by the other, whatever it is. It is the least that
// can be done with a frame there, and so the floor for all that does more.
package patch

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Patch is a joint that holds until Close.
type Patch struct{ ends []link.Link }

// Join joins two interfaces of the namespace of the calling thread, by their names. Both have to be up to carry something.
func Join(a, b string) (*Patch, error) {
	p := new(Patch)
	for _, way := range [][2]string{{a, b}, {b, a}} {
		if err := p.redirect(way[0], way[1]); err != nil {
			p.Close()
			return nil, fmt.Errorf("redirect from %s to %s: %w", way[0], way[1], err)
		}
	}
	return p, nil
}

func (p *Patch) redirect(from, to string) error {
	in, err := net.InterfaceByName(from)
	if err != nil {
		return err
	}
	out, err := net.InterfaceByName(to)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "bench_patch", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(out.Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	}})
	if err != nil {
		return err
	}
	defer program.Close() // the link keeps it
	end, err := link.AttachTCX(link.TCXOptions{Interface: in.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return err
	}
	p.ends = append(p.ends, end)
	return nil
}

// Close takes the joint apart.
func (p *Patch) Close() error {
	var errs []error
	for _, end := range p.ends {
		errs = append(errs, end.Close())
	}
	p.ends = nil
	return errors.Join(errs...)
}
