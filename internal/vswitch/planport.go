package vswitch

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
)

// plan turns a request into a port beside those of st, defaults filled in but for its addresses, and opens the namespace it goes
// into. Callers hold verb, or share it when st is the state at work.
func (s *Switch) plan(st *state, n *network, r *api.PortRequest) (*api.Port, *link.Namespace, error) {
	if err := checkPortRequest(n, r); err != nil {
		return nil, nil, err
	}
	if err := checkIfName(r.IfName, nil); err != nil {
		return nil, nil, err
	}
	if err := s.checkFiles(); err != nil {
		return nil, nil, err
	}
	p := portOf(&n.Network, r)
	if r.Stage || r.Type == api.PortHost {
		if r.Stage && r.IfName == "" {
			p.IfName = link.DeviceName(p.ID)
		}
		ns, err := link.Host()
		return p, ns, err
	}
	path, err := s.netnsPath(st, r)
	if err != nil {
		return nil, nil, err
	}
	ns, err := link.OpenNetns(path)
	if err != nil {
		return nil, nil, err
	}
	id := ns.ID()
	if id == s.private.ID() {
		ns.Close()
		return nil, nil, api.Errorf(api.CodeInvalid, "that is the daemon's own namespace; name a container's")
	}
	spec := r.Netns
	if spec == "" {
		spec = fmt.Sprint(r.PID)
	}
	p.Netns = &api.NetnsRef{Spec: spec, Path: path, Dev: id.Dev, Inode: id.Inode}
	return p, ns, nil
}

// portOf turns a request into a port of the network, defaults filled in, that is nowhere yet and has no addresses.
func portOf(n *api.Network, r *api.PortRequest) *api.Port {
	p := &api.Port{
		ID: newID(), Name: r.Name, Network: r.Network, Type: cmp.Or(r.Type, api.PortTAP), Stage: r.Stage,
		IfName: cmp.Or(r.IfName, "eth0"), MTU: cmp.Or(r.MTU, n.MTU), VLAN: r.VLAN, Trunk: r.Trunk, Native: r.Native,
		Isolated: r.Isolated, MACLimit: r.MACLimit, SourceGuard: r.SourceGuard, Storm: meters(nil, r.Storm), NoConfig: r.NoConfig,
		DefaultRoute: cmp.Or(r.DefaultRoute, "auto"), Metric: r.Metric, Routes: r.Routes, Aliases: r.Aliases, Publish: r.Publish, Labels: r.Labels,
	}
	if p.Type == api.PortHost {
		p.IfName, p.DefaultRoute = cmp.Or(r.IfName, hostIfName(p)), cmp.Or(r.DefaultRoute, "no")
	}
	return p
}

// hostIfName is how the interface of a port of the host is called unless somebody says: as the port, where an interface may be.
func hostIfName(p *api.Port) string {
	if api.CheckIfName(p.Name) != nil {
		return link.DeviceName(p.ID)
	}
	return p.Name
}

// netnsPath resolves --netns and --pid.
func (s *Switch) netnsPath(st *state, r *api.PortRequest) (string, error) {
	other, ok := strings.CutPrefix(r.Netns, "container:")
	if !ok {
		return link.ResolveSpec(r.Netns, r.PID)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := st.ports[other]
	if e == nil {
		return "", noPort(other)
	}
	if e.port.Netns == nil && e.port.Type == api.PortHost {
		return "", api.Errorf(api.CodeInvalid, "port %s is the host's own: give others there type host", other)
	}
	if e.port.Netns == nil {
		return "", api.Errorf(api.CodeInvalid, "port %s is staged: its namespace is not known yet", other)
	}
	return e.port.Netns.Path, nil
}

// assign gives the port its addresses and MAC.
func (st *state) assign(n *network, p *api.Port, r *api.PortRequest) error {
	if !r.NoIP {
		var err error
		if p.IPs, err = n.pools.Assign(p.Name, r.IPs, time.Now()); err != nil {
			return err
		}
	}
	mac, err := ipam.ChooseMAC(r.MAC, p.IPs, rand.Reader)
	if err == nil {
		p.MAC = macString(mac)
		err = st.checkMAC(n, p)
	}
	if err != nil {
		n.release(p)
	}
	return err
}

// checkMAC refuses a MAC that another port of the network has.
func (st *state) checkMAC(n *network, p *api.Port) error {
	taken := func(by string) error {
		err := api.Errorf(api.CodeConflict, "MAC %s belongs to port %s of the same network; choose another with --mac", p.MAC, by)
		err.Object = by
		return err
	}
	for name, other := range st.arriving {
		if n != nil && other.Network == n.Name && other.MAC == p.MAC {
			return taken(name)
		}
	}
	for _, e := range st.ports {
		if e.net == n && n != nil && e.port.MAC == p.MAC && e.port.ID != p.ID {
			return taken(e.port.Name)
		}
	}
	return nil
}
