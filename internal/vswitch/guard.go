package vswitch

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/flow"
)

// stormKinds are the kinds of floods by name.
var stormKinds = func() map[string]flow.StormKind {
	m := make(map[string]flow.StormKind)
	for k := range flow.StormKinds {
		m[k.String()] = k
	}
	return m
}()

// checkStorm refuses meters that there can't be.
func checkStorm(storm map[string]int) error {
	for _, name := range slices.Sorted(maps.Keys(storm)) {
		if _, ok := stormKinds[name]; !ok {
			return invalid("storm meter for %.40q: the kinds are %s", name, strings.Join(slices.Sorted(maps.Keys(stormKinds)), ", "))
		}
		if rate := storm[name]; rate != 0 && (rate < flow.MinRate || rate > flow.MaxRate) {
			return invalid("storm meter of %d %s packets/s: use %d to %d, or 0 for none", rate, name, flow.MinRate, flow.MaxRate)
		}
	}
	return nil
}

// meters returns the meters of storm with a change on top; a rate of 0 takes one away. Neither argument is changed.
func meters(storm, change map[string]int) map[string]int {
	if len(change) == 0 {
		return storm
	}
	m := maps.Clone(change)
	for name, rate := range storm {
		if _, ok := m[name]; !ok {
			m[name] = rate
		}
	}
	maps.DeleteFunc(m, func(_ string, rate int) bool { return rate == 0 })
	if len(m) == 0 {
		return nil
	}
	return m
}

// protect gives conf the guard and the meters that the port asks for. Those of old, what the bridge knew of the port so far,
// or nil, stay when they do what is asked for: a meter's bucket isn't filled because something else of the port changes.
func protect(conf, old *l2switch.PortConf, p *api.Port) {
	if old == nil {
		old = &l2switch.PortConf{}
	}
	conf.Guard = nil
	if mac, err := net.ParseMAC(p.MAC); err == nil && p.SourceGuard {
		var addrs []netip.Addr
		for _, ip := range p.IPs {
			addrs = append(addrs, ip.Addr())
		}
		if conf.Guard = l2switch.NewGuard([6]byte(mac), addrs); reflect.DeepEqual(conf.Guard, old.Guard) {
			conf.Guard = old.Guard
		}
	}
	conf.Storm = flow.Meters{}
	for name, rate := range p.Storm {
		kind := stormKinds[name]
		if conf.Storm[kind] = old.Storm[kind]; conf.Storm[kind] == nil || conf.Storm[kind].Rate != rate {
			conf.Storm[kind] = flow.NewMeter(kind, rate)
		}
	}
}

// stormQuiet is for how many sweeps in a row a meter has to drop nothing for its storm to be over.
const stormQuiet = 5

// storm is one that a meter cuts.
type storm struct {
	dropped uint64 // by the meter, at the latest look
	before  uint64 // and when the storm began
	quiet   int    // sweeps without a drop
	raging  bool
}

// tellStorms looks at all meters and tells which storms have begun and which are over, at most once in stormQuiet sweeps for each
// kind and port. known is what it returned the time before.
func (s *Switch) tellStorms(known map[*flow.Meter]*storm) map[*flow.Meter]*storm {
	s.mu.RLock()
	nets := slices.Collect(maps.Values(s.networks))
	s.mu.RUnlock()
	now := make(map[*flow.Meter]*storm, len(known))
	for _, n := range nets {
		for _, p := range n.line.Bridge.Snapshot().Ports() {
			for _, m := range p.Storm {
				if m == nil {
					continue
				}
				if now[m] = known[m]; now[m] == nil {
					now[m] = &storm{}
				}
				s.tellStorm(p.Name, m, now[m])
			}
		}
	}
	return now
}

func (s *Switch) tellStorm(port string, m *flow.Meter, st *storm) {
	before, now := st.dropped, m.Dropped()
	st.dropped = now
	switch {
	case now != before:
		st.quiet = 0
		if !st.raging {
			st.raging, st.before = true, before
			s.events.Publish("port.storm", port, fmt.Sprintf("sends more than %d %s packets/s; the rest is dropped as %s", m.Rate, m.Kind, m.Kind.Reason()))
		}
	case st.raging:
		if st.quiet++; st.quiet == stormQuiet {
			st.raging, st.quiet = false, 0
			s.events.Publish("port.storm.over", port, fmt.Sprintf("sends no more than %d %s packets/s again; %d were dropped", m.Rate, m.Kind, now-st.before))
		}
	}
}
