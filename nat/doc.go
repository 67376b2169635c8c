// Package nat knows the connections that run through a router, and what address translation makes of them: masquerade, whose
// external ports it hands out, and published ports. It does no input or output and has no clock: times are nanoseconds of the
// datapath's monotonic clock, as arguments.
//
//	Track    the connection of a frame, if there is one; moves its state on               stage 4 of the pipeline
//	Lookup   of Published: where a connection to one of our addresses is to go            stage 5
//	Open     a connection for the first frame, once it is known that it may pass          stage 10
//	Error    what becomes of an ICMP error: it never makes, changes or ends a connection  stage 4
package nat
