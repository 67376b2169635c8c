package packet

// DropReason says why a frame was not forwarded. Each has a counter per port, a name and one sentence for people.
type DropReason uint8

// The reasons. DropNone is none: the frame lives.
const (
	DropNone DropReason = iota

	// Parse.
	DropRunt
	DropOversize
	DropBadVnet
	DropBadVLAN
	DropBadARP
	DropBadIPv4
	DropBadIPv6
	DropBadTCP
	DropBadUDP
	DropBadICMP

	// Admission and learning.
	DropPortDown
	DropBadSourceMAC
	DropVLANNotMember
	DropReservedGroup
	DropBPDU
	DropPortBlocked
	DropLoopProbe

	// Source guard.
	DropSourceMAC
	DropSourceIP
	DropARPSpoof
	DropNDSpoof
	DropDHCPServer
	DropRA
	DropRedirect
	DropHidden

	// Decision.
	DropSamePort
	DropNoReceiver
	DropIsolated
	DropICCOff
	DropOverMTU

	// Routing.
	DropGatewayMAC
	DropGatewaySpoof
	DropNotRoutable
	DropMartian
	DropReversePath
	DropDirectedBroadcast
	DropSourceRoute
	DropTTL
	DropNoRoute
	DropNoService
	DropNeighborFailed
	DropNeighborQueue
	DropFragNeeded
	DropInternalNetwork
	DropForeign
	DropUplinkRefused

	// Fragments.
	DropFragBad
	DropFragOverlap
	DropFragDuplicate
	DropFragLate
	DropFragMany

	// Connections.
	DropConnInvalid
	DropConnFull
	DropNATPorts
	DropNATFiltered
	DropPublishFrom

	// Rules.
	DropRuleDeny
	DropRuleReject

	// Storm meters.
	DropStormBroadcast
	DropStormMulticast
	DropStormUnknown

	// Output.
	DropEgressGone
	DropEgressDown
	DropEgressFull
	DropEgressRefused
	DropQueueFull
	DropInternal

	// Counted by the kernel, and read from it when somebody asks.
	DropKernelRx
	DropKernelTx

	// DropReasons is their number.
	DropReasons
)

