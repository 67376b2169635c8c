// Package relay lets programs of the host reach published ports at the host's own addresses, 127.0.0.1 and ::1 among them.
//
//	a program of the host --- lo ---> listener --- socket ---> the container, by the host's route to it
//
// Listeners take what comes by the loopback interface alone, by which the kernel delivers what it sends to its own addresses: a filter on their
// sockets drops all else, so nobody outside is heard. TCP is moved by splice(2) from socket to socket, UDP in batches, over a socket of its
// own for each client.
package relay
