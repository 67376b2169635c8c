package vswitch

import (
	"path/filepath"

	"vswitch/internal/api"
	"vswitch/internal/link"
)

// openNetns opens the namespace that the port was placed in, when it still exists; its old path may lead elsewhere by now.
func (s *Switch) openNetns(p *api.Port) (*link.Namespace, error) {
	if p.Netns == nil {
		return link.Host() // staged
	}
	id := link.NamespaceID{Dev: p.Netns.Dev, Inode: p.Netns.Inode}
	path := p.Netns.Path
	if at, err := link.Identify(path); err != nil || at != id {
		var ok bool
		if path, ok = link.FindNetns(id); !ok {
			return nil, api.Errorf(api.CodeNotFound, "network namespace %s of port %s is no more", p.Netns.Spec, p.Name)
		}
	}
	ns, err := link.OpenNetns(path)
	if err != nil {
		return nil, err
	}
	if ns.ID() != id {
		ns.Close()
		return nil, api.Errorf(api.CodeNotFound, "network namespace %s of port %s is being replaced", p.Netns.Spec, p.Name)
	}
	return ns, nil
}

// locate finds where the port's interface is now, and watches it there.
func (s *Switch) locate(e *endpoint) {
	ns, st, err := s.whereIs(e)
	if err != nil {
		s.lose(e)
		return
	}
	defer ns.Close()
	s.watch(e, ns)
	s.settle(e, ns, st)
	s.look(e, ns)
}

func (s *Switch) whereIs(e *endpoint) (*link.Namespace, link.State, error) {
	if e.port.Type != api.PortVeth {
		return link.WhereIs(e.dev.fd)
	}
	ns, st, err := s.whereWas(e)
	if err != nil {
		return s.watcher.Peer(e.dev.index)
	}
	return ns, st, nil
}

// whereWas finds a veth's interface where the record says.
func (s *Switch) whereWas(e *endpoint) (*link.Namespace, link.State, error) {
	ns, err := s.openNetns(&e.port)
	if err != nil {
		return nil, link.State{}, err
	}
	st, err := link.Lookup(ns, e.port.IfName)
	if err == nil && (st.Kind != "veth" || st.MAC.String() != e.port.MAC) {
		err = api.Errorf(api.CodeNotFound, "interface %s of namespace %s is another one", e.port.IfName, ns)
	}
	if err != nil {
		ns.Close()
	}
	return ns, st, err
}

// settle notes where the interface is and what it is called, and writes it down if that is news.
func (s *Switch) settle(e *endpoint, ns *link.Namespace, st link.State) {
	id := ns.ID()
	was := e.port
	ref := e.port.Netns
	if ref == nil || ref.Dev != id.Dev || ref.Inode != id.Inode {
		ref = s.refTo(e, ns)
	}
	pins := e.dev.kind == api.PortTAP && id != s.host.ID() && link.Pins(e.dev.fd, id)
	s.placeAt(e, id, st.Index)
	s.mu.Lock()
	e.down, e.err, e.pins = !st.Up, "", pins
	e.port.IfName, e.port.Netns, e.port.Stage = st.Name, ref, e.port.Stage && ref == nil
	s.mu.Unlock()
	if was.IfName != e.port.IfName || was.Netns != e.port.Netns {
		s.save(e)
	}
}

// refTo names the namespace into which an interface was moved; nil for those of the host, and while a staged one waits to be taken.
func (s *Switch) refTo(e *endpoint, ns *link.Namespace) *api.NetnsRef {
	id := ns.ID()
	if (e.port.Stage || e.port.Type == api.PortHost) && id == s.host.ID() {
		return nil
	}
	ref := &api.NetnsRef{Spec: ns.String(), Path: ns.Path(), Dev: id.Dev, Inode: id.Inode}
	if path, ok := link.FindNetns(id); ok {
		ref.Path, ref.Spec = path, path
		if dir, name := filepath.Split(path); dir == "/run/netns/" {
			ref.Spec = name
		}
	}
	return ref
}

// lose says that the interface of a working port is not to be found: a veth's end that was moved on. The port goes on.
func (s *Switch) lose(e *endpoint) {
	s.unwatch(e)
	s.placeAt(e, link.NamespaceID{}, 0)
	s.mu.Lock()
	e.pins = false
	e.err = "its interface was moved to a namespace that is not known: traffic goes on, but its state can't be told"
	s.mu.Unlock()
}