var drops = [DropReasons]struct{ name, sentence string }{
	DropNone:          {"none", "not dropped"},
	DropRunt:          {"runt", "shorter than an Ethernet header"},
	DropOversize:      {"oversize", "longer than any frame can be"},
	DropBadVnet:       {"bad_vnet_header", "the vnet header contradicts the frame (offload type, sizes or checksum offsets)"},
	DropBadVLAN:       {"bad_vlan_tag", "cut off within a VLAN tag"},
	DropBadARP:        {"bad_arp", "ARP packet cut off or not for Ethernet and IPv4"},
	DropBadIPv4:       {"bad_ipv4_header", "IPv4 version, header length or total length is wrong"},
	DropBadIPv6:       {"bad_ipv6_header", "IPv6 version, payload length or extension headers are wrong"},
	DropBadTCP:        {"bad_tcp_header", "TCP header cut off or its data offset is wrong"},
	DropBadUDP:        {"bad_udp_header", "UDP header cut off or its length is wrong"},
	DropBadICMP:       {"bad_icmp_header", "ICMP header cut off"},
	DropPortDown:      {"port_down", "the ingress port is not up or being deleted, or belongs to no network"},
	DropBadSourceMAC:  {"bad_source_mac", "the source MAC is zero or a group address"},
	DropVLANNotMember: {"vlan_not_member", "the ingress port carries no such VLAN; give it --vlan or --trunk"},
	DropReservedGroup: {"reserved_group", "01-80-C2-00-00-0x is for the link itself and never forwarded (IEEE 802.1Q 8.6.3)"},
	DropBPDU:          {"bpdu", "a spanning tree frame: containers have no say in those"},
	DropPortBlocked:   {"port_blocked", "the ingress port is blocked, since frames loop over it; see 'vsctl events'"},
	DropLoopProbe:     {"loop_probe", "the switch's own probe for loops came back, and did its work"},
	DropSourceMAC:     {"source_mac", "source guard: the source MAC is not the port's"},
	DropSourceIP:      {"source_ip", "source guard: the source address is not one of the port's"},
	DropARPSpoof:      {"arp_spoof", "source guard: an ARP packet claims a MAC or address that is not the port's"},
	DropNDSpoof:       {"nd_spoof", "source guard: a neighbor discovery message claims a MAC or address that is not the port's"},
	DropDHCPServer:    {"dhcp_server", "source guard: only DHCP servers and relays send this"},
	DropRA:            {"ra", "source guard: a router advertisement from a port that is no router"},
	DropRedirect:      {"redirect", "source guard: an ICMP redirect from a port that is no router"},
	DropHidden:        {"hidden", "source guard: tags, headers or a fragment too short hide what the frame is"},
	DropSamePort:      {"same_port", "the destination is behind the ingress port itself"},
	DropNoReceiver:    {"no_receiver", "no other port carries this VLAN"},
	DropIsolated:      {"isolated", "both ports are isolated"},
	DropICCOff:        {"icc_off", "the network forbids traffic between its ports (--icc=false)"},
	DropOverMTU:       {"over_mtu", "larger than the MTU of the ingress or egress port"},

	DropGatewayMAC:        {"gateway_mac", "its source is the MAC of the network's gateway, which is the switch itself"},
	DropGatewaySpoof:      {"gateway_spoof", "an ARP packet or neighbor advertisement claims the gateway's address"},
	DropNotRoutable:       {"not_routable", "sent to the gateway's MAC, but neither IP nor ARP, or a message to the gateway that is malformed; or to a group by a point-to-point link"},
	DropMartian:           {"martian", "a source or destination address that no datagram between networks can have (RFC 1812 5.3.7)"},
	DropReversePath:       {"reverse_path", "the source address does not belong where the frame came from (RFC 3704 strict)"},
	DropDirectedBroadcast: {"directed_broadcast", "a broadcast into another subnet (RFC 2644)"},
	DropSourceRoute:       {"source_route", "the sender prescribes the way: IPv4 source route or IPv6 routing header of type 0 (RFC 5095)"},
	DropTTL:               {"ttl_exceeded", "the TTL or hop limit is used up"},
	DropNoRoute:           {"no_route", "no route to the destination; see 'vsctl list-routes'"},
	DropNoService:         {"no_service", "for the router itself, which offers nothing there"},
	DropNeighborFailed:    {"neighbor_failed", "nobody answers for the destination or next hop; see 'vsctl neigh'"},
	DropNeighborQueue:     {"neighbor_queue", "too many frames or addresses wait for an answer of ARP or neighbor discovery"},
	DropFragNeeded:        {"frag_needed", "larger than the MTU of the way out, and not to be fragmented: the sender is told"},
	DropInternalNetwork:   {"internal_network", "from or to a network that is --internal, which is not routed"},

	DropForeign:       {"foreign", "came in by an uplink, and belongs to no connection and no published port: it is the host's, or nobody's"},
	DropUplinkRefused: {"uplink_refused", "by a shared uplink leave TCP, UDP, SCTP and pings only, from addresses of the host: see --masquerade of its network"},

	DropFragBad:       {"frag_bad", "a fragment that no stack sends: it ends within its headers, or reaches beyond 65535 bytes"},
	DropFragOverlap:   {"frag_overlap", "fragments of its datagram overlap or contradict each other: all of them are dropped (RFC 5722)"},
	DropFragDuplicate: {"frag_duplicate", "the same fragment came before"},
	DropFragLate:      {"frag_timeout", "it waited for the first fragment of its datagram, or of SCTP for the last one, which did not come in time"},
	DropFragMany:      {"frag_limit", "too many datagrams are in fragments, or one of them in too many"},

	DropConnInvalid: {"conn_invalid", "it opens no connection and belongs to none: an answer, a reset or an ICMP error about nothing that is known"},
	DropConnFull:    {"conn_limit", "the network, or the switch, has as many connections as it may, and all are in use"},
	DropNATPorts:    {"nat_ports", "all external ports that masquerading may use are taken towards this destination"},
	DropNATFiltered: {"nat_filtered", "to the external port of a masqueraded connection, from where nothing was sent to"},
	DropPublishFrom: {"publish_from", "the published port is not open to this source (--from)"},

	DropRuleDeny:   {"rule_deny", "a rule denies it; 'vsctl list-rules' counts by rule, 'vsctl trace' names the rule for a frame"},
	DropRuleReject: {"rule_reject", "a rule rejects it, and its sender is told; 'vsctl list-rules' counts by rule"},

	DropStormBroadcast: {"storm_broadcast", "more broadcasts than the port's storm meter allows"},
	DropStormMulticast: {"storm_multicast", "more multicasts than the port's storm meter allows"},
	DropStormUnknown:   {"storm_unknown", "more frames to unknown destinations than the port's storm meter allows"},

	DropEgressGone:    {"egress_gone", "the egress port is no more"},
	DropEgressDown:    {"egress_down", "the egress interface is down"},
	DropEgressFull:    {"egress_full", "the egress could not take more"},
	DropEgressRefused: {"egress_refused", "the kernel refused the frame at the egress"},
	DropQueueFull:     {"queue_full", "the switch's own queue was full: of a slow port, or of floods to large networks"},
	DropInternal:      {"internal", "the switch could not decide; please report this"},
	DropKernelRx:      {"kernel_rx_dropped", "the kernel dropped it between container and switch: mostly because the queue was full (--txqueuelen)"},
	DropKernelTx:      {"kernel_tx_dropped", "handed over, but the container's kernel dropped it on the interface: no use for it, or no room"},
}

// String returns the reason's name, as in counters.
func (r DropReason) String() string {
	if r < DropReasons {
		return drops[r].name
	}
	return "unknown"
}

// Sentence says the reason to a person.
func (r DropReason) Sentence() string {
	if r < DropReasons {
		return drops[r].sentence
	}
	return "unknown reason"
}
