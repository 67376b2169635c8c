// Package uplink shares an interface of the host with the switch: both use its addresses, and neither notices the other.
//
//	                 the host's stack
//	                        |                                a TAP in the host's namespace
//	outside --- up0 --- vswitch_steer ---- ours: redirected ------> vs-ID ====> the switch reads
//	             ^                    \--- unclear: cloned ------>
//	             |                                                  vs-ID <==== the switch writes
//	             +----------- vswitch_send: redirect_neigh <--------+
//
// Whose a frame is, a program on the interface tells by a bitmap of ports and echo identifiers that the switch changes in memory (see
// package bpf). What the switch sends, the kernel routes and resolves. No rule, conntrack entry, route or address of the host has a part
// in it, so none of them is made or needed; the host's own firewall doesn't see the switch's frames.
//
// An Uplink follows its interface as the kernel tells of it: addresses, MTU, carrier, name, removal and return, and for api.AutoUplink the
// host's default route. Its fds are kept in an fd store, so that it goes on steering while the daemon is away: the host never answers
// a frame of the switch's connections with a RST. Where no fd is left the programs are gone too, and the host has its interface back.
package uplink
