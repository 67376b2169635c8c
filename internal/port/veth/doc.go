// Package veth is the port over one end of a veth pair, held by an AF_PACKET socket.
package veth
