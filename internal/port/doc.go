// Package port is the contract between the data plane and what carries frames in and out; the kinds are folders below it.
package port
