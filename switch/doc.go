// Package l2switch holds what a network knows as a learning switch: its ports, their VLANs and isolation, who receives a flood,
// and behind which port each MAC address is.
package l2switch
