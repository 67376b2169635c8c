// Package server answers the control API of the daemon: HTTP/1.1 and JSON over a unix socket, with problem documents (RFC 9457)
// for errors, server-sent events and Prometheus metrics. docs/api.md describes it for its users.
//
// The package decides nothing about networks or ports: it reads requests, hands them to a Backend, which it declares, and writes
// the answers. Every resource is a row of one table, in routes.go.
package server
