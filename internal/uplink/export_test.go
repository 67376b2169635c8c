package uplink

import "vswitch/internal/bpf"

// Without tcx, as below Linux 6.6.
func (c *Config) WithoutTCX() { c.classifierOnly = true }

// Steering is the bitmap.
func (u *Uplink) Steering() *bpf.Steering { return u.steer }

// WithLRO lets another feature stand for large receive offload, which no virtual device has.
func (c *Config) WithLRO(feature string) { c.lro = feature }

// ParsePorts and FormatPorts are of lists of reserved ports.
func ParsePorts(list string) (bpf.PortSet, error) { return parsePorts(list) }

// FormatPorts is the inverse of ParsePorts.
func FormatPorts(s *bpf.PortSet) string { return formatPorts(s) }
