package vswitch

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/flow"
	"vswitch/internal/flowspec"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
)

// Flows lists the cached decisions, those of one port or all.
func (s *Switch) Flows(_ context.Context, portName string) ([]api.Flow, error) {
	var only packet.PortID
	if portName != "" {
		e, err := s.endpoint(portName)
		if err != nil {
			return nil, err
		}
		only = e.id
	}
	now := s.path.Now()
	all := s.path.Flows(func(f *flow.Flow) bool { return (only == 0 || f.Key.InPort == only) && f.Valid() })
	name := s.nameOf()
	out := []api.Flow{}
	for worker, flows := range all {
		for i := range flows {
			f := &flows[i]
			out = append(out, api.Flow{
				Worker: worker, InPort: name(f.Key.InPort), Match: flowspec.MatchText(&f.Key, f.L2, name),
				Actions: pipeline.ActionsText(f, name), Packets: f.Packets, Bytes: f.Bytes,
				Idle: int(time.Duration(now - f.LastUsed).Seconds()),
			})
		}
	}
	slices.SortFunc(out, func(a, b api.Flow) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), strings.Compare(a.Match, b.Match))
	})
	return out, nil
}

// FlushFlows forgets all cached decisions and returns how many there were.
func (s *Switch) FlushFlows(context.Context) (int, error) { return s.path.FlushFlows(), nil }

// nameOf returns a function that names ports.
func (s *Switch) nameOf() func(packet.PortID) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make(map[packet.PortID]string, len(s.byID))
	for id, e := range s.byID {
		names[id] = e.port.Name
	}
	for id, l := range s.legs {
		names[id] = l.name
	}
	return func(id packet.PortID) string {
		if n, ok := names[id]; ok {
			return n
		}
		return fmt.Sprintf("port%d", id.Slot())
	}
}

// Show returns everything at a glance.
func (s *Switch) Show(ctx context.Context) (api.Show, error) {
	var sh api.Show
	var err error
	if sh.Daemon, err = s.Daemon(ctx); err != nil {
		return sh, err
	}
	if sh.Networks, err = s.Networks(ctx); err != nil {
		return sh, err
	}
	if sh.Ports, err = s.Ports(ctx); err != nil {
		return sh, err
	}
	sh.Uplinks, err = s.Uplinks(ctx)
	return sh, err
}

// Daemon describes the daemon and the kernel features in use.
func (s *Switch) Daemon(context.Context) (api.Daemon, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return api.Daemon{}, fmt.Errorf("uname: %w", err)
	}
	on := func(b bool) string { return map[bool]string{true: "on", false: "off"}[b] }
	spin := "off"
	if s.cfg.MaxSpin >= 0 {
		spin = s.cfg.MaxSpin.String()
	}
	limits := s.cfg.Limits.WithDefaults()
	left, limit, err := s.filesLeft()
	if err != nil {
		return api.Daemon{}, err
	}
	lost := uint64(0)
	if s.cfg.LogLost != nil {
		lost = s.cfg.LogLost()
	}
	return api.Daemon{
		LogLost: lost, SetAside: s.setAside(), MaxFiles: limit, MorePorts: left,
		Version: Version, APIVersion: api.Version, Go: runtime.Version(), Kernel: unix.ByteSliceToString(u.Release[:]),
		PID: os.Getpid(), Started: s.started, StateDir: s.cfg.StateDir, Workers: s.path.Workers(), FDStore: s.fds.Kind(),
		Features: s.features(), HostPort: s.describeHost(),
		Options: map[string]string{
			"flow-cache": on(!s.cfg.NoCache), "coalesce": on(!s.cfg.NoCoalesce), "spin": spin, "keep-awake": on(s.cfg.KeepAwake), "move-slow": on(!s.cfg.NoMove),
			"max-connections": strconv.Itoa(limits.Connections), "max-network-connections": strconv.Itoa(limits.PerNetwork),
			"nat-timeout": s.cfg.Timeouts.String(),
		},
	}, nil
}

// setAside lists the records of the state that make no sense.
func (s *Switch) setAside() (list []string) {
	for _, d := range s.store.Damaged() {
		list = append(list, d.Key+": "+d.Reason)
	}
	return list
}

// features says which rung of what the kernel may or may not have is in use, as far as a port has tried it.
func (s *Switch) features() map[string]string {
	f := make(map[string]string)
	for _, e := range s.endpoints() {
		if e.dev == nil {
			continue
		}
		f[e.dev.kind+"-offloads"] = offloadText(e.dev.offload)
		if e.dev.drop != "" {
			f["veth-drop"] = e.dev.drop
		}
	}
	return f
}

func macString(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }
