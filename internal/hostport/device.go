package hostport

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/port"
	"vswitch/internal/port/tap"
)

// device makes sure that there is one, and that it is where it belongs.
func (l *look) device() error {
	p := l.p
	if p.dev != nil {
		st, err := link.LookupTAP(p.cfg.Host, p.dev.FD())
		if err == nil && st.Index == p.index {
			l.state.State = st
			return nil
		}
		if err != nil && !api.HasCode(err, api.CodeNotFound) && !errors.Is(err, port.ErrGone) {
			return err
		}
		p.log.Info("the host port is gone and made anew", "interface", p.state.Name)
		p.drop()
	}
	err := p.obtain()
	if err == nil {
		l.state.State, err = link.LookupTAP(p.cfg.Host, p.dev.FD())
	}
	return err
}

// drop lets go of a device that is no good any more.
func (p *Port) drop() {
	p.cfg.Unplug()
	err := link.DeleteTAP(p.dev.FD())
	err = errors.Join(err, p.cfg.Store.Delete(FDName), p.dev.Close())
	if err != nil {
		p.log.Warn("let go of a host port", "err", err)
	}
	p.dev, p.index = nil, 0
}

// obtain goes on with the device that was left, or makes one, and plugs it in. What is in the store has been set up; where it is down,
// somebody has set it down.
func (p *Port) obtain() error {
	dev, ready, err := p.left()
	undo := func() error { return unix.Close(dev.FD) }
	if api.HasCode(err, api.CodeNotFound) {
		dev, undo, err = p.create()
	}
	if err != nil {
		return err
	}
	if dev.Name != p.cfg.Name {
		if err := link.RenameHostPort(p.cfg.Host, dev.Index, p.cfg.Name); err != nil {
			p.log.Warn("give the host port its name", "err", err)
		}
	}
	t := tap.New(p.cfg.Name, dev.FD, dev.Offload)
	for _, step := range []func() error{
		func() error { return p.cfg.Step("host.made") },
		func() error {
			if ready {
				return nil
			}
			return link.SetUpHostPort(p.cfg.Host, dev.Index, nil)
		},
		func() error { return p.cfg.Step("host.up") },
		func() error {
			if ready {
				return nil
			}
			return p.cfg.Store.PutAll(map[string]int{FDName: dev.FD})
		},
		func() error { return p.cfg.Step("host.kept") },
		func() error { return p.cfg.Plug(t) },
	} {
		if err := step(); err != nil {
			return errors.Join(err, p.cfg.Store.Delete(FDName), undo())
		}
	}
	p.dev, p.index, p.plugged = t, dev.Index, true
	return nil
}

// create makes a device, unless its name is somebody's.
func (p *Port) create() (link.TAP, func() error, error) {
	if _, err := link.Lookup(p.cfg.Host, p.cfg.Name); err == nil {
		return link.TAP{}, nil, api.Errorf(api.CodeConflict, "the host has another interface %s; name the host port otherwise with --host-port", p.cfg.Name)
	}
	return link.CreateHostPort(p.cfg.Private, p.cfg.Host, link.HostPortConfig{Name: p.cfg.Name, MAC: p.cfg.MAC, TxQueueLen: p.cfg.TxQueueLen})
}

// left finds the device of an earlier process: by the stored fd, and then it is ready, or in the host's namespace.
func (p *Port) left() (dev link.TAP, ready bool, err error) {
	if fd := p.held; fd >= 0 {
		p.held = -1
		if dev, err = link.AdoptTAP(fd); err == nil {
			var st link.State
			if st, err = link.LookupTAP(p.cfg.Host, fd); err == nil && st.Index == dev.Index {
				return dev, true, nil
			}
		}
		if err != nil && !errors.Is(err, port.ErrGone) && !api.HasCode(err, api.CodeNotFound) {
			p.log.Warn("go on with the host port", "err", err)
		}
		if err := errors.Join(link.DeleteTAP(fd), p.cfg.Store.Delete(FDName), unix.Close(fd)); err != nil {
			p.log.Warn("let go of a host port", "err", err)
		}
	}
	name, err := link.FindHostPort(p.cfg.Host, p.cfg.MAC)
	if err == nil {
		dev, err = link.ReopenTAP(context.Background(), p.cfg.Host, name)
	}
	return dev, false, err
}
