// Package store keeps what users asked for on disk: networks, ports, and how far each port's attachment has come.
package store
