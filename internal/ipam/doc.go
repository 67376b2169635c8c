// Package ipam chooses subnets, IP addresses and MAC addresses; what the host's routes take comes in as an argument.
package ipam
