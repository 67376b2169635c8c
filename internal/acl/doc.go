// Package acl holds the rules of a network and its ports: which frames they allow, deny or reject. Rules are written in the words of
// `vsctl add-rule` (see Parse), compiled into a classifier that finds the first rule of ten thousand in about a microsecond, and
// asked by the pipeline on the slow path only.
//
// # Which rule decides
//
// A frame is judged twice: when it comes in from a port (direction in, the switch's view) and when it is about to go out to one (out).
// Each time the rules of that port and of its network are one list: the higher priority comes first; of equals a port's rule before its
// network's, then the one that was given first. The first rule that matches decides. When none does, the frame is allowed, but for
// frames between two ports of a network that is --icc=false. Whether a network that is --internal is routed is not asked here.
//
// A rule that names nothing matches all frames, of all EtherTypes. One that names an address prefix, protocol or port matches IP only. ARP
// and IPv6 neighbor and router discovery, without which there is no communication at all, pass rules by, unless a rule
// names something of that layer: a MAC address, an EtherType or an ICMP type.
//
// A fragment whose ports nobody knows is denied by a rule that asks for ports and would deny, and not allowed by one that would allow.
//
// # Connections
//
// Rules are about who may begin. The reply to what was allowed passes, because it is judged as what it answers: addresses,
// ports and directions exchanged, it goes through the same rules as the connection's first frame. So no decision is remembered: a rule that is
// new ends connections that it forbids in both directions at once. All that has to be known is whether a frame is a reply,
// and that only where a rule would refuse it otherwise, or would refuse the reply to it: Result.NeedsState tells.
package acl
