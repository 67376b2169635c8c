// Package hostport is the interface by which the host and the switch's router reach each other.
//
//	the host's stack                                        the router
//	192.0.0.6 -- vsw0 (a TAP without ARP and multicast) ====> 192.0.0.7 -- networks
//	             10.99.0.0/24 dev vsw0 src 192.0.0.6          192.0.2.2/32, 2001:db8::2/128, ...: by vsw0
//
// A Port gives the host routes to the networks' subnets, and says which addresses of the host's lead back. It follows the kernel: what
// others change is looked at again, and put right where it is the Port's. What is somebody else's it never touches: where the host has
// another way to a subnet, or uses an address of the Port's, the Port does without and says so. Its fd is kept in an fd store, so that
// device, routes and connections outlive the daemon.
package hostport
