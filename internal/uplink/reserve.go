package uplink

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"vswitch/internal/bpf"
	"vswitch/internal/link"
)

// From these the kernel chooses ports for the host's connections, and to these it gives none (Documentation/networking/ip-sysctl.rst).
// Both serve IPv4 and IPv6.
const (
	localPortRange = "/proc/sys/net/ipv4/ip_local_port_range"
	reservedPorts  = "/proc/sys/net/ipv4/ip_local_reserved_ports"
)

// reserve keeps the kernel from choosing the uplink's ports for connections of the host. Where it wouldn't choose any of them, nothing is
// changed.
func (u *Uplink) reserve() error {
	return u.cfg.Host.Do(func() error {
		first, last, err := readPortRange()
		if err != nil {
			return err
		}
		reserved, err := readReserved()
		if err != nil {
			return err
		}
		added, err := parsePorts(u.changes.Reserved)
		if err != nil {
			return err
		}
		all := reserved
		for p := max(first, int(u.cfg.FirstPort)); p <= min(last, int(u.cfg.LastPort)); p++ {
			if !reserved.Has(uint16(p)) {
				added.Add(uint16(p))
				all.Add(uint16(p))
			}
		}
		if all == reserved {
			return nil
		}
		c := u.changes
		c.Reserved = formatPorts(&added)
		if err := u.record(c); err != nil {
			return err
		}
		return writeReserved(&all)
	})
}

// Reserve is for when another uplink has given back ports that both have.
func (u *Uplink) Reserve() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reserve()
}

// release takes the ports out of the reserved ones of host.
func release(host *link.Namespace, ports string) error {
	if ports == "" {
		return nil
	}
	return host.Do(func() error {
		added, err := parsePorts(ports)
		if err != nil {
			return err
		}
		reserved, err := readReserved()
		if err != nil {
			return err
		}
		for i := range reserved {
			reserved[i] &^= added[i]
		}
		return writeReserved(&reserved)
	})
}

// readPortRange reads localPortRange of the calling thread's namespace.
func readPortRange() (first, last int, err error) {
	b, err := os.ReadFile(localPortRange)
	if err == nil {
		_, err = fmt.Sscan(string(b), &first, &last)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read which ports the kernel chooses: %w", err)
	}
	return first, last, nil
}

// readReserved and writeReserved are of reservedPorts of the calling thread's namespace.
func readReserved() (bpf.PortSet, error) {
	b, err := os.ReadFile(reservedPorts)
	if err != nil {
		return bpf.PortSet{}, fmt.Errorf("read the reserved ports: %w", err)
	}
	return parsePorts(strings.TrimSpace(string(b)))
}

func writeReserved(s *bpf.PortSet) error {
	// An empty line empties the list; nothing at all would change nothing.
	if err := os.WriteFile(reservedPorts, []byte(formatPorts(s)+"\n"), 0); err != nil {
		return fmt.Errorf("write the reserved ports: %w", err)
	}
	return nil
}

var errBadPorts = errors.New("not a list of ports like 100-200,300")

// parsePorts reads a list like "100-200,300", as formatPorts writes it.
func parsePorts(list string) (s bpf.PortSet, err error) {
	if list == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || first > last {
			return s, fmt.Errorf("%q: %w", list, errBadPorts)
		}
		s.AddRange(uint16(first), uint16(last))
	}
	return s, nil
}

func formatPorts(s *bpf.PortSet) string {
	var parts []string
	for p := 0; p < 1<<16; p++ {
		if !s.Has(uint16(p)) {
			continue
		}
		first := p
		for p+1 < 1<<16 && s.Has(uint16(p+1)) {
			p++
		}
		if part := strconv.Itoa(first); p == first {
			parts = append(parts, part)
		} else {
			parts = append(parts, part+"-"+strconv.Itoa(p))
		}
	}
	return strings.Join(parts, ",")
}
