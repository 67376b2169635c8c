package pipeline

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	l2switch "vswitch/switch"

	"vswitch/internal/acl"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// Trace is the pipeline's own account of one decision: what `vsctl trace` prints. A nil *Trace costs a comparison per stage.
type Trace struct {
	Steps   []string
	Verdict string
	Outputs []string // names of the ports the frame would leave by
	Drop    packet.DropReason
	Answers []string // names of the ports that would get a frame of the gateway's own

	owner Owner
}

// Owner says which MAC a station of a network would tell that has the address; the zero MAC when nobody is known to have it.
type Owner func(n *Network, a netip.Addr) [6]byte

// Trace decides what would happen to a parsed frame, without side effects: nothing is learned, counted or sent. Where the router would
// have to ask for a MAC, the walk goes on with what owner, which may be nil, says.
func (p *Pipeline) Trace(f *packet.Frame, now int64, owner Owner) *Trace {
	var v flow.Verdict
	t := &Trace{owner: owner}
	p.walk(f, now, &v, t)
	switch {
	case v.NActions > 0:
	case len(t.Outputs) > 0:
		t.Verdict = "fragments -> " + strings.Join(t.Outputs, ",")
	case t.Verdict != "":
	case v.Taken && v.Drop == packet.DropNone:
		t.Verdict = "taken by the gateway"
	default:
		t.Drop = v.Drop
		t.Verdict = fmt.Sprintf("drop: %s (%s)", v.Drop, v.Drop.Sentence())
	}
	return t
}

func (t *Trace) ownerOf(n *Network, a netip.Addr) (mac [6]byte) {
	if t.owner == nil {
		return mac
	}
	return t.owner(n, a)
}

func (t *Trace) step(stage, format string, args ...any) {
	t.Steps = append(t.Steps, fmt.Sprintf("%-12s ", stage)+fmt.Sprintf(format, args...))
}

// judged tells how rules decided at a port. Of a rule that decides, drop and output say what becomes of the frame.
func (t *Trace) judged(stage string, dir acl.Direction, port string, e *acl.Explanation) {
	for i, line := range e.Lines() {
		if i > 0 {
			stage = ""
		}
		t.step(stage, "%s %s: %s", dir, port, line)
	}
}

// output describes the actions of a walk that reached the end.
func (t *Trace) output(w *walk) {
	var actions []string
	for i := range w.v.Actions[:w.v.NActions] {
		a := &w.v.Actions[i]
		switch a.Op {
		case flow.OpOutput:
			t.Outputs = append(t.Outputs, w.out.Name)
		case flow.OpFlood:
			for _, m := range a.Set.Members {
				if c := w.outConf.Port(m.Port); c != nil && m.Port != w.in.ID {
					t.Outputs = append(t.Outputs, c.Name)
				}
			}
		}
		actions = append(actions, actionText(a, &w.v.Decision, &w.v.Conn, w.portName))
	}
	t.Verdict = strings.Join(actions, ",")
	if w.out == nil {
		t.Verdict += " -> " + strings.Join(t.Outputs, ",")
	}
	t.step("11 output", "%s; largest frame %d bytes at L3", t.Verdict, w.v.MaxL3)
	if w.held {
		t.step("", "decided anew for each frame, while its source is held elsewhere")
	} else if w.f.Flags&packet.FlagFragment != 0 {
		t.step("", "decided anew for each fragment")
	} else if w.turned {
		t.step("", "decided anew for each frame, since two connections carry it")
	} else if w.absent {
		t.step("", "decided anew for each frame, since it leans on an address not known")
	} else if neverCached(w.f) {
		t.step("", "decided anew for each frame of this kind")
	}
}

func (w *walk) portName(id packet.PortID) string {
	if c := w.outConf.Port(id); c != nil {
		return c.Name
	}
	return fmt.Sprintf("port%d", id.Slot())
}

// actionText writes an action of the decision about a connection for people, in ovs-ofctl's words.
func actionText(a *flow.Action, d *flow.Decision, c *flow.Conn, name func(packet.PortID) string) string {
	switch a.Op {
	case flow.OpOutput:
		return "output:" + name(a.Port)
	case flow.OpFlood:
		return fmt.Sprintf("flood(%s)", vlanText(a.Set.VLAN))
	case flow.OpPushVLAN:
		return fmt.Sprintf("push_vlan:%d", a.VLAN)
	case flow.OpPopVLAN:
		return "pop_vlan"
	case flow.OpSetVLAN:
		return fmt.Sprintf("set_vlan:%d", a.VLAN)
	case flow.OpRoute:
		return fmt.Sprintf("set(eth_src=%s,eth_dst=%s),dec_ttl", macText(a.Hop.Src), macText(a.Hop.Dst))
	case flow.OpRewrite:
		r := d.Translation(c)
		return rewriteText(&r)
	case flow.OpMeter:
		return fmt.Sprintf("meter(%s,pps=%d)", a.Meter.Kind, a.Meter.Rate)
	}
	return "none"
}

// ActionsText writes all actions of a flow.
func ActionsText(f *flow.Flow, name func(packet.PortID) string) string {
	if f.NActions == 0 {
		return "drop:" + f.Drop.String()
	}
	var s []string
	for i := range f.Actions[:f.NActions] {
		s = append(s, actionText(&f.Actions[i], f.Decision, &f.Conn, name))
	}
	return strings.Join(s, ",")
}

func (w *walk) learnText(what l2switch.Learned, old packet.PortID) string {
	mac := macText(w.f.Key.SrcMAC)
	switch what {
	case l2switch.New:
		return fmt.Sprintf("%s would be learned behind %s", mac, w.in.Name)
	case l2switch.Moved:
		return fmt.Sprintf("%s would move from %s to %s", mac, w.portName(old), w.in.Name)
	case l2switch.RefusedStatic:
		return fmt.Sprintf("%s stays behind %s: static entry", mac, w.portName(old))
	case l2switch.Damped:
		return fmt.Sprintf("%s moved too often: it would go back to where it was before, and be held there", mac)
	case l2switch.Held:
		return fmt.Sprintf("%s stays behind %s for now: it moved too often", mac, w.portName(old))
	case l2switch.RefusedGone:
		return fmt.Sprintf("%s is not learned: %s is being removed", mac, w.in.Name)
	}
	return fmt.Sprintf("%s is behind %s already", mac, w.in.Name)
}

// wayText tells a route and the way that was chosen.
func wayText(r *router.Route, way *router.Hop, via netip.Addr) string {
	kind := "connected"
	switch {
	case r.Link != "":
		if kind = "host"; way.If.Uplink {
			kind = "uplink"
		}
	case r.Static:
		kind = "static"
	}
	s := fmt.Sprintf("%s (%s) to network %s", r.Prefix, kind, way.If.Name)
	if way.Via.IsValid() {
		s += ", next hop " + via.String()
	}
	if n := len(r.Hops); n > 1 {
		s += fmt.Sprintf(", one of %d", n)
	}
	return s
}

func vlanText(vlan uint16) string {
	if vlan == 0 {
		return "untagged VLAN"
	}
	return fmt.Sprintf("VLAN %d", vlan)
}

func macText(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }
