// Package router holds what a router decides with: its interfaces, its routes (the FIB), and its neighbors (ARP, Neighbor
// Discovery). It reads no frames and sends none: the pipeline does, and asks here.
package router
