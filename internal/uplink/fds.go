package uplink

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/port/tap"
)

// What an uplink keeps in the fd store.
const (
	fdFrames = "frames" // the TAP
	fdBits   = "bits"
	fdAddrs  = "addrs"
	fdIn     = "in"  // the program on the interface
	fdOut    = "out" // the program on the TAP
)

const fdPrefix = "uplink."

// FDName names an fd of the uplink of that ID in the fd store; SplitFDName is its inverse.
func FDName(id, what string) string { return fdPrefix + id + "." + what }

// SplitFDName tells which uplink an fd of the store belongs to, and what it is.
func SplitFDName(name string) (id, what string, ok bool) {
	rest, ok := strings.CutPrefix(name, fdPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}

func fdNames(id string) []string {
	var names []string
	for _, what := range []string{fdFrames, fdBits, fdAddrs, fdIn, fdOut} {
		names = append(names, FDName(id, what))
	}
	return names
}

// adopt goes on with stored fds. What is no good any more is let go, and made anew by who needs it.
func (u *Uplink) adopt(held map[string]int) {
	bits, ok1 := held[fdBits]
	addrs, ok2 := held[fdAddrs]
	if ok1 && ok2 {
		delete(held, fdBits)
		delete(held, fdAddrs)
		s, err := bpf.AdoptSteering(bits, addrs)
		if err != nil {
			u.log.Warn("start with empty steering tables", "err", err)
		} else {
			u.steer = s
		}
	}
	if fd, ok := held[fdFrames]; ok {
		t, err := link.AdoptTAP(fd)
		if err != nil {
			u.log.Warn("make the TAP anew", "err", err)
		} else {
			delete(held, fdFrames)
			u.tap, u.port = t, tap.New(u.cfg.ID, t.FD, t.Offload)
		}
	}
	for what, in := range map[string]*link.Ingress{fdIn: &u.in, fdOut: &u.out} {
		if fd, ok := held[what]; ok {
			adopted, err := link.AdoptIngress(fd)
			if err != nil {
				u.log.Warn("attach a program anew", "what", what, "err", err)
			} else {
				delete(held, what)
				*in = adopted
			}
		}
	}
	if u.port != nil && u.in.Index == 0 && u.changes.Index != 0 { // a classifier, on an interface that may have another name by now
		if has, err := link.HasClsact(u.cfg.Host, u.changes.Index); err == nil && has {
			u.in = link.Ingress{Index: u.changes.Index, FD: -1}
		}
	}
	for what := range held { // a store may still use them until then
		u.forget(what)
	}
	closeAll(held)
}

// forget takes an fd out of the store.
func (u *Uplink) forget(what string) {
	if u.cfg.Store == nil {
		return
	}
	if err := u.cfg.Store.Delete(FDName(u.cfg.ID, what)); err != nil {
		u.log.Warn("take a file descriptor out of the store", "what", what, "err", err)
	}
}

// keep stores all fds that there are.
func (u *Uplink) keep() error {
	if u.cfg.Store == nil {
		return nil
	}
	bits, addrs := u.steer.FDs()
	fds := map[string]int{
		FDName(u.cfg.ID, fdFrames): u.tap.FD,
		FDName(u.cfg.ID, fdBits):   bits,
		FDName(u.cfg.ID, fdAddrs):  addrs,
	}
	for what, in := range map[string]link.Ingress{fdIn: u.in, fdOut: u.out} {
		if in.Index != 0 && in.FD >= 0 {
			fds[FDName(u.cfg.ID, what)] = in.FD
		}
	}
	if err := u.cfg.Store.PutAll(fds); err != nil {
		return fmt.Errorf("keep the file descriptors of uplink %s: %w", u.cfg.ID, err)
	}
	return nil
}

func closeAll(fds map[string]int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
