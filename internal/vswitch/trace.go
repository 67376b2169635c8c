package vswitch

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/flowspec"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
)

// Trace tells what would happen to a frame, without side effects. What the request leaves open is filled in from the ports'
// addresses.
func (s *Switch) Trace(_ context.Context, r api.TraceRequest) (api.Trace, error) {
	spec, err := flowspec.Parse(r.Flow)
	if err != nil {
		return api.Trace{}, err
	}
	id, err := s.ingressOf(spec)
	if err != nil {
		return api.Trace{}, err
	}
	f := packet.NewFrame(make([]byte, packet.BufSize))
	if err := spec.Build(f, id); err != nil {
		return api.Trace{}, err
	}
	t := s.line.Trace(f, s.path.Now(), s.ownerOf)
	a := api.Trace{Flow: spec.String(), Steps: t.Steps, Verdict: t.Verdict, Outputs: t.Outputs}
	if t.Drop != packet.DropNone {
		a.Drop = t.Drop.String()
	}
	return a, nil
}

// ingressOf finds the port that the frame comes by, a leg's too, and fills in what is known of its sender.
func (s *Switch) ingressOf(spec *flowspec.Spec) (packet.PortID, error) {
	if l := s.legNamed(spec.InPort); l != nil {
		if gw := l.line.Gateway(); gw != nil && spec.SrcMAC == nil {
			spec.SrcMAC = net.HardwareAddr(gw.If.Peer[:])
		}
		if gw := l.line.Gateway(); gw != nil && spec.DstMAC == nil {
			spec.DstMAC = net.HardwareAddr(gw.If.MAC[:])
		}
		if !spec.SrcIP.IsValid() {
			spec.SrcIP = s.hostAddress(l, spec.DstIP)
		}
		if spec.DstIP.IsValid() && !spec.SrcIP.IsValid() {
			return 0, api.Errorf(api.CodeInvalid, "the sender is not known, as anybody may send by %s: add ip_src=...", l.name)
		}
		return l.id, nil
	}
	e, err := s.endpoint(spec.InPort)
	if err != nil {
		return 0, err
	}
	s.fillIn(spec, &e)
	return e.id, nil
}

// hostAddress returns the host's address by which it speaks to one of the same family, if that is by the leg.
func (s *Switch) hostAddress(l *leg, to netip.Addr) netip.Addr {
	if !to.IsValid() || !s.isHost(l.id) {
		return netip.Addr{}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.hostPort.state.Addrs {
		if a.Addr().Is4() == to.Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// fillIn gives the frame what its sender would: the port's own addresses as its source, and the MAC of whoever has the
// destination address on the same network, or of the gateway for others.
func (s *Switch) fillIn(spec *flowspec.Spec, e *endpoint) {
	if spec.SrcMAC == nil {
		spec.SrcMAC = net.HardwareAddr(e.mac[:])
	}
	if !spec.SrcIP.IsValid() {
		for _, p := range e.port.IPs {
			if !spec.DstIP.IsValid() || spec.DstIP.Is4() == p.Addr().Is4() {
				spec.SrcIP = p.Addr()
				break
			}
		}
	}
	if spec.DstMAC == nil && spec.DstIP.IsValid() && e.net != nil {
		spec.DstMAC = s.macOf(e.net, spec.DstIP)
		if gw := e.net.line.Gateway(); spec.DstMAC == nil && gw != nil && !spec.DstIP.IsMulticast() && (gw.If.Owns(spec.DstIP) || !gw.If.OnLink(spec.DstIP)) {
			spec.DstMAC = net.HardwareAddr(gw.If.MAC[:])
		}
	}
}

// ownerOf returns the MAC of the port that the gateway of a network would hear from when it asks for an address: one that works and is in the
// untagged VLAN.
func (s *Switch) ownerOf(n *pipeline.Network, a netip.Addr) (mac [6]byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.net == nil || e.net.line != n || e.down || e.dev == nil || !slices.Contains(addrsOf(e.port.IPs), a) {
			continue
		}
		if in, err := inUntagged(&e.port); err == nil && in {
			return e.mac
		}
	}
	return mac
}

// macOf returns the MAC of the network's port that has the address, or nil.
func (s *Switch) macOf(n *network, a netip.Addr) net.HardwareAddr {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.net == n && slices.Contains(addrsOf(e.port.IPs), a) {
			return net.HardwareAddr(e.mac[:])
		}
	}
	return nil
}
